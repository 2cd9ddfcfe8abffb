"""What must hold of a day, what is counted of it, and the summary of both. Pure: everything seen comes in as data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from msgspec import Struct

from infra.local.demo.day import DRAIN_DEADLINE_S, MAX_REPLICAS, PINNED, REFUSAL_GRACE_S, SLO_WAIT_S, Day
from infra.local.demo.player import Answer
from infra.local.demo.watch import Sample, Turn

TICK_GRACE_S = 2.5  # the timer ticks each second and a tick takes some of it
LONGEST_WAKE_S = 30.0
SHOWN_FAILURES = 3


class Evidence(Struct, frozen=True, kw_only=True):
    """Everything that was seen of one day."""

    day: Day
    answers: Sequence[Answer]
    sent: int
    samples: Sequence[Sample]
    turns: Sequence[Turn]
    groups_seen: int
    groups_left: int
    held_at_zero: int
    restarts: int
    processes_left: Sequence[str]
    seconds: float


class Summary(Struct, frozen=True, kw_only=True):
    """``.demo/summary.json``. Counts are whole numbers, ok + failed + refused_off_hours = requests."""

    requests: int
    ok: int
    failed: int
    refused_off_hours: int
    late: int  # answered, and waited longer than slo_wait_s
    held_at_zero: int
    woke_from_zero_s: list[float]
    max_ready: int
    creates: int
    deletes: int
    groups_left: int
    pin_honoured: bool
    off_hours_honoured: bool
    seconds: float


class Expectation(Struct, frozen=True, kw_only=True):
    """One sentence about the day, whether it held, and the numbers behind it."""

    what: str
    held: bool
    seen: str


def summarize(seen: Evidence) -> Summary:
    """Count the day."""
    outcomes = Counter(answer.outcome for answer in seen.answers)
    return Summary(
        requests=len(seen.answers),
        ok=outcomes["ok"],
        failed=outcomes["failed"],
        refused_off_hours=outcomes["refused_off_hours"],
        late=sum(answer.outcome == "ok" and answer.wait_s > SLO_WAIT_S for answer in seen.answers),
        held_at_zero=seen.held_at_zero,
        woke_from_zero_s=[round(wake.seconds, 2) for wake in wakes(seen)],
        max_ready=max((sample.ready for sample in seen.samples), default=0),
        creates=seen.groups_seen,
        deletes=seen.groups_seen - seen.groups_left,
        groups_left=seen.groups_left,
        pin_honoured=all(check.held for check in pin_checks(seen)),
        off_hours_honoured=all(check.held for check in off_checks(seen)),
        seconds=round(seen.seconds, 1),
    )


def expectations(seen: Evidence) -> list[Expectation]:
    """Everything that must hold, in the order of the day."""
    summary = summarize(seen)
    return [
        _nothing_failed(seen, summary),
        *_wake_checks(seen),
        _burst_check(seen, summary),
        _bounds_check(seen),
        *([] if seen.day.is_recorded else [_fall_check(seen)]),
        *off_checks(seen),
        *pin_checks(seen),
        *_end_checks(seen, summary),
    ]


class Wake(Struct, frozen=True, kw_only=True):
    """A first request at zero replicas (epoch s), and how long until the first answer (s)."""

    asked_at: float
    seconds: float


def wakes(seen: Evidence) -> list[Wake]:
    """Each time that requests met zero replicas and were answered all the same."""
    found = []
    for start, end in zeros(seen.samples, seen.day):
        held = [a for a in seen.answers if a.outcome == "ok" and start <= a.due_at < end <= a.due_at + a.wait_s + 1.5]
        if held:
            first = min(answer.due_at for answer in held)
            answered = min(answer.due_at + answer.wait_s for answer in held)
            found.append(Wake(asked_at=first, seconds=answered - first))
    return found


def zeros(samples: Sequence[Sample], day: Day) -> list[tuple[float, float]]:
    """Spans (epoch s) without a ready replica and with open doors, each ended by the first ready one."""
    spans: list[tuple[float, float]] = []
    start: float | None = day.starts_at
    for sample in samples:
        if sample.ready and start is not None:
            spans.append((max(start, day.off.end) if start >= day.off.start else start, sample.at))
            start = None
        elif not sample.ready and start is None:
            start = sample.at
    return spans


def _nothing_failed(seen: Evidence, summary: Summary) -> Expectation:
    bad = [answer for answer in seen.answers if answer.outcome == "failed"]
    reasons = "; ".join(why for why, _ in Counter(answer.why[:160] for answer in bad).most_common(SHOWN_FAILURES))
    whole = summary.requests == seen.sent == len(seen.day.arrivals_s)
    counted = f"{summary.ok} of {len(seen.day.arrivals_s)} right, {summary.refused_off_hours} refused off-hours"
    return Expectation(
        what="every request got the right answer, or off-hours a refusal that says when to come back",
        held=not bad and whole,
        seen=f"{counted}, {len(bad)} failed{f': {reasons}' if reasons else ''}",
    )


def _wake_checks(seen: Evidence) -> list[Expectation]:
    woke = wakes(seen)
    took = ", ".join(f"{wake.seconds:.1f} s" for wake in woke) or "none"
    # The hold posts to the wake door: a decision with that cause must follow the first held request at once.
    causes = [turn.at for turn in seen.turns if turn.cause == "wake"]
    prompt = [min((at - wake.asked_at for at in causes if at >= wake.asked_at - 0.2), default=99.0) for wake in woke]
    delays = ", ".join(f"{delay:.2f} s" for delay in prompt) or "none"
    return [
        Expectation(
            what="requests at zero replicas were held and answered: in the morning, and after off-hours",
            held=len(woke) >= 2 and all(wake.seconds <= LONGEST_WAKE_S for wake in woke) and seen.held_at_zero > 0,
            seen=f"woke after {took}; {seen.held_at_zero} requests held",
        ),
        Expectation(
            what="the first request itself started the scale-up, not the next timer",
            held=bool(prompt) and max(prompt) <= 1.0,
            seen=f"a tick by wake {delays} after it",
        ),
    ]


def _burst_check(seen: Evidence, summary: Summary) -> Expectation:
    return Expectation(
        what=f"the fleet grew with the load, to {seen.day.least_at_peak} ready at least",
        held=summary.max_ready >= seen.day.least_at_peak,
        seen=f"{summary.max_ready} ready at most",
    )


def _bounds_check(seen: Evidence) -> Expectation:
    most = max((sample.ready + sample.starting for sample in seen.samples), default=0)
    return Expectation(
        what=f"never more than {MAX_REPLICAS} replicas, those that start included",
        held=0 < most <= MAX_REPLICAS,
        seen=f"{most} at most",
    )


def _fall_check(seen: Evidence) -> Expectation:
    working = [sample for sample in seen.samples if sample.at < seen.day.off.start]
    most = max((sample.ready for sample in working), default=0)
    last = working[-1].ready if working else 0
    return Expectation(
        what="the fleet shrank with the load, before the doors closed",
        held=0 < last < most,
        seen=f"{last} ready at the end of working hours, {most} at most",
    )


def off_checks(seen: Evidence) -> list[Expectation]:
    """Off-hours: nothing wanted, nothing running, every request told when to come back; and open again in time."""
    off = seen.day.off
    turns = [turn for turn in seen.turns if off.start + TICK_GRACE_S <= turn.at <= off.end - 0.5]
    late = [s for s in seen.samples if off.start + DRAIN_DEADLINE_S + TICK_GRACE_S <= s.at <= off.end - 0.5]
    asked = [a for a in seen.answers if off.start + REFUSAL_GRACE_S <= a.due_at <= off.end - 0.5]
    refused = sum(answer.outcome == "refused_off_hours" for answer in asked)
    outside = sum(
        a.outcome == "refused_off_hours" and not off.start - 1 <= a.due_at <= off.end + REFUSAL_GRACE_S
        for a in seen.answers
    )
    most = max((sample.groups for sample in late), default=0)
    return [
        Expectation(
            what="off-hours: none wanted, and none left after the drain",
            held=bool(turns) and all(turn.desired == 0 for turn in turns) and bool(late) and most == 0,
            seen=f"desired {sorted({turn.desired for turn in turns})} in {len(turns)} ticks, {most} groups at the end",
        ),
        Expectation(
            what="off-hours: every request was refused with the time to come back, and none outside them",
            held=bool(asked) and refused == len(asked) and outside == 0,
            seen=f"{refused} of {len(asked)} refused, {outside} outside off-hours",
        ),
    ]


def pin_checks(seen: Evidence) -> list[Expectation]:
    """The pin: kept while it lasts, gone by itself. What was asked for before it comes and goes in its first half."""
    pin = seen.day.phase("pin")
    half = (pin.start + pin.end) / 2
    during = [turn for turn in seen.turns if pin.start + TICK_GRACE_S <= turn.at <= pin.end - 0.5]
    ready = max((sample.ready for sample in seen.samples if half <= sample.at <= pin.end + 1), default=0)
    after = [turn for turn in seen.turns if turn.at >= pin.end + TICK_GRACE_S]
    still = sum(turn.limited_by == "pin" for turn in after)
    least = min((turn.desired for turn in after), default=PINNED)
    return [
        Expectation(
            what=f"the pin of {PINNED} was kept while it lasted",
            held=bool(during) and all(turn.desired == PINNED for turn in during) and ready == PINNED,
            seen=f"desired {sorted({turn.desired for turn in during})} in {len(during)} ticks, {ready} ready",
        ),
        Expectation(
            what="the pin ended by itself, and the fleet followed demand again",
            held=bool(after) and still == 0 and least < PINNED,
            seen=f"{still} of {len(after)} later ticks still held to it, desired fell to {least}",
        ),
    ]


def _end_checks(seen: Evidence, summary: Summary) -> list[Expectation]:
    return [
        Expectation(
            what="no container group was left",
            held=summary.groups_left == 0 and summary.creates == summary.deletes > 0,
            seen=f"{summary.creates} created, {summary.deletes} deleted, {summary.groups_left} left",
        ),
        Expectation(
            what="no part of the system died",
            held=seen.restarts == 0,
            seen=f"{seen.restarts} restarts",
        ),
        Expectation(
            what="no process was left",
            held=not seen.processes_left,
            seen=", ".join(seen.processes_left) or "none",
        ),
    ]
