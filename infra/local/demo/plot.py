"""The picture of a day: load, replicas and decisions, how long requests waited."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

import numpy as np
from matplotlib import pyplot as plt

from infra.local.demo.day import MAX_REPLICAS, SLO_WAIT_S
from infra.local.demo.player import Answer
from infra.local.demo.verdict import Evidence, Summary

INK, FAINT = "#1f2933", "#9aa5b1"
LOAD, READY, STARTING, DESIRED = "#3e7cb1", "#2a9d8f", "#f4a261", "#1f2933"
REFUSED, FAILED, OFF, PIN = "#7b8794", "#d62828", "#e4e7eb", "#fff3c4"
STYLE: Any = {
    "font.size": 10,
    "font.family": "DejaVu Sans",
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#edf0f2",
    "axes.axisbelow": True,
}


def draw(file: Path, seen: Evidence, summary: Summary) -> None:
    """Write the picture of the day as a PNG."""
    with mpl.rc_context(STYLE):
        figure, (load, fleet, wait) = plt.subplots(
            3, 1, figsize=(13, 9), sharex=True, height_ratios=(3, 3.4, 2), layout="constrained"
        )
        for axes in (load, fleet, wait):
            _shade(axes, seen)
        _draw_load(load, seen)
        _draw_fleet(fleet, seen)
        _draw_wait(wait, seen)
        _name_phases(load, seen)
        wait.set_xlabel("seconds since the day began")
        wait.set_xlim(0, max(s.at for s in seen.samples) - seen.day.starts_at if seen.samples else 1)
        figure.suptitle(_headline(seen, summary), x=0.012, ha="left", fontsize=13, fontweight="bold")
        figure.savefig(file, dpi=120)
        plt.close(figure)


def _headline(seen: Evidence, summary: Summary) -> str:
    woke = ", ".join(f"{seconds:.1f} s" for seconds in summary.woke_from_zero_s) or "never"
    return (
        f"{seen.day.title}: {summary.requests} requests, {summary.failed} failed, "
        f"{summary.refused_off_hours} refused off-hours, up to {summary.max_ready} replicas, woke from zero in {woke}"
    )


def _shade(axes: Any, seen: Evidence) -> None:
    """Off-hours grey, the pin yellow, on every panel."""
    for phase, colour in ((seen.day.off, OFF), (seen.day.phase("pin"), PIN)):
        axes.axvspan(phase.start - seen.day.starts_at, phase.end - seen.day.starts_at, color=colour, lw=0, zorder=0)


def _name_phases(axes: Any, seen: Evidence) -> None:
    for phase in seen.day.phases:
        middle = (phase.start + phase.end) / 2 - seen.day.starts_at
        axes.annotate(
            phase.name, (middle, 1.0), xycoords=("data", "axes fraction"), xytext=(0, 4),
            textcoords="offset points", ha="center", va="bottom", fontsize=9, color=FAINT,
        )  # fmt: skip


def _per_second(answers: Sequence[Answer], start: float, outcome: str, seconds: int) -> Any:
    counts = np.zeros(seconds)
    for answer in answers:
        second = int(answer.due_at - start)
        if answer.outcome == outcome and 0 <= second < seconds:
            counts[second] += 1
    return counts


def _draw_load(axes: Any, seen: Evidence) -> None:
    seconds = int(seen.day.ends_at - seen.day.starts_at) + 1
    middles = np.arange(seconds) + 0.5
    kinds = (
        ("ok", LOAD, "answered"),
        ("refused_off_hours", REFUSED, "refused off-hours"),
        ("failed", FAILED, "failed"),
    )
    below = np.zeros(seconds)
    for outcome, colour, label in kinds:
        counts = _per_second(seen.answers, seen.day.starts_at, outcome, seconds)
        if counts.any():
            axes.bar(middles, counts, bottom=below, width=1.0, color=colour, label=label, lw=0)
        below += counts
    axes.axhline(seen.day.requests_per_second, color=FAINT, lw=1, ls="--", label="what one replica carries")
    axes.set_ylabel("requests/s")
    axes.set_ylim(0, 1.25 * max(*below, seen.day.requests_per_second))  # room for the legend
    axes.legend(loc="upper left", frameon=False, ncols=4, fontsize=9)


def _draw_fleet(axes: Any, seen: Evidence) -> None:
    at = [sample.at - seen.day.starts_at for sample in seen.samples]
    ready = np.array([sample.ready for sample in seen.samples])
    starting = np.array([sample.starting for sample in seen.samples])
    leaving = np.array([sample.draining for sample in seen.samples])
    step: dict[str, Any] = {"step": "post", "lw": 0}
    axes.fill_between(at, 0, ready, color=READY, alpha=0.85, label="ready", **step)
    axes.fill_between(at, ready, ready + starting, color=STARTING, alpha=0.75, label="starting", **step)
    top = ready + starting
    axes.fill_between(at, top, top + leaving, facecolor="none", edgecolor=FAINT, hatch="////", label="draining", **step)
    turns = [turn for turn in seen.turns if at and 0 <= turn.at - seen.day.starts_at <= at[-1]]
    times = [turn.at - seen.day.starts_at for turn in turns]
    axes.step(times, [turn.desired for turn in turns], where="post", color=DESIRED, lw=1.6, label="desired")
    for turn in turns:
        if turn.cause == "wake":
            axes.plot(turn.at - seen.day.starts_at, 0, marker="^", color=FAILED, ms=7, clip_on=False)
    axes.plot([], [], marker="^", color=FAILED, ls="", ms=7, label="woken by a request")
    axes.axhline(MAX_REPLICAS, color=FAINT, lw=1, ls="--")
    axes.annotate("max", (0, MAX_REPLICAS), xytext=(4, -12), textcoords="offset points", color=FAINT, fontsize=9)
    axes.set_ylim(0, MAX_REPLICAS + 0.9)
    axes.set_yticks(range(MAX_REPLICAS + 1))
    axes.set_ylabel("replicas")
    axes.legend(loc="upper left", frameon=False, ncols=5, fontsize=9)


def _draw_wait(axes: Any, seen: Evidence) -> None:
    waits: dict[int, list[float]] = defaultdict(list)
    for answer in seen.answers:
        if answer.outcome == "ok":
            waits[int(answer.due_at - seen.day.starts_at)].append(answer.wait_s)
    seconds = sorted(waits)
    if seconds:
        at = np.array(seconds) + 0.5
        axes.plot(at, [np.quantile(waits[s], 0.5) for s in seconds], ".", color=LOAD, ms=4, label="median of a second")
        axes.plot(at, [max(waits[s]) for s in seconds], ".", color=STARTING, ms=5, label="longest of a second")
    axes.axhline(SLO_WAIT_S, color=FAILED, lw=1, ls="--", label=f"late beyond {SLO_WAIT_S:g} s")
    axes.set_yscale("log")
    axes.set_ylim(0.002, 200)
    axes.yaxis.set_major_formatter("{x:g}")
    axes.set_ylabel("wait, s")
    axes.legend(loc="upper left", frameon=False, ncols=3, fontsize=9)
