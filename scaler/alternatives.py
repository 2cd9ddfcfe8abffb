"""Why not one fewer, and why not one more: told from the steps of a decision alone.

A step either asks (a signal, whose count is the largest asked for so far) or rules (floors raise, ceilings lower). One
fewer fails on the last step that brought the count to where one fewer would not do; one more fails on the ceiling that
came down on it, or on nobody asking for it.
"""

from __future__ import annotations

import re

from msgspec import Struct

from scaler.model import Decision, Step

WEIGHED = re.compile(r"(\d+) would cost (\d+) of rent and (\d+) of lateness")
RULES = frozenset(
    {"blind", "stabilization", "min", "schedule_min", "schedule_max", "off", "pin", "budget", "quota", "max", "removed"}
)


class Alternative(Struct, frozen=True, kw_only=True):
    """A count that was not chosen; ``step`` is what spoke against it (None: nothing asked for it)."""

    replicas: int
    step: str | None
    because: str


def alternatives(decision: Decision) -> tuple[Alternative, ...]:
    """The count below the one chosen and the one above it, each with what speaks against it."""
    fewer = (_fewer(decision, decision.desired - 1),) if decision.desired > 0 else ()
    return (*fewer, _more(decision, decision.desired + 1))


def _fewer(decision: Decision, count: int) -> Alternative:
    asking = [s for i, s in enumerate(decision.steps) if s.after > count and _asks(s, first=i == 0)]
    if not asking:
        return Alternative(replicas=count, step=None, because=_sentence("is below what ran before", decision.because))
    step = asking[-1]
    why = f"is even further from the {step.after} asked for" if step.after > decision.desired else "is too few"
    because = _weighed(decision, count, step) or _sentence(why, step.because)
    return Alternative(replicas=count, step=step.name, because=because)


def _more(decision: Decision, count: int) -> Alternative:
    ceiling = next((s for s in reversed(decision.steps) if s.after < count <= s.before and s.name in RULES), None)
    if ceiling is not None:
        return Alternative(replicas=count, step=ceiling.name, because=_sentence("is not allowed", ceiling.because))
    asked = [s for s in decision.steps if s.after == decision.desired]
    if asked and (weighed := _weighed(decision, count, asked[-1])):
        return Alternative(replicas=count, step=asked[-1].name, because=weighed)
    if not asked:
        return Alternative(replicas=count, step=None, because="is more than anything asks for.")
    return Alternative(
        replicas=count,
        step=asked[-1].name,
        because=_sentence(f"is more than anything asks for; the most is {decision.desired}", asked[-1].because),
    )


def _weighed(decision: Decision, count: int, step: Step) -> str | None:
    """Both counts on the scales, where the step is one that weighed them (``ahead.py`` writes these words)."""
    costs = {int(n): (int(rent), int(late)) for n, rent, late in WEIGHED.findall(step.because)}
    if count not in costs or decision.desired not in costs:
        return None
    rent, late = (a - b for a, b in zip(costs[count], costs[decision.desired], strict=True))
    saved, lost = (("rent", -rent), ("lateness", late)) if rent < 0 else (("lateness", -late), ("rent", rent))
    words = f"would save {max(0, saved[1])} of {saved[0]} and cost {max(0, lost[1])} more of {lost[0]}"
    return f"{words}, in replica seconds over the next lead time."


def _asks(step: Step, *, first: bool) -> bool:
    """Whether a step brought the count up to ``after``, or, as the first, set it."""
    return step.after > step.before or (first and step.name not in RULES)


def _sentence(verdict: str, because: str) -> str:
    return f"{verdict}: {because.rstrip('.')}."
