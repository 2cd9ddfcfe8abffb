"""What a day is judged by: every expectation is told apart by a day that breaks it."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from infra.local.demo.day import PINNED, SLO_WAIT_S, Day, built_in_day
from infra.local.demo.player import Answer
from infra.local.demo.verdict import Evidence, Expectation, expectations, summarize
from infra.local.demo.watch import Sample, Turn

DAY = built_in_day(1_800_000_000.0)
WAKE_S = 6.0
KEYS = [
    *("requests", "ok", "failed", "refused_off_hours", "late", "held_at_zero", "woke_from_zero_s", "max_ready"),
    *("creates", "deletes", "groups_left", "pin_honoured", "off_hours_honoured", "seconds"),
]


def ready_at(day: Day, at: float) -> int:
    """A fleet as it should be."""
    if at < day.starts_at + WAKE_S or day.off.start + 5 <= at < day.off.end + WAKE_S:
        return 0
    if day.name_at(at) == "burst":
        return 4
    if day.phase("pin").start + 5 <= at < day.phase("pin").end + 3:
        return PINNED
    return 0 if at > day.ends_at + 10 else 1


def desired_at(day: Day, at: float) -> int:
    if day.off.start <= at < day.off.end or at > day.ends_at + 8:
        return 0
    pin = day.phase("pin")
    return PINNED if pin.start + 1 <= at < pin.end else max(ready_at(day, at), 1)


def answer_of(day: Day, due_at: float) -> Answer:
    if day.off.start + 1 <= due_at < day.off.end:
        return Answer(due_at=due_at, wait_s=0.01, outcome="refused_off_hours")
    woke = next((at for at in (day.starts_at, day.off.end) if at <= due_at < at + WAKE_S), None)
    wait_s = woke + WAKE_S - due_at if woke is not None else 0.02
    return Answer(due_at=due_at, wait_s=wait_s, outcome="ok")


def good_day() -> Evidence:
    day = DAY
    answers = [answer_of(day, day.starts_at + at) for at in day.arrivals_s]
    seconds = [day.starts_at + at / 2 for at in range(int(2 * (day.ends_at - day.starts_at + 14)))]
    samples = [
        Sample(
            at=at,
            ready=ready_at(day, at),
            starting=0,
            draining=0,
            desired=desired_at(day, at),
            groups=ready_at(day, at),
        )
        for at in seconds
    ]
    pin = day.phase("pin")
    turns = [
        Turn(
            at=at, cause="timer", desired=desired_at(day, at), because="",
            limited_by="pin" if pin.start <= at < pin.end else None,
        )
        for at in seconds[::2]
    ]  # fmt: skip
    firsts = [
        min(a.due_at for a in answers if a.outcome == "ok" and a.due_at >= at) for at in (day.starts_at, day.off.end)
    ]
    turns += [Turn(at=at + 0.1, cause="wake", desired=1, limited_by=None, because="") for at in firsts]
    return Evidence(
        day=day, answers=answers, sent=len(answers), samples=samples, turns=sorted(turns, key=lambda turn: turn.at),
        groups_seen=9, groups_left=0, held_at_zero=20, restarts=0, processes_left=(), seconds=170.0,
    )  # fmt: skip


def failed(seen: Evidence) -> list[str]:
    return [check.what for check in expectations(seen) if not check.held]


def change(seen: Evidence, **changes: Any) -> Evidence:
    return msgspec.structs.replace(seen, **changes)


def test_a_good_day_holds_everything() -> None:
    seen = good_day()
    assert failed(seen) == []
    summary = summarize(seen)
    assert summary.ok + summary.failed + summary.refused_off_hours == summary.requests == len(DAY.arrivals_s)
    assert summary.woke_from_zero_s == pytest.approx([WAKE_S, WAKE_S], abs=1.0)
    assert (summary.max_ready, summary.creates, summary.deletes, summary.groups_left) == (4, 9, 9, 0)
    assert summary.pin_honoured
    assert summary.off_hours_honoured


def test_the_summary_has_exactly_these_keys() -> None:
    assert list(msgspec.to_builtins(summarize(good_day()))) == KEYS


def test_late_is_answered_but_waited_longer_than_promised() -> None:
    seen = good_day()
    late = sum(answer.wait_s > SLO_WAIT_S for answer in seen.answers)
    assert summarize(seen).late == late > 0


def with_answers(seen: Evidence, of: Callable[[Answer], Answer]) -> Evidence:
    return change(seen, answers=[of(answer) for answer in seen.answers])


def one_failed(seen: Evidence) -> Evidence:
    bad = Answer(due_at=seen.answers[-1].due_at, wait_s=0.1, outcome="failed", why="HTTP 500")
    return change(seen, answers=[*seen.answers[:-1], bad])


def one_lost(seen: Evidence) -> Evidence:
    return change(seen, answers=seen.answers[:-1])


def slow_wake(seen: Evidence) -> Evidence:
    return change(seen, turns=[turn for turn in seen.turns if turn.cause != "wake"])


def nothing_held(seen: Evidence) -> Evidence:
    return change(seen, held_at_zero=0)


def never_grew(seen: Evidence) -> Evidence:
    return with_samples(seen, lambda s: msgspec.structs.replace(s, ready=min(s.ready, 1)))


def with_samples(seen: Evidence, of: Callable[[Sample], Sample]) -> Evidence:
    return change(seen, samples=[of(sample) for sample in seen.samples])


def too_many(seen: Evidence) -> Evidence:
    return with_samples(seen, lambda s: msgspec.structs.replace(s, starting=2 if s.ready == 4 else 0))


def never_shrank(seen: Evidence) -> Evidence:
    end = DAY.off.start
    return with_samples(
        seen, lambda s: msgspec.structs.replace(s, ready=4) if DAY.phase("burst").end <= s.at < end else s
    )


def ran_at_night(seen: Evidence) -> Evidence:
    return with_samples(
        seen, lambda s: msgspec.structs.replace(s, groups=1) if DAY.off.start < s.at < DAY.off.end else s
    )


def answered_at_night(seen: Evidence) -> Evidence:
    return with_answers(
        seen,
        lambda a: msgspec.structs.replace(a, outcome="ok") if DAY.off.start + 10 < a.due_at < DAY.off.start + 20 else a,
    )


def ignored_pin(seen: Evidence) -> Evidence:
    pin = DAY.phase("pin")
    return change(
        seen,
        turns=[msgspec.structs.replace(t, desired=1) if pin.start < t.at < pin.end else t for t in seen.turns],
    )


def more_than_pinned(seen: Evidence) -> Evidence:
    pin = DAY.phase("pin")
    inside = pin.start + 0.7 * (pin.end - pin.start)
    return with_samples(seen, lambda s: msgspec.structs.replace(s, ready=PINNED + 1) if inside < s.at < pin.end else s)


def endless_pin(seen: Evidence) -> Evidence:
    end = DAY.phase("pin").end
    return change(
        seen,
        turns=[msgspec.structs.replace(t, desired=PINNED, limited_by="pin") if t.at >= end else t for t in seen.turns],
    )


def group_left(seen: Evidence) -> Evidence:
    return change(seen, groups_left=1)


def part_died(seen: Evidence) -> Evidence:
    return change(seen, restarts=1)


def process_left(seen: Evidence) -> Evidence:
    return change(seen, processes_left=["python (process 7)"])


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (one_failed, "every request got the right answer"),
        (one_lost, "every request got the right answer"),
        (nothing_held, "requests at zero replicas were held"),
        (slow_wake, "the first request itself started the scale-up"),
        (never_grew, "the fleet grew with the load"),
        (too_many, "never more than 5 replicas"),
        (never_shrank, "the fleet shrank with the load"),
        (ran_at_night, "off-hours: none wanted, and none left"),
        (answered_at_night, "off-hours: every request was refused"),
        (ignored_pin, f"the pin of {PINNED} was kept"),
        (more_than_pinned, f"the pin of {PINNED} was kept"),
        (endless_pin, "the pin ended by itself"),
        (group_left, "no container group was left"),
        (part_died, "no part of the system died"),
        (process_left, "no process was left"),
    ],
)
def test_a_day_that_went_wrong_fails_that_expectation(spoil: Callable[[Evidence], Evidence], words: str) -> None:
    missed = failed(spoil(good_day()))
    assert any(what.startswith(words) for what in missed), missed


def test_a_day_of_which_nothing_is_known_holds_nothing_that_matters() -> None:
    blind = change(good_day(), answers=[], samples=[], turns=[], groups_seen=0, held_at_zero=0)
    held = [check for check in expectations(blind) if check.held]
    assert [check.what for check in held] == ["no part of the system died", "no process was left"]
    assert all(isinstance(check, Expectation) for check in held)
