"""The picture of a replay as SVG: load, replicas of each contender, and who waited too long."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np

from scaler.replay.plant import Floats
from scaler.replay.study import Played, Setting

WIDTH, LEFT, RIGHT, COLUMNS = 960.0, 56.0, 16.0, 452
PANELS = ((48.0, 90.0), (176.0, 190.0), (404.0, 90.0))  # (top, height) of load, replicas, late
COLOURS = ("#1f6f8b", "#d1495b", "#edae49", "#66a182", "#8d6a9f", "#5b5b5b", "#b5838d", "#2e4057")
INK, FAINT, LOAD = "#1f2933", "#d9dee3", "#9db4c0"
LINE_PX = 16.0
WHOLE_STEPS_S = (60, 300, 600, 1800, 3600, 10_800, 21_600, 43_200, 86_400, 172_800, 604_800)


def picture(setting: Setting, played: Sequence[Played], title: str) -> str:
    """An SVG that stands by itself."""
    seconds = len(setting.arrivals)
    load = _binned(np.array(setting.arrivals))
    fleets = [_binned(p.course.billed) for p in played]
    late = [_binned(p.course.late + p.course.lost) for p in played]
    height = PANELS[-1][0] + PANELS[-1][1] + 34.0 + LINE_PX * len(played)
    parts = [
        _text(LEFT, 20, title, size=14),
        *_frame(0, float(load.max()), "requests/s"),
        *_frame(1, max(float(f.max()) for f in fleets), "replicas billed"),
        *_frame(2, max(float(x.max()) for x in late), "late or lost/s"),
        *_clock(seconds),
        _area(load, 0, float(load.max()), LOAD),
    ]
    for i, p in enumerate(played):
        colour = COLOURS[i % len(COLOURS)]
        parts.append(_steps(fleets[i], 1, max(float(f.max()) for f in fleets), colour))
        parts.append(_steps(late[i], 2, max(float(x.max()) for x in late), colour))
        y = PANELS[-1][0] + PANELS[-1][1] + 40.0 + LINE_PX * i
        parts.append(f'<path d="M{LEFT:g},{y - 4:g}h22" stroke="{colour}" stroke-width="3"/>')
        parts.append(_text(LEFT + 30, y, _legend(p)))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH:g} {height:g}" role="img" '
        f'aria-label="{escape(title, quote=True)}" font-family="sans-serif" font-size="12" fill="{INK}">'
        f'<rect width="{WIDTH:g}" height="{height:g}" fill="#ffffff"/>' + "".join(parts) + "</svg>\n"
    )


def _legend(p: Played) -> str:
    s = p.score
    return (
        f"{s.name}: {s.replica_hours:.1f} replica hours, {s.late_share:.2%} late or lost, "
        f"{s.cold_starts} cold starts, economic cost {s.cost:.1f}"
    )


def _binned(values: Floats) -> Floats:
    """Means of at most ``COLUMNS`` stretches of equal length."""
    edges = np.unique(np.linspace(0, len(values), min(COLUMNS, len(values)) + 1).round().astype(int))
    means: Floats = np.add.reduceat(values, edges[:-1]) / np.diff(edges)
    return means


def _x(share: float) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * share


def _y(panel: int, share: float) -> float:
    top, height = PANELS[panel]
    return top + height * (1 - share)


def _frame(panel: int, most: float, what: str) -> list[str]:
    found = [_text(LEFT, PANELS[panel][0] - 8, what)]
    for share in (0.0, 0.5, 1.0):
        y = _y(panel, share)
        found.append(f'<path d="M{LEFT:g},{y:.1f}H{WIDTH - RIGHT:g}" stroke="{FAINT}"/>')
        found.append(_text(LEFT - 6, y + 4, f"{most * share:.3g}", anchor="end"))
    return found


def _clock(seconds: int) -> list[str]:
    step_s = next((s for s in WHOLE_STEPS_S if seconds / s <= 12), WHOLE_STEPS_S[-1])
    unit_s, unit = next(u for u in ((86_400, "d"), (3600, "h"), (60, "min")) if step_s % u[0] == 0)
    top, bottom = PANELS[0][0], PANELS[-1][0] + PANELS[-1][1]
    found = []
    for at in range(0, seconds + 1, step_s):
        x = _x(at / seconds)
        found.append(f'<path d="M{x:.1f},{top:g}V{bottom:g}" stroke="{FAINT}" stroke-dasharray="2 3"/>')
        found.append(_text(x, bottom + 16, f"{at // unit_s} {unit}", anchor="middle"))
    return found


def _steps(values: Floats, panel: int, most: float, colour: str) -> str:
    d = [f"M{_x(0):.1f},{_y(panel, _share(values[0], most)):.1f}"]
    d += [f"V{_y(panel, _share(v, most)):.1f}H{_x((i + 1) / len(values)):.1f}" for i, v in enumerate(values)]
    return f'<path d="{"".join(d)}" fill="none" stroke="{colour}" stroke-width="1.4"/>'


def _area(values: Floats, panel: int, most: float, colour: str) -> str:
    d = [f"M{_x(0):.1f},{_y(panel, 0):.1f}"]
    d += [f"V{_y(panel, _share(v, most)):.1f}H{_x((i + 1) / len(values)):.1f}" for i, v in enumerate(values)]
    return f'<path d="{"".join(d)}V{_y(panel, 0):.1f}Z" fill="{colour}"/>'


def _share(value: float, most: float) -> float:
    return value / most if most > 0 else 0.0


def _text(x: float, y: float, text: str, *, anchor: str = "start", size: int = 12) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}">{escape(text)}</text>'
