"""How a new version replaces the old one: brought up beside it, judged against it, and taken back if it is worse. Pure.

    (first) ──► rolling ──► steady ──► rolling …       a new template, or image tag, begins a rollout
                   │ ▲          ▲
        fails or   │ │ retry    │ nothing of the bad version is left
        is worse   ▼ │          │
                returning ──────┘                      an undo by an operator comes here too

While a rollout is not *proven*, at most ``surge`` replicas of the new version exist beside the old ones, and what load
asks for beyond that is made from the last good version. It is proven once a new replica has been ready for ``gate_s``
and is not worse: its share of failed requests at most ``error_margin`` above the old version's within the same span,
its p95 at most ``latency_ratio`` times theirs. It goes on being judged until the last old replica is gone.

It is taken back when it is worse, or when ``attempts`` of its replicas failed for reasons of their own; want of room is
no such reason. So a bad image never takes the last good replica.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import msgspec
from msgspec import Struct, field
from msgspec.structs import replace

from scaler.conditions import blames_template, condition
from scaler.config import RolloutText
from scaler.errors import BadSetting
from scaler.model import Condition, Phase, Replica, Stats
from scaler.observe import CLOCKS_APART_S
from scaler.template import Template

KEPT_VERSIONS = 8
SAMPLE = 50  # old replicas that the new ones are measured against
SLOWER_BY_S = 0.05  # a p95 that is worse by less is noise
PATIENCE = 4  # gate spans that are waited for enough requests
WAITS_LONG_S = 900.0


class Version(Struct, frozen=True, kw_only=True):
    """One version of the template. ``body`` is what it can be made from again: packed, without secrets."""

    hash: str
    image: str
    at: float  # when it was first deployed
    good_at: float | None = None  # when it had replaced the one before
    ended: str = ""  # why it was taken back
    body: bytes = b""


class Tally(Struct, frozen=True):
    """A replica's counts when the gate opened."""

    start_id: str
    completed: int
    failed: int


class Rollout(Struct, frozen=True, kw_only=True):
    """Which version runs, which one should, and how far that is. ``target`` is what new replicas are made from."""

    configured: str
    target: str
    good: str = ""  # the last version that proved itself; empty: none yet
    phase: Literal["steady", "rolling", "returning"] = "rolling"
    since: float
    because: str = ""
    proven: bool = False
    ready_since: float | None = None  # a replica of the target has been ready since then
    failed: int = 0  # replicas of the target that failed since one of it was last ready
    before: dict[str, Tally] = field(default_factory=dict)
    versions: tuple[Version, ...] = ()  # oldest first


class View(Struct, frozen=True, kw_only=True):
    """What a rollout is judged by: the rows after this tick's look, those that failed with it, and the stats."""

    at: float
    replicas: Sequence[Replica]
    failures: Sequence[Replica]
    stats: Mapping[str, Stats]


def read(data: bytes | None) -> Rollout | None:
    """As it was packed; None where there is none, or none that this version can read."""
    if not data:
        return None
    try:
        return msgspec.msgpack.decode(data, type=Rollout)
    except msgspec.MsgspecError:
        return None


def version_of(template: Template, at: float) -> Version:
    return Version(hash=template.hash, image=template.image, at=at, body=template.bare())


def advance(before: Rollout | None, configured: Version, view: View, terms: RolloutText) -> Rollout:
    """The rollout after one more look. ``configured`` is the version that the template file holds now."""
    if before is None:
        return Rollout(configured=configured.hash, target=configured.hash, since=view.at, versions=(configured,))
    if max(before.since, before.ready_since or 0.0) > view.at + CLOCKS_APART_S:  # a clock was ahead of ours
        ready_since = None if before.ready_since is None else min(before.ready_since, view.at)
        before = replace(before, since=min(before.since, view.at), ready_since=ready_since)
    if configured.hash != before.configured:
        return _begun(before, configured, view.at)
    if before.phase == "returning":
        left = [r for r in view.replicas if r.template != before.target]
        return before if left else replace(before, phase="steady", since=view.at)
    return before if before.phase == "steady" else _rolled(before, view, terms)


def _begun(before: Rollout, configured: Version, at: float) -> Rollout:
    known = _version(before, configured.hash)
    version = replace(configured, at=known.at, good_at=known.good_at) if known else configured
    others = tuple(v for v in before.versions if v.hash != configured.hash)
    back = configured.hash in (before.good, before.target)  # the file names what runs, or ran well before
    return Rollout(
        configured=configured.hash,
        target=configured.hash,
        good=before.good,
        phase="returning" if back else "rolling",
        since=at,
        because="the template file names this version again" if back else "the template changed",
        proven=back,
        versions=_kept((*others, version), before.good),
    )


def _kept(versions: tuple[Version, ...], good: str) -> tuple[Version, ...]:
    """The newest, and whatever one may have to return to."""
    newest = {v.hash for v in versions[-KEPT_VERSIONS:]}
    return tuple(v for v in versions if v.hash in newest or v.hash == good)


def _rolled(before: Rollout, view: View, terms: RolloutText) -> Rollout:
    new = [r for r in view.replicas if r.template == before.target]
    ready = [r for r in new if r.phase is Phase.READY]
    ended = [r for r in view.failures if r.template == before.target and blames_template(r.failure or "")]
    failed = before.failed + len(ended)
    after = replace(before, failed=failed)
    if before.good and before.good != before.target:
        if failed >= terms.attempts:
            return _returned(after, f"{failed} replicas of it failed; the last: {ended[-1].because}", view.at)
        if (worse := _worse(before, ready, view, terms)) is not None:
            return _returned(after, worse, view.at)
    if not ready:
        return replace(after, ready_since=None, before={}) if before.ready_since is not None else after
    if before.ready_since is None:
        old = (r for r in view.replicas if r.template != before.target)
        after = replace(after, ready_since=view.at, failed=0, before=_tallies(old, view.stats))
    after = replace(after, proven=before.proven or _is_proven(after, ready, view, terms))
    return _done(after, view.at) if after.proven and len(new) == len(view.replicas) else after


def _tallies(replicas: Iterable[Replica], stats: Mapping[str, Stats]) -> dict[str, Tally]:
    answered = [s for r in replicas if (s := stats.get(r.name)) is not None and r.phase is Phase.READY]
    return {s.replica: Tally(s.start_id, s.completed_total, s.failed_total) for s in answered[:SAMPLE]}


def _is_proven(rollout: Rollout, ready: Sequence[Replica], view: View, terms: RolloutText) -> bool:
    assert rollout.ready_since is not None
    waited_s = view.at - rollout.ready_since
    completed, failed = _new_counts(ready, view.stats)
    enough = completed + failed >= terms.min_requests or waited_s >= PATIENCE * terms.gate_s
    return waited_s >= terms.gate_s and (enough or not rollout.before)


def _new_counts(ready: Sequence[Replica], stats: Mapping[str, Stats]) -> tuple[int, int]:
    said = [stats[r.name] for r in ready if r.name in stats]
    return sum(s.completed_total for s in said), sum(s.failed_total for s in said)


def _worse(rollout: Rollout, ready: Sequence[Replica], view: View, terms: RolloutText) -> str | None:
    """In what the new version is worse than the old one, in words; None where it is not, or nobody can tell."""
    completed, failed = _new_counts(ready, view.stats)
    if not rollout.before or completed + failed < max(1, terms.min_requests):
        return None
    share, old_share = failed / (completed + failed), _old_share(rollout.before, view.stats)
    if share > old_share + terms.error_margin:
        return f"{share:.0%} of its requests failed, of the old version's {old_share:.0%}"
    p95, old_p95 = _p95((r.name for r in ready), view.stats), _p95(rollout.before, view.stats)
    if p95 is not None and old_p95 is not None and p95 > max(old_p95 * terms.latency_ratio, old_p95 + SLOWER_BY_S):
        return f"its p95 is {p95:.3g} s, the old version's {old_p95:.3g} s"
    return None


def _old_share(before: Mapping[str, Tally], stats: Mapping[str, Stats]) -> float:
    """The share of failed requests of the old version since the gate opened; 0 where it had none."""
    completed = failed = 0
    for name, tally in before.items():
        now = stats.get(name)
        if now is not None and now.start_id == tally.start_id:
            completed += now.completed_total - tally.completed
            failed += now.failed_total - tally.failed
    return failed / (completed + failed) if completed + failed > 0 else 0.0


def _p95(names: Iterable[str], stats: Mapping[str, Stats]) -> float | None:
    found = [p95 for n in names if n in stats and (p95 := stats[n].latency_s.p95) is not None]
    return statistics.median(found) if found else None


def _returned(rollout: Rollout, because: str, at: float) -> Rollout:
    return replace(
        rollout,
        target=rollout.good,
        phase="returning",
        since=at,
        because=because,
        proven=True,
        ready_since=None,
        before={},
        versions=_marked(rollout, rollout.target, ended=because),
    )


def _done(rollout: Rollout, at: float) -> Rollout:
    return replace(
        rollout,
        good=rollout.target,
        phase="steady",
        since=at,
        because="",
        before={},
        versions=_marked(rollout, rollout.target, good_at=at, ended=""),
    )


def _marked(rollout: Rollout, version: str, **changes: object) -> tuple[Version, ...]:
    return tuple(replace(v, **changes) if v.hash == version else v for v in rollout.versions)


def _version(rollout: Rollout, version: str) -> Version | None:
    return next((v for v in rollout.versions if v.hash == version), None)


# ---------------------------------------------------------------- what an operator may ask for


def undone(rollout: Rollout, at: float, *, by: str, reason: str, to: str | None = None) -> Rollout:
    """Back to the version before, or to the one named. Raises ``BadSetting`` where there is none to go back to."""
    if to is None:
        earlier = [v for v in rollout.versions if v.good_at is not None and v.hash != rollout.target]
        to = rollout.good if rollout.good not in ("", rollout.target) else None
        to = to or (max(earlier, key=lambda v: v.good_at or 0.0).hash if earlier else None)
    if to is None:
        raise BadSetting("there is no earlier version that ran well; deploy another template")
    if _version(rollout, to) is None:
        known = ", ".join(v.hash for v in rollout.versions)
        raise BadSetting(f"to: there is no version {to!r}; the versions are: {known}")
    if to == rollout.target:
        raise BadSetting(f"to: {to} is the version that new replicas are made from already")
    because = f"undone by {by}" + (f": {reason}" if reason else "")
    return _returned(replace(rollout, good=to), because, at)


def retried(rollout: Rollout, at: float, *, by: str) -> Rollout:
    """The version of the template file once more. Raises ``BadSetting`` where it is the target already."""
    if rollout.target == rollout.configured:
        raise BadSetting("the version of the template file is the one that new replicas are made from already")
    return replace(
        rollout,
        target=rollout.configured,
        phase="rolling",
        since=at,
        because=f"tried again by {by}",
        proven=False,
        ready_since=None,
        failed=0,
        before={},
        versions=_marked(rollout, rollout.configured, ended=""),
    )


# ---------------------------------------------------------------- what it means for the plan


def templates(rollout: Rollout, configured: Template) -> dict[str, Template]:
    """The versions that replicas can be made from now: the target and the last good one. A version of the past gets
    its secrets from the template file, and is left out where one is missing there."""
    found = {}
    for version in {rollout.target, rollout.good} - {""}:
        if version == configured.hash:
            found[version] = configured
        elif (known := _version(rollout, version)) is not None and known.body:
            restored = configured.restored(known.body, version)
            if restored is not None:
                found[version] = restored
    return found


def conditions(rollout: Rollout, makeable: Iterable[str], at: float) -> list[Condition]:
    """What holds of a rollout that an operator should know."""
    found = []
    if rollout.target != rollout.configured and (refused := _version(rollout, rollout.configured)) is not None:
        about = f"version {refused.hash} ({refused.image})"
        found.append(condition("rollout_returned", rollout.since, about=about, said=refused.ended))
    if rollout.target not in set(makeable):
        found.append(condition("version_lost", at, about=f"version {rollout.target}"))
    if rollout.good and rollout.phase == "rolling" and not rollout.proven and at - rollout.since >= WAITS_LONG_S:
        found.append(condition("rollout_waits", at, about=f"version {rollout.target}", said=progress(rollout, ())))
    return found


def progress(rollout: Rollout, replicas: Sequence[Replica]) -> str:
    """How far it is, in one sentence without a full stop."""
    old = sum(r.template != rollout.target for r in replicas)
    if rollout.phase == "steady":
        return "nothing to do"
    if rollout.phase == "returning":
        return f"{old} replicas of the other version are still to go"
    if rollout.ready_since is None:
        return "no replica of the new version is ready yet"
    if not rollout.proven:
        return "the new version is compared with the old one"
    return f"{old} replicas of the old version are still to be replaced"
