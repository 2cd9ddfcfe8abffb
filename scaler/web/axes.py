"""Where a time and a value lie in a picture, and the lines that say so."""

from __future__ import annotations

from datetime import datetime, timedelta
from html import escape
from zoneinfo import ZoneInfo

from msgspec import Struct

STEPS_S = (300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400, 7 * 86_400)
LABEL_PX = 90.0  # between two times on the axis


class Frame(Struct, frozen=True, kw_only=True):
    """One panel: what span of time and of values it shows, and where."""

    since: float
    until: float
    most: float
    top: float
    height: float
    left: float
    right: float

    def x(self, at: float) -> float:
        return self.left + (self.right - self.left) * (at - self.since) / (self.until - self.since)

    def y(self, value: float) -> float:
        return self.top + self.height * (1 - value / self.most)


def hours(frame: Frame, zone: ZoneInfo, top: float, bottom: float) -> list[str]:
    """Upright lines at whole times of the service's own time zone."""
    span_s, room = frame.until - frame.since, max(2.0, (frame.right - frame.left) / LABEL_PX)
    step_s = next((s for s in STEPS_S if span_s / s <= room), STEPS_S[-1])
    first = datetime.fromtimestamp(frame.since, zone).replace(hour=0, minute=0, second=0, microsecond=0)
    found = []
    moment = first
    for i in range(1, 2000):
        at = moment.timestamp()
        if at > frame.until:
            break
        if at >= frame.since:
            x = frame.x(at)
            found.append(f'<path class="grid" d="M{x:.1f},{top:g}V{bottom:g}"/>')
            found.append(text(x, bottom + 16, moment.strftime("%a %d %b" if step_s >= 86_400 else "%H:%M"), "middle"))
        # Wall-clock steps: after a change to summer time, 06:00 is still 06:00.
        moment = (first.replace(tzinfo=None) + timedelta(seconds=i * step_s)).replace(tzinfo=zone)
    return found


def scale(frame: Frame, what: str, *, whole: bool = False) -> list[str]:
    """Level lines with their values, and what they count."""
    found = [text(frame.left, frame.top - 8, what)]
    for share in (0.0, 0.5, 1.0):
        value = frame.most * share
        if whole and value != int(value):
            continue
        y = frame.y(value)
        found.append(f'<path class="grid" d="M{frame.left:g},{y:.1f}H{frame.right:g}"/>')
        found.append(text(frame.left - 6, y + 4, f"{value:g}", "end"))
    return found


def text(x: float, y: float, words: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'
