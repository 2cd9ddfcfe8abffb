"""Several contenders on one trace, each in its own plant with the same arrivals and the same cold starts in order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from msgspec import Struct

from scaler.replay.plant import Course, World
from scaler.replay.run import run
from scaler.replay.score import Interval, Price, Score, compare, hourly, score
from scaler.replay.sight import Rule

Contender = tuple[Rule[Any], ...]  # settings of one rule, of which the cheapest counts


class Setting(Struct, frozen=True, kw_only=True):
    """What all contenders meet: ``arrivals`` are requests in each second, ``ready`` the replicas at the beginning."""

    arrivals: tuple[float, ...]
    world: World
    price: Price
    ready: int
    seed: int


class Played(Struct, frozen=True, kw_only=True):
    """One contender's replay. ``against_first``: how it stands to the first contender, None for that one; ``tried``:
    of so many settings it is the cheapest, in hindsight."""

    score: Score
    course: Course
    against_first: Interval | None = None
    tried: int = 1


def play(
    setting: Setting, contenders: Sequence[Contender], *, told: Callable[[float], None] = lambda _: None
) -> list[Played]:
    """What becomes of each contender. ``told`` hears of every share (0..1) of the whole work that is done."""
    runs = sum(len(c) for c in contenders)
    found: list[Played] = []
    done = 0
    for contender in contenders:
        tries = []
        for rule in contender:
            tries.append(_one(setting, rule, lambda s, done=done: told((done + s) / runs)))  # type: ignore[misc]
            done += 1
        best = min(tries, key=lambda played: played.score.cost)
        against = None if not found else compare(_hourly(setting, found[0]), _hourly(setting, best), setting.seed)
        found.append(Played(score=best.score, course=best.course, against_first=against, tried=len(tries)))
    told(1.0)
    return found


def _one(setting: Setting, rule: Rule[Any], told: Callable[[float], None]) -> Played:
    seconds = len(setting.arrivals)
    ready = rule.begins if rule.begins is not None else setting.ready
    course = run(rule, setting.world, setting.arrivals, ready, told=lambda at: told(at / seconds))
    return Played(score=score(rule.name, course, sum(setting.arrivals), setting.world, setting.price), course=course)


def _hourly(setting: Setting, played: Played) -> Any:
    return hourly(played.course, setting.world, setting.price)
