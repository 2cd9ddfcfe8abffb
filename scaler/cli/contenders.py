"""What ``--against`` names: another configuration, a peer's rule with its one knob, or a fixed count."""

from __future__ import annotations

from pathlib import Path

from scaler.cli.replay_input import Material, Options, picked
from scaler.config import Service
from scaler.decide import policy_of
from scaler.errors import BadSetting
from scaler.peers import PEERS, Fixed
from scaler.replay.plant import World
from scaler.replay.product import Product, playable
from scaler.replay.sight import Terms
from scaler.replay.study import Contender

SHARE = 0.7
SHARES = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
MOST_FIXED_TRIED = 30
EXPECTED = f"a configuration file, fixed:N, or one of {', '.join(PEERS)}, with a share like hpa:0.6 or hpa:best"


def contender(
    text: str, name: str, service: Service, world: World, material: Material, options: Options
) -> tuple[Contender, tuple[str, ...]]:
    """The rule (or the settings of it to try) that a word names, and what has to be said about it."""
    rule, _, knob = text.partition(":")
    if rule == "fixed":
        return _fixed(text, knob, service), ()
    if rule in PEERS:
        return _peer(text, rule, knob, service, world), ()
    return _configured(Path(text), name, world, material, options)


def _fixed(text: str, knob: str, service: Service) -> Contender:
    if knob == "best":
        return tuple(Fixed(count) for count in range(1, min(service.replicas.max, MOST_FIXED_TRIED) + 1))
    if not (knob.isascii() and knob.isdecimal()) or int(knob) > 100_000:
        raise BadSetting(f"--against: {text!r}: expected fixed:N with a count N, or fixed:best")
    return (Fixed(int(knob)),)


def _peer(text: str, rule: str, knob: str, service: Service, world: World) -> Contender:
    def terms(share: float) -> Terms:
        bounds = service.replicas
        return Terms(min=bounds.min, max=bounds.max, rate=world.rate, concurrency=world.concurrency, share=share)

    if knob == "best":
        return tuple(PEERS[rule](terms(share)) for share in SHARES)
    try:
        share = float(knob) if knob else SHARE
    except ValueError:
        share = -1.0
    if not 0 < share <= 2:
        raise BadSetting(f"--against: {text!r}: the share of a replica to keep busy is above 0 and at most 2, or best")
    return (PEERS[rule](terms(share)),)


def _configured(
    file: Path, name: str, world: World, material: Material, options: Options
) -> tuple[Contender, tuple[str, ...]]:
    if not file.exists():
        raise BadSetting(f"--against: {str(file)!r} is no file that is there; expected {EXPECTED}")
    name, service = picked(file, name, only_one=True)
    played = playable(service, {key for _, known in material.signals for key in known})
    product = Product(
        name=str(file),
        policy=policy_of(played.service, name, str(file)),
        begins_at=material.begins_at,
        concurrency=world.concurrency,
        signals=material.signals,
        tick_s=options.tick_s,
    )
    return (product,), played.notes
