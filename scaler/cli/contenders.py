"""What ``--against`` names: another configuration, a peer's rule with its one knob, or a fixed count."""

from __future__ import annotations

from pathlib import Path

from scaler.cli.replay_input import Chosen, Material, Options, picked
from scaler.config import Service
from scaler.decide import Policy, policy_of
from scaler.errors import BadSetting
from scaler.peers import PEERS, Fixed
from scaler.replay.plant import World
from scaler.replay.product import Product, playable
from scaler.replay.sight import Terms
from scaler.replay.study import Contender, Setting
from scaler.shadow import shadow_of

SHARE = 0.7
SHARES = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
MOST_FIXED_TRIED = 30
EXPECTED = f"a configuration file, shadow, fixed:N, or one of {', '.join(PEERS)} with a share, like hpa:0.6, hpa:best"
Told = tuple[Contender, tuple[str, ...]]  # a contender, and what is to be said about it


def contender(text: str, chosen: Chosen, setting: Setting, material: Material, options: Options) -> Told:
    """The rule (or the settings of it to try) that a word names, and what has to be said about it."""
    rule, _, knob = text.partition(":")
    if rule == "fixed":
        return _fixed(text, knob, chosen.service), ()
    if rule in PEERS:
        return _peer(text, rule, knob, chosen.service, setting.world), ()
    if text == "shadow":
        return _shadow(chosen, setting, material, options)
    if not Path(text).exists():
        raise BadSetting(f"--against: {text!r} is no file that is there; expected {EXPECTED}")
    other = picked(Path(text), chosen.name, only_one=True)
    return configured(other, text, setting, material, options)


def configured(chosen: Chosen, label: str, setting: Setting, material: Material, options: Options) -> Told:
    """The policy of a configuration."""
    played = playable(chosen.service, {key for _, known in material.signals for key in known})
    policy = policy_of(played.service, chosen.name, chosen.path, size=chosen.size)
    return (_product(label, policy, setting, material, options),), played.notes


def _shadow(chosen: Chosen, setting: Setting, material: Material, options: Options) -> Told:
    played = playable(chosen.service, {key for _, known in material.signals for key in known})
    policy = shadow_of(played.service, chosen.name, chosen.path, size=chosen.size)
    if policy is None:
        raise BadSetting(f"{chosen.path}.shadow: there is none; it names what a second policy has otherwise")
    return (_product("shadow", policy, setting, material, options),), ()


def _product(label: str, policy: Policy, setting: Setting, material: Material, options: Options) -> Product:
    return Product(
        name=label,
        policy=policy,
        begins_at=material.begins_at,
        concurrency=setting.world.concurrency,
        signals=material.signals,
        tick_s=options.tick_s,
    )


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
