"""When requests of a day arrive."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.local.demo.arrivals import Stretch, compress, poisson, read_trace
from scaler.errors import BadSetting
from scaler.replay.trace import Trace


def write(folder: Path, text: str | bytes) -> Path:
    file = folder / "trace.csv"
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return file


def trace(*counts: float, width_s: float = 10.0) -> Trace:
    return Trace(
        starts_s=tuple(i * width_s for i in range(len(counts))), widths_s=(width_s,) * len(counts), requests=counts
    )


def test_a_stream_has_the_rate_of_each_stretch() -> None:
    day = (
        Stretch(name="quiet", seconds=100, rate_from=2, rate_to=2),
        Stretch(name="rise", seconds=100, rate_from=0, rate_to=40),
    )
    arrivals = poisson(day, seed=1)
    assert arrivals == sorted(arrivals)
    assert 150 < sum(at < 100 for at in arrivals) < 250
    first, second = (sum(start <= at < start + 50 for at in arrivals) for start in (100, 150))
    assert 400 < first < 600
    assert 1400 < second < 1600


def test_the_same_seed_gives_the_same_day() -> None:
    day = (Stretch(name="quiet", seconds=30, rate_from=5, rate_to=5),)
    assert poisson(day, seed=7) == poisson(day, seed=7) != poisson(day, seed=8)


def test_no_load_is_a_stretch_too() -> None:
    assert poisson((Stretch(name="night", seconds=30, rate_from=0, rate_to=0),), seed=1) == []


def test_a_trace_is_read_with_the_width_of_its_bins(tmp_path: Path) -> None:
    read = read_trace(write(tmp_path, "t_s,requests\n0,13\n10,18\n\n40,0\n"))
    assert read == Trace(starts_s=(0, 10, 40), widths_s=(10, 30, 30), requests=(13, 18, 0))
    assert read.span_s == 70


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "line 1: expected the header `t_s,requests`"),
        ("time,count\n0,1\n", "line 1: expected the header `t_s,requests`"),
        ("t_s,requests\n0,1\n", "expected at least two lines after the header, found 1"),
        ("t_s,requests\n0,1\n1,x\n", "line 3: '1,x'; expected two numbers `t_s,requests`"),
        ("t_s,requests\n0,1\n1,2,3\n", "line 3: '1,2,3'; expected two numbers `t_s,requests`"),
        ("t_s,requests\n0,1\n1,nan\n", "line 3: '1,nan'; expected a time in seconds and a count of 0 or more"),
        ("t_s,requests\n0,1\n1,inf\n", "line 3: '1,inf'; expected a time in seconds and a count of 0 or more"),
        ("t_s,requests\n0,1\nnan,1\n", "line 3: 'nan,1'; expected a time in seconds and a count of 0 or more"),
        ("t_s,requests\n0,1\n1,-1\n", "line 3: '1,-1'; expected a time in seconds and a count of 0 or more"),
        ("t_s,requests\n5,1\n5,2\n", "line 3: t_s is 5 after 5; times must rise"),
        ("t_s,requests\n0,0\n1,0\n", "no request in it; there is nothing to play"),
        (b"\x89PNG\r\n\x1a\n\xff\xfe", "not a text file; expected lines `t_s,requests`"),
    ],
)
def test_a_bad_trace_is_refused_with_file_and_line(tmp_path: Path, text: str | bytes, sentence: str) -> None:
    file = write(tmp_path, text)
    with pytest.raises(BadSetting) as refused:
        read_trace(file)
    assert str(refused.value) == f"{file}: {sentence}"


def test_a_trace_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadSetting, match="No such file or directory; TRACE names a file"):
        read_trace(tmp_path / "none.csv")


def test_compressing_keeps_every_request_and_the_shape() -> None:
    playback = compress(trace(100, 300, 0, 200), play_s=20, peak_rate=1000, seed=1)
    assert (playback.factor, playback.share) == (2.0, 1.0)
    counts = [sum(start <= at < start + 5 for at in playback.arrivals_s) for start in (0, 5, 10, 15)]
    assert counts == [100, 300, 0, 200]


def test_a_short_trace_is_not_stretched() -> None:
    assert compress(trace(3, 5), play_s=90, peak_rate=1000, seed=1).factor == 1.0


def test_what_is_too_fast_is_thinned_evenly_and_said() -> None:
    playback = compress(trace(1000, 3000), play_s=20, peak_rate=30, seed=1)
    assert playback.share == pytest.approx(0.1)
    first = sum(at < 10 for at in playback.arrivals_s)
    assert first == pytest.approx(100, abs=1)
    assert len(playback.arrivals_s) == pytest.approx(400, abs=2)


@given(
    counts=st.lists(st.floats(min_value=0, max_value=1e12), min_size=2, max_size=50),
    gaps=st.lists(st.floats(min_value=1e-3, max_value=1e9), min_size=49, max_size=49),
    play_s=st.floats(min_value=1, max_value=100),
)
def test_whatever_the_trace_it_fits_into_the_time_and_under_the_peak(
    counts: list[float], gaps: list[float], play_s: float
) -> None:
    starts = [sum(gaps[:i]) for i in range(len(counts))]
    widths = [*gaps[: len(counts) - 1], gaps[len(counts) - 2]]
    recorded = Trace(starts_s=tuple(starts), widths_s=tuple(widths), requests=tuple(counts))
    if sum(counts) < 1:
        return
    playback = compress(recorded, play_s, peak_rate=50, seed=3)
    assert playback.factor >= 1
    assert 0 < playback.share <= 1
    assert list(playback.arrivals_s) == sorted(playback.arrivals_s)
    assert all(-1e-6 <= at <= play_s * 1.001 for at in playback.arrivals_s)
    assert len(playback.arrivals_s) <= 50 * (play_s + 2) + len(counts)
