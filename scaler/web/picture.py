"""The picture of a service: load above, replicas below, with schedule and pins behind them, as SVG.

No styles and no scripts in it: classes are coloured by the page, so that light and dark are the page's business.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from html import escape
from zoneinfo import ZoneInfo

from msgspec import Struct

from scaler.web.history import Point

WIDTH, LEFT, RIGHT = 960.0, 44.0, 10.0
LOAD_TOP, LOAD_HEIGHT = 22.0, 110.0
FLEET_TOP, FLEET_HEIGHT = 164.0, 130.0
HEIGHT = FLEET_TOP + FLEET_HEIGHT + 26.0
STEPS_S = (300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400)

Value = Callable[[Point], float | None]


class Frame(Struct, frozen=True, kw_only=True):
    """One panel: what span of time and of values it shows, and where."""

    since: float
    until: float
    most: float
    top: float
    height: float

    def x(self, at: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (at - self.since) / (self.until - self.since)

    def y(self, value: float) -> float:
        return self.top + self.height * (1 - value / self.most)


def picture(points: Sequence[Point], since: float, until: float, *, zone: ZoneInfo, name: str, bound: int) -> str:
    """The SVG of equally wide points; ``bound`` is the configured max."""
    load_most = _round_up(max((p.arrivals_per_s or 0 for p in points), default=0))
    busy_most = _round_up(max(((p.in_flight or 0) + (p.queued or 0) for p in points), default=0))
    fleet_most = max(1, min(bound, 2 + max((_total(p) or 0 for p in points), default=0)), _tallest(points))
    load = Frame(since=since, until=until, most=load_most, top=LOAD_TOP, height=LOAD_HEIGHT)
    busy = Frame(since=since, until=until, most=busy_most, top=LOAD_TOP, height=LOAD_HEIGHT)
    fleet = Frame(since=since, until=until, most=fleet_most, top=FLEET_TOP, height=FLEET_HEIGHT)
    parts = [
        *_spans(points, fleet, lambda p: p.off, "off"),
        *_spans(points, fleet, lambda p: p.pin_max is not None, "pin"),
        *_clock(fleet, zone),
        *_scale(load, "requests a second"),
        *_scale(fleet, "replicas", whole=True),
        _area(points, load, lambda p: p.arrivals_per_s, "load"),
        _line(points, busy, lambda p: p.in_flight, "busy"),
        _line(points, busy, lambda p: p.queued, "queued"),
        _area(points, fleet, _total, "starting"),
        _area(points, fleet, lambda p: p.ready, "ready"),
        _line(points, fleet, lambda p: p.desired, "desired", stepped=True),
        _text(WIDTH - RIGHT, LOAD_TOP - 8, f"in flight, queued (0 to {busy_most:g})", "end"),
    ]
    label = escape(f"{name}: {_told(points)}", quote=True)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH:g} {HEIGHT:g}" role="img" aria-label="{label}" '
        f'data-since="{since:.3f}" data-until="{until:.3f}" data-left="{LEFT:g}" data-right="{WIDTH - RIGHT:g}">'
        + "".join(parts)
        + "</svg>"
    )


def _told(points: Sequence[Point]) -> str:
    """The picture in words, for those who do not see it."""
    loads = [p.arrivals_per_s for p in points if p.arrivals_per_s is not None]
    fleet = [p.ready for p in points if p.ready is not None]
    if not fleet:
        return "nothing is recorded in this span"
    load = f"requests a second up to {max(loads):.1f}, " if loads else ""
    return f"{load}ready replicas from {min(fleet)} to {max(fleet)}, now {fleet[-1]}"


def _total(p: Point) -> float | None:
    return None if p.ready is None else p.ready + (p.starting or 0)


def _tallest(points: Sequence[Point]) -> int:
    return max((max(p.desired or 0, (p.ready or 0) + (p.starting or 0)) for p in points), default=1)


def _area(points: Sequence[Point], frame: Frame, value: Value, kind: str) -> str:
    """Filled, with a gap where nothing is known."""
    width = (frame.until - frame.since) / max(1, len(points))
    d = []
    for run in _runs(points, value):
        d.append(f"M{frame.x(run[0][0]):.1f},{frame.y(0):.1f}")
        d += [f"V{frame.y(v):.1f}H{frame.x(at + width):.1f}" for at, v in run]
        d.append(f"V{frame.y(0):.1f}Z")
    return f'<path class="area {kind}" d="{"".join(d)}"/>' if d else ""


def _line(points: Sequence[Point], frame: Frame, value: Value, kind: str, *, stepped: bool = False) -> str:
    width = (frame.until - frame.since) / max(1, len(points))
    d = []
    for run in _runs(points, value):
        at, v = run[0]
        d.append(f"M{frame.x(at):.1f},{frame.y(v):.1f}")
        if stepped:
            d += [f"V{frame.y(v):.1f}H{frame.x(at + width):.1f}" for at, v in run]
        else:
            d += [f"L{frame.x(at + width / 2):.1f},{frame.y(v):.1f}" for at, v in run]
    return f'<path class="line {kind}" d="{"".join(d)}"/>' if d else ""


def _runs(points: Sequence[Point], value: Value) -> list[list[tuple[float, float]]]:
    """Stretches in which the value is known."""
    runs: list[list[tuple[float, float]]] = [[]]
    for p in points:
        v = value(p)
        if v is None:
            runs.append([])
        else:
            runs[-1].append((p.at, v))
    return [run for run in runs if run]


def _spans(points: Sequence[Point], frame: Frame, holds: Callable[[Point], bool], kind: str) -> list[str]:
    """What was in force, as a band behind both panels."""
    width = (frame.until - frame.since) / max(1, len(points))
    bands = []
    for run in _runs(points, lambda p: 1.0 if holds(p) else None):
        x0, x1 = frame.x(run[0][0]), frame.x(run[-1][0] + width)
        top = LOAD_TOP if kind == "off" else FLEET_TOP
        height = FLEET_TOP + FLEET_HEIGHT - top
        title = "off" if kind == "off" else "pinned"
        bands.append(
            f'<rect class="band {kind}" x="{x0:.1f}" y="{top:g}" width="{x1 - x0:.1f}" height="{height:g}">'
            f"<title>{title}</title></rect>"
        )
        if kind == "pin":
            bands.append(_text(x0 + 3, FLEET_TOP + 11, "pinned"))
    return bands


def _clock(frame: Frame, zone: ZoneInfo) -> list[str]:
    """Upright lines at whole times of the service's own time zone."""
    step_s = next((s for s in STEPS_S if (frame.until - frame.since) / s <= 8), STEPS_S[-1])
    first = datetime.fromtimestamp(frame.since, zone).replace(hour=0, minute=0, second=0, microsecond=0)
    found = []
    moment = first
    bottom = FLEET_TOP + FLEET_HEIGHT
    for i in range(1, 2000):
        at = moment.timestamp()
        if at > frame.until:
            break
        if at >= frame.since:
            x = frame.x(at)
            found.append(f'<path class="grid" d="M{x:.1f},{LOAD_TOP:g}V{bottom:g}"/>')
            text = moment.strftime("%a %d %b" if step_s >= 86_400 else "%H:%M")
            found.append(_text(x, bottom + 16, text, "middle"))
        # Wall-clock steps: after a change to summer time, 06:00 is still 06:00.
        moment = (first.replace(tzinfo=None) + timedelta(seconds=i * step_s)).replace(tzinfo=zone)
    return found


def _scale(frame: Frame, what: str, *, whole: bool = False) -> list[str]:
    found = [_text(LEFT, frame.top - 8, what)]
    for share in (0.0, 0.5, 1.0):
        value = frame.most * share
        if whole and value != int(value):
            continue
        y = frame.y(value)
        found.append(f'<path class="grid" d="M{LEFT:g},{y:.1f}H{WIDTH - RIGHT:g}"/>')
        found.append(_text(LEFT - 6, y + 4, f"{value:g}", "end"))
    return found


def _text(x: float, y: float, text: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _round_up(value: float) -> float:
    """The next number that reads well on a scale: 1, 2, 5, 10 …"""
    step = 1.0
    while True:
        for factor in (1, 2, 5):
            if value <= step * factor:
                return step * factor
        step *= 10
