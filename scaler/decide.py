"""How many replicas there should be: ``decide(policy, state, observation) -> (decision, state)``, with no I/O at all.

The order of the steps is the order of precedence, weakest first; each may overrule those before it:

    signals → activation → blind → stabilization → min, schedule_min → schedule_max, off → pin → budget → quota → max

* Each signal proposes a count and the largest wins; a request that waits while nothing is ready asks for one.
* Where arrivals are known, the forecast (``ahead.py``) speaks for the signals that count requests: it weighs the rent
  of a replica against the price of lateness over the next lead time.
* A signal that is not known, or data that are not fresh, never lower the count (``blind``).
* The count falls only to the largest one asked for within the scale-in window (``stabilization``).
* A floor of the schedule counts one lead time before it begins, so that it is met when it begins.
* While a pin is in force the calendar is silent: a pin opens an off period.
"""

from __future__ import annotations

import math

from msgspec import Struct

from scaler import budget
from scaler.budget import Prices, Size, Spend
from scaler.config import Service, Target
from scaler.errors import BadSetting
from scaler.foresight import ahead
from scaler.foresight.ahead import Ahead, Outlook, Terms
from scaler.foresight.leadtime import Starts, lead_time_s, of_version
from scaler.foresight.spares import spares
from scaler.model import Beside, Decision, Observation, Pin, Step
from scaler.schedule import Period, Schedule, compile_schedule, period_at
from scaler.signals import Proposal, Rates, proposals, signal_name

WINDOW_ENTRIES = 64
SCALE_IN_WINDOW_S = 60.0  # where neither settings nor the service's own record say another
COUNTING = ("concurrency", "requests_per_second")  # signals that only reckon with this moment's requests
SERVICE_TIME_WEIGHT = 0.2  # of the newest window in the smoothed service time


class Policy(Struct, frozen=True, kw_only=True):
    """All that a decision depends on beside state and observation; made by ``policy_of``. ``signals`` are the outside
    signals and how much of each one replica carries."""

    service: str
    min: int
    max: int
    target: Target
    signals: tuple[tuple[str, float], ...]
    schedule: Schedule
    scale_in_window_s: float | None
    expected_start_s: float
    slo_wait_s: float
    lateness_price: float
    forecast: bool
    prices: Prices | None = None
    removed: bool = False  # no longer configured, though replicas of it are left
    spares: bool = False


class State(Struct, frozen=True, kw_only=True):
    """What decisions remember. ``window`` holds (at, count) of past demands, counts falling with time; ``starts_s`` are
    the newest cold starts of the version ``template``, ``earlier_s`` those of the version before, ``failed_s`` the ages
    at which starts failed."""

    at: float | None = None
    desired: int | None = None
    window: tuple[tuple[float, int], ...] = ()
    service_s: float | None = None
    starts_s: tuple[float, ...] = ()
    ahead: Ahead | None = None
    spend: Spend | None = None
    template: str = ""
    earlier_s: tuple[float, ...] = ()
    failed_s: tuple[float, ...] = ()


def policy_of(service: Service, name: str, where: str, *, size: Size | None = None) -> Policy:
    """The policy that a service's settings mean. ``where`` names the file, or is the service's path in it, and begins
    every message; ``size`` is that of its replicas, which prices need. Raises ``BadSetting``."""
    path = where if where.endswith(f"services.{name}") else f"{where}: services.{name}"
    schedule = compile_schedule(service.schedule, f"{path}.schedule")
    for i, rule in enumerate(schedule.rules):
        if rule.min > service.replicas.max:
            raise BadSetting(
                f"{path}.schedule.rules[{i}].min: {rule.min} is above replicas.max {service.replicas.max}, which "
                "always holds; lower it or raise replicas.max"
            )
    target = service.target
    signals = tuple((signal_name(s, i), s.per_replica) for i, s in enumerate(service.signals))
    if len({key for key, _ in signals}) < len(signals):
        raise BadSetting(f"{path}.signals: two signals have the same name; give each its own `name`")
    if not signals and target == Target():
        target = Target(concurrency=1.0)
    return Policy(
        service=name,
        min=service.replicas.min,
        max=service.replicas.max,
        target=target,
        signals=signals,
        schedule=schedule,
        scale_in_window_s=service.scale_in.window_s,
        expected_start_s=service.start.expected_s,
        slo_wait_s=service.slo_wait_s,
        lateness_price=service.lateness_price,
        forecast=service.forecast,
        spares=service.spares,
        prices=budget.prices_of(
            service.budget,
            size,
            drain_deadline_s=service.scale_in.drain_deadline_s,
            timezone=service.schedule.timezone,
        ),
    )


def initial_state(policy: Policy) -> State:
    """The state of a service that was never decided on."""
    return State(ahead=ahead.initial(policy.expected_start_s))


def decide(policy: Policy, state: State, observation: Observation) -> tuple[Decision, State]:
    """How many replicas (ready + starting) there should be now, why, and what to remember of it."""
    seen = observation
    starts = of_version(Starts(state.template, state.starts_s, state.earlier_s, state.failed_s), seen)
    service_s = _service_time(state.service_s, seen)
    learned = ahead.learn(state.ahead or ahead.initial(policy.expected_start_s), seen)
    before = seen.ready + seen.starting if state.desired is None else state.desired
    spend = _charged(policy, state, seen)
    trail = _Trail(before)
    own = proposals(policy.target, policy.signals, seen, _rates(seen, service_s))
    outlook = _outlook(policy, learned, seen, service_s, starts)
    known = _demand(trail, policy, seen, own, outlook)
    demand = trail.count
    hold_s = policy.scale_in_window_s or (outlook.hold_s if outlook else SCALE_IN_WINDOW_S)
    window = _held(trail, state, seen, before, hold_s, known=known)
    period = period_at(policy.schedule, seen.at)
    pin = _pin_in_force(seen.pin, seen.at)
    unended_s = (*ahead.ages_s(learned, seen.at), *starts.failed_s)
    start_s = lead_time_s(starts.known_s, policy.expected_start_s, unended_s)
    _calendar(trail, policy, period, seen, start_s, pinned=pin is not None)
    _ceilings(trail, policy, seen, pin, spend)
    off = period.off and pin is None
    decision = Decision(
        desired=trail.count,
        limited_by=trail.limited_by if trail.count != demand or not known else None,
        because=trail.sentence(demand),
        steps=tuple(trail.steps),
        off=off,
        opens_at=period.end if off and math.isfinite(period.end) else None,
        wakes=period.wakes or not off,
        beside=_beside(own, trail.count),
        cost=budget.cost(spend, policy.prices, seen.at) if spend and policy.prices else None,
    )
    after = State(
        at=seen.at,
        desired=trail.count,
        window=window,
        service_s=service_s,
        starts_s=starts.seen_s,
        template=starts.template,
        earlier_s=starts.earlier_s,
        failed_s=starts.failed_s,
        ahead=ahead.asked(outlook.ahead if outlook else learned, seen, trail.count),
        spend=budget.bill_after(spend, max(_billed(seen), trail.count + seen.draining)) if spend else None,
    )
    return decision, after


class _Trail:
    """The count as it passes the steps, and what each of them did to it."""

    def __init__(self, before: int) -> None:
        self.count = before
        self.steps: list[Step] = []
        self.limited_by: str | None = None
        self.reason = "nothing is asked for"

    def demand(self, proposal: Proposal, after: int) -> None:
        self.steps.append(Step(name=proposal.signal, before=self.count, after=after, because=proposal.because))
        self.count = after
        if proposal.count == after:
            self.reason = proposal.because

    def raise_to(self, least: int, rule: str, because: str) -> None:
        if least > self.count:
            self._rule(least, rule, because)

    def lower_to(self, most: int, rule: str, because: str) -> None:
        if most < self.count:
            self._rule(most, rule, because)

    def _rule(self, after: int, rule: str, because: str) -> None:
        self.steps.append(Step(name=rule, before=self.count, after=after, because=because))
        self.count, self.limited_by, self.reason = after, rule, because

    def sentence(self, demand: int) -> str:
        """The decision in one plain sentence."""
        instead = "" if self.count == demand else f" instead of {demand}"
        return f"{replicas(self.count)}{instead}: {self.reason}."


def replicas(count: int) -> str:
    """A count in words: no replica, 1 replica, 2 replicas."""
    return "No replica" if count == 0 else f"{count} replica{'s' if count > 1 else ''}"


# -- demand


def _outlook(
    policy: Policy, learned: Ahead, seen: Observation, service_s: float | None, starts: Starts
) -> Outlook | None:
    """What the forecast asks for; None where it cannot speak."""
    target = policy.target
    rate = target.requests_per_second
    if rate is None and target.concurrency is not None and service_s:
        rate = target.concurrency / service_s
    if target.concurrency is not None and target.requests_per_second is not None and service_s is None:
        service_s = target.concurrency / target.requests_per_second
    if not policy.forecast or rate is None or seen.data != "fresh" or seen.arrivals is None or seen.queued is None:
        return None
    terms = Terms(
        rate=rate,
        concurrency=target.concurrency,
        service_s=service_s,
        slo_wait_s=policy.slo_wait_s,
        lateness_price=policy.lateness_price,
        expected_start_s=policy.expected_start_s,
        most=policy.max,
    )
    return ahead.look(learned, seen, terms, starts)


def _rates(seen: Observation, service_s: float | None) -> Rates:
    arrivals_per_s = seen.arrivals / seen.window_s if seen.arrivals is not None and seen.window_s > 0 else None
    return Rates(arrivals_per_s=arrivals_per_s, service_s=service_s)


def _demand(
    trail: _Trail, policy: Policy, seen: Observation, found: tuple[Proposal, ...], outlook: Outlook | None
) -> bool:
    """Take the largest of what the signals propose, and the forecast in place of those that count requests; tells
    whether all of them were known."""
    if outlook is not None:
        found = (*(p for p in found if not (outlook.speaks and p.signal in COUNTING)), *outlook.proposals)
    known = seen.data == "fresh" and all(p.count is not None for p in found)
    if seen.queued is not None and seen.queued > 0 and seen.ready == 0:
        because = f"{seen.queued:.4g} wait and no replica is ready"
        found = (*found, Proposal(signal="activation", count=1, because=because))
    largest = 0
    for proposal in sorted(found, key=lambda p: p.count is not None):
        largest = max(largest, proposal.count or 0)
        trail.demand(proposal, largest)
    if policy.spares and known and (outlook is None or not outlook.speaks):
        _spares(trail, policy, seen)
    return known


def _spares(trail: _Trail, policy: Policy, seen: Observation) -> None:
    """Replicas beyond the need of the moment; the forecast weighs the same prices, and needs none."""
    carried = policy.target.concurrency
    if carried is None or seen.in_flight is None or trail.count == 0:
        return
    busy = (seen.in_flight + (seen.queued or 0.0)) / carried
    if (more := spares(busy, carried, policy.lateness_price)) > 0:
        because = f"{busy:.3g} replicas are busy, and one too few costs {policy.lateness_price:g} times one too many"
        count = trail.count + more
        trail.demand(Proposal(signal="spares", count=count, because=because), count)


def _service_time(before: float | None, seen: Observation) -> float | None:
    """Seconds of work in one request, by Little's law, smoothed; what was known stays known."""
    if not seen.in_flight or not seen.completed or seen.window_s <= 0 or seen.data != "fresh":
        return before
    now = seen.in_flight * seen.window_s / seen.completed
    return now if before is None else before + SERVICE_TIME_WEIGHT * (now - before)


def _beside(found: tuple[Proposal, ...], desired: int) -> tuple[Beside, ...]:
    """One replica fewer and one more: how full they would be now."""
    largest = max((p for p in found if p.load is not None), key=lambda p: p.load or 0.0, default=None)
    return tuple(_fullness(count, largest) for count in (desired - 1, desired + 1) if count >= 0)


def _fullness(count: int, largest: Proposal | None) -> Beside:
    if largest is None or largest.load is None:
        return Beside(count=count, use=None, because=f"{replicas(count)}: how full is not known")
    if count == 0:
        because = f"No replica: {largest.load:.4g} replicas' worth of {largest.signal} would find none"
        return Beside(count=0, use=None, because=because)
    use = largest.load / count
    return Beside(count=count, use=use, because=f"{replicas(count)}: {use:.0%} of what they carry ({largest.signal})")


def _what_is_missing(seen: Observation) -> str:
    return f"the data are {seen.data}" if seen.data != "fresh" else "a signal is not known"


# -- scale-in


def _held(
    trail: _Trail, state: State, seen: Observation, before: int, hold_s: float, *, known: bool
) -> tuple[tuple[float, int], ...]:
    """What missing data and the window keep from falling; gives the window."""
    if not known:
        trail.raise_to(before, "blind", f"{_what_is_missing(seen)}, and missing data never scale in")
    window = _window(state, seen.at, trail.count, before, hold_s)
    trail.raise_to(window[0][1], "stabilization", f"{window[0][1]} wanted within the last {hold_s:g} s")
    return window


def _window(state: State, at: float, count: int, before: int, window_s: float) -> tuple[tuple[float, int], ...]:
    """The demands of the window, newest last, without those that a later one exceeds: the first is the largest.

    Where nothing was watched (the first tick, a gap longer than the window, a clock set back), what was asked for
    before counts as asked for now: the window has to pass under our eyes.
    """
    kept = [(min(then, at), asked) for then, asked in state.window if at - then < window_s and asked > count]
    unwatched = state.at is None or at < state.at or at - state.at > window_s
    if unwatched and before > count:
        kept = [(then, asked) for then, asked in kept if asked > before]
        kept.append((at, before))
    kept.append((at, count))
    while len(kept) > WINDOW_ENTRIES:  # join the two nearest in time: the larger count, held as long as either
        i = min(range(len(kept) - 1), key=lambda k: kept[k + 1][0] - kept[k][0])
        kept[i : i + 2] = [(kept[i + 1][0], kept[i][1])]
    return tuple(kept)


# -- calendar and ceilings


def _calendar(
    trail: _Trail, policy: Policy, period: Period, seen: Observation, start_s: float, *, pinned: bool
) -> None:
    """Floors, caps and off periods. A floor counts one lead time ahead of its beginning, even through an off period."""
    if pinned:
        return
    at, lead_s = seen.at, start_s + min(max(0.0, seen.window_s), start_s)  # and one tick, which may have been days
    if not period.off:
        trail.raise_to(policy.min, "min", f"replicas.min is {policy.min}")
        trail.raise_to(period.min, "schedule_min", f"the schedule keeps at least {period.min} ({period.rule})")
    elif not period.wakes:
        trail.lower_to(0, "off", f"off by the schedule ({period.rule})")
    coming = _floor_ahead(policy, period, at + lead_s)
    if coming is not None:
        floor = max(coming.min, policy.min)
        trail.raise_to(
            floor,
            "schedule_min",
            f"the schedule wants {floor} in {coming.start - at:.0f} s and a start takes up to {lead_s:.0f} s",
        )
    if period.max is not None:
        trail.lower_to(period.max, "schedule_max", f"the schedule allows {period.max} ({period.rule})")


def _floor_ahead(policy: Policy, period: Period, until: float) -> Period | None:
    """The period with the largest floor among those that begin by ``until``; None where no floor comes."""
    best: Period | None = None
    while period.end <= until:
        period = period_at(policy.schedule, period.end)
        if not period.off and max(period.min, policy.min) > (max(best.min, policy.min) if best else 0):
            best = period
    return best


def _pin_in_force(pin: Pin | None, at: float) -> Pin | None:
    return pin if pin and pin.since <= at and (pin.until is None or at < pin.until) else None


def _billed(seen: Observation) -> int:
    """Replicas that cost: whatever exists, or is asked for."""
    return seen.ready + seen.starting + seen.draining + seen.deleting


def _charged(policy: Policy, state: State, seen: Observation) -> Spend | None:
    """The money spent until now; kept where nobody knows any more what a replica costs."""
    if policy.prices is None:
        return state.spend
    return budget.charged(state.spend, policy.prices, seen.at, _billed(seen))


def _ceilings(trail: _Trail, policy: Policy, seen: Observation, pin: Pin | None, spend: Spend | None) -> None:
    if pin is not None:
        by = f"pinned{' by ' + pin.actor if pin.actor else ''}{': ' + pin.reason if pin.reason else ''}"
        trail.raise_to(pin.min, "pin", by)
        trail.lower_to(pin.max, "pin", by)
    if spend and policy.prices:
        cap = budget.ceiling(spend, policy.prices, seen.at, seen.draining + seen.deleting)
        if cap is not None:
            trail.lower_to(cap[0], "budget", cap[1])
    if seen.quota is not None:
        trail.lower_to(max(seen.quota, 0), "quota", f"Azure lets us have {seen.quota} now")
    trail.lower_to(policy.max, "max", f"replicas.max is {policy.max}")
    if policy.removed:
        trail.lower_to(0, "removed", "the service is no longer configured")
