"""The picture of a service: load above, replicas below, what was in force behind them, what comes right of now.

No styles and no scripts in it: classes are coloured by the page, so that light and dark are the page's business.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from zoneinfo import ZoneInfo

from msgspec import Struct

from scaler.foresight.band import Foresight
from scaler.model import Pin
from scaler.past import Point
from scaler.schedule import Period
from scaler.web.axes import Frame, hours, scale, text

LOAD_TOP, LOAD_HEIGHT, GAP, FLEET_HEIGHT, BELOW = 22.0, 120.0, 34.0, 140.0, 26.0
FLEET_TOP = LOAD_TOP + LOAD_HEIGHT + GAP
BOTTOM = FLEET_TOP + FLEET_HEIGHT
HEIGHT = BOTTOM + BELOW

WIDE_PX = 600.0  # narrower pictures leave out what would run into each other

Value = Callable[[Point], float | None]


class Shown(Struct, frozen=True, kw_only=True):
    """All that one picture shows. ``points`` are equally wide from ``since`` to ``now``; ``until`` is as far as the
    calendar is drawn; ``bound`` is the configured max."""

    name: str
    points: Sequence[Point]
    since: float
    now: float
    until: float
    zone: ZoneInfo
    bound: int
    periods: Sequence[Period] = ()
    pin: Pin | None = None
    foresight: Foresight | None = None
    width: float = 960.0

    @property
    def step_s(self) -> float:
        return (self.now - self.since) / max(1, len(self.points))


def picture(shown: Shown) -> str:
    """The SVG."""
    load, busy, fleet = _frames(shown)
    label = escape(f"{shown.name}: {_told(shown.points)}", quote=True)
    parts = [
        *_calendar(shown, fleet),
        *_pins(shown, fleet),
        *hours(fleet, shown.zone, LOAD_TOP, BOTTOM),
        *scale(load, "requests a second"),
        *scale(fleet, "replicas", whole=True),
        text(fleet.right, FLEET_TOP - 8, f"times in {shown.zone.key}", "end"),
        *_load(shown, load, busy),
        *_fleet(shown, fleet),
    ]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {shown.width:g} {HEIGHT:g}" role="img" '
        f'aria-label="{label}" data-since="{shown.since:.3f}" data-now="{shown.now:.3f}" '
        f'data-until="{shown.until:.3f}" data-left="{load.left:g}" data-right="{load.right:g}">{"".join(parts)}</svg>'
    )


def _frames(shown: Shown) -> tuple[Frame, Frame, Frame]:
    """The panels of load, of what is in flight (same place, its own scale), and of replicas."""
    band = [b.high for b in shown.foresight.bins if b.at <= shown.until] if shown.foresight else []
    loads = [p.arrivals_per_s or 0.0 for p in shown.points]
    flights = [max(p.in_flight or 0, p.queued or 0) for p in shown.points]
    floors = [p.min for p in shown.periods if p.start < shown.until and p.end > shown.since]
    tallest = max([1, *floors, *(_tall(p) for p in shown.points)])

    def frame(most: float, top: float, height: float) -> Frame:
        return Frame(
            since=shown.since, until=shown.until, most=most, top=top, height=height, left=44.0, right=shown.width - 10.0
        )

    return (
        frame(round_up(max([0.0, *loads, *band])), LOAD_TOP, LOAD_HEIGHT),
        frame(round_up(max([0.0, *flights])), LOAD_TOP, LOAD_HEIGHT),
        frame(max(tallest, min(shown.bound, tallest + 1)), FLEET_TOP, FLEET_HEIGHT),
    )


def _tall(p: Point) -> int:
    return max(p.desired or 0, (p.ready or 0) + (p.starting or 0) + (p.draining or 0))


def _told(points: Sequence[Point]) -> str:
    """The picture in words, for those who do not see it."""
    loads = [p.arrivals_per_s for p in points if p.arrivals_per_s is not None]
    fleet = [p.ready for p in points if p.ready is not None]
    if not fleet:
        return "nothing is recorded in this span"
    load = f"requests a second up to {max(loads):.1f}, " if loads else ""
    return f"{load}ready replicas from {min(fleet)} to {max(fleet)}, now {fleet[-1]}"


# -- the panels


def _load(shown: Shown, load: Frame, busy: Frame) -> list[str]:
    found = [
        _area(shown, load, lambda p: p.arrivals_per_s, "load"),
        _line(shown, busy, lambda p: p.in_flight, "busy"),
        _line(shown, busy, lambda p: p.queued, "queued"),
        text(load.left + 110.0, LOAD_TOP - 8, f"in flight, queued (0 to {busy.most:g})"),
    ]
    bins = [b for b in shown.foresight.bins if b.at < shown.until] if shown.foresight else []
    if len(bins) > 1:
        above = [f"{load.x(b.at):.1f},{load.y(b.high):.1f}" for b in bins]
        below = [f"{load.x(b.at):.1f},{load.y(b.low):.1f}" for b in reversed(bins)]
        middle = [f"{load.x(b.at):.1f},{load.y(b.mid):.1f}" for b in bins]
        found.append(f'<path class="area expected" d="M{"L".join([*above, *below])}Z"/>')
        found.append(f'<path class="line expected" d="M{"L".join(middle)}"/>')
    return found


def _fleet(shown: Shown, fleet: Frame) -> list[str]:
    """Ready below, starting on it, draining on that: together they are what is billed."""

    def upto(*names: str) -> Value:
        def total(p: Point) -> float | None:
            return None if p.ready is None else sum(getattr(p, name) or 0 for name in names)

        return total

    return [
        _area(shown, fleet, upto("ready", "starting", "draining"), "draining"),
        _area(shown, fleet, upto("ready", "starting"), "starting"),
        _area(shown, fleet, upto("ready"), "ready"),
        _floors(shown, fleet),
        _line(shown, fleet, lambda p: p.desired, "desired", stepped=True),
        *_now(shown, fleet),
    ]


def _now(shown: Shown, fleet: Frame) -> list[str]:
    if shown.until <= shown.now:
        return []
    x = fleet.x(shown.now)
    line = f'<path class="now" d="M{x:.1f},{LOAD_TOP:g}V{BOTTOM:g}"/>'
    return [line, text(x, LOAD_TOP - 8, "now", "middle")] if shown.width >= WIDE_PX else [line]


# -- what was and will be in force


def _calendar(shown: Shown, fleet: Frame) -> list[str]:
    """Off hours as a band behind both panels: as recorded up to now, as the calendar has it from now on."""
    past = [(run[0][0], run[-1][0] + shown.step_s) for run in _runs(shown.points, lambda p: 1.0 if p.off else None)]
    rules_from = max(shown.now, shown.pin.until or shown.until) if shown.pin else shown.now  # a pin opens off hours
    coming = [(max(p.start, rules_from), p.end) for p in shown.periods if p.off]
    spans = [*past, *((a, b) for a, b in coming if a < b)]
    return [_band(fleet, a, min(b, shown.until), LOAD_TOP, "off") for a, b in spans if a < shown.until]


def _floors(shown: Shown, fleet: Frame) -> str:
    """The least that the calendar asks for, as steps."""
    d = []
    for p in shown.periods:
        a, b = max(p.start, shown.since), min(p.end, shown.until)
        if p.min and not p.off and a < b:
            d.append(f"M{fleet.x(a):.1f},{fleet.y(p.min):.1f}H{fleet.x(b):.1f}")
    return f'<path class="line floor" d="{"".join(d)}"/>' if d else ""


def _pins(shown: Shown, fleet: Frame) -> list[str]:
    """Pins as bands behind the replicas: as recorded, and the one in force until it ends."""
    runs = _runs(shown.points, lambda p: float(p.pin_max) if p.pin_max is not None else None)
    spans = [(run[0][0], run[-1][0] + shown.step_s) for run in runs]
    if shown.pin is not None and shown.until > shown.now:
        end = min(shown.pin.until or shown.until, shown.until)
        held = bool(spans) and spans[-1][1] >= shown.now - shown.step_s
        spans = [*spans[:-1], (spans[-1][0], end)] if held else [*spans, (max(shown.pin.since, shown.since), end)]
    return [
        part
        for a, b in spans
        for part in (_band(fleet, a, b, FLEET_TOP, "pin"), text(fleet.x(a) + 3, FLEET_TOP + 11, "pinned"))
    ]


def _band(frame: Frame, start: float, end: float, top: float, kind: str) -> str:
    x0, x1 = frame.x(max(start, frame.since)), frame.x(end)
    title = {"off": "off", "pin": "pinned"}[kind]
    return (
        f'<rect class="band {kind}" x="{x0:.1f}" y="{top:g}" width="{max(0.0, x1 - x0):.1f}" '
        f'height="{BOTTOM - top:g}"><title>{title}</title></rect>'
    )


# -- lines


def _area(shown: Shown, frame: Frame, value: Value, kind: str) -> str:
    """Filled, with a gap where nothing is known."""
    d = []
    for run in _runs(shown.points, value):
        d.append(f"M{frame.x(run[0][0]):.1f},{frame.y(0):.1f}")
        d += _steps(frame, run, shown.step_s)
        d.append(f"V{frame.y(0):.1f}Z")
    return f'<path class="area {kind}" d="{"".join(d)}"/>' if d else ""


def _line(shown: Shown, frame: Frame, value: Value, kind: str, *, stepped: bool = False) -> str:
    d = []
    for run in _runs(shown.points, value):
        at, v = run[0]
        d.append(f"M{frame.x(at):.1f},{frame.y(v):.1f}")
        if stepped:
            d += _steps(frame, run, shown.step_s)
        else:
            d += [f"L{frame.x(at + shown.step_s / 2):.1f},{frame.y(v):.1f}" for at, v in run]
    return f'<path class="line {kind}" d="{"".join(d)}"/>' if d else ""


def _steps(frame: Frame, run: Sequence[tuple[float, float]], step_s: float) -> list[str]:
    """Up or down only where the value changes."""
    d = []
    for i, (at, v) in enumerate(run):
        if i == 0 or v != run[i - 1][1]:
            d.append(f"V{frame.y(v):.1f}")
        if i == len(run) - 1 or run[i + 1][1] != v:
            d.append(f"H{frame.x(at + step_s):.1f}")
    return d


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


def round_up(value: float) -> float:
    """The next number that reads well on a scale: 1, 2, 5, 10 …"""
    step = 1.0
    while True:
        for factor in (1, 2, 5):
            if value <= step * factor:
                return step * factor
        step *= 10
