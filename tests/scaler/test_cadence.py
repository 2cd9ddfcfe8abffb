import pytest

from scaler.cadence import limit_s, period_s


@pytest.mark.parametrize(
    ("schedule", "period"),
    [
        ("*/15 * * * * *", 15),
        ("0 * * * * *", 60),
        ("0 */5 * * * *", 300),
        ("0,10 * * * * *", 50),
        ("0-30/10 * * * * *", 30),
        ("5/20 * * * * *", 20),
        ("* * * * * *", 1),
        ("0 0 * * * *", 3600),
        ("0 0 8 * * *", None),
        ("0 * * * * 1-5", None),
        ("x * * * * *", None),
        ("70 * * * * *", None),
        ("60 * * * * *", None),
        ("50-70 * * * * *", None),
        ("0/20 * * * * *", 20),
        ("*/0 * * * * *", None),
        ("* * * * *", None),
    ],
)
def test_a_tick_is_due_as_often_as_its_schedule_says(schedule: str, period: float | None) -> None:
    assert period_s(schedule) == period


def test_a_tick_is_missed_after_four_periods_and_never_within_a_minute() -> None:
    assert (limit_s(1), limit_s(15), limit_s(60), limit_s(None)) == (60, 60, 240, 300)
