"""The command line of the stand-in, and the objects that it asks for."""

from __future__ import annotations

import argparse
import socket
import zlib
from pathlib import Path

from infra.local.arm import delays, images
from infra.local.arm.addresses import HOSTS, Addresses
from infra.local.arm.arm import RECORDED, Arm, Settings
from infra.local.arm.groups import Groups
from infra.local.arm.keeper import Keeper
from infra.local.arm.life import Pace
from infra.local.arm.limits import Limits
from infra.local.arm.roles import read_role
from infra.local.arm.store import Store

ABOUT = "A stand-in for Azure Resource Manager, Monitor and the identity endpoint on this machine."
ROOT = Path(__file__).resolve().parents[3]


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m infra.local.arm", description=ABOUT)
    limits = Limits()
    add = parser.add_argument
    add("--data", type=Path, required=True, metavar="DIR", help="state, logs; made if missing")
    add("--reap", action="store_true", help="end every process recorded in DIR, forget the groups, and exit")
    add("--host", default="127.0.0.1")
    add("--port", type=_port, default=8443, help="Resource Manager and Monitor, https (8443; 0: any free port)")
    add("--identity-port", type=_port, default=8442, help="identity endpoint, http, with IDENTITY_HEADER set (8442)")
    add("--certificate", type=Path, metavar="PEM")
    add("--key", type=Path, metavar="PEM")
    add("--images", type=Path, metavar="FILE", help="YAML: which program stands for which image")
    add("--subscription", action="append", default=[], metavar="ID", help="a subscription that exists; repeatable")
    add(
        "--resource-group",
        action="append",
        default=[],
        metavar="NAME",
        help="only these exist in those subscriptions (any)",
    )
    add("--client-id", action="append", default=[], metavar="ID", help="only these identities exist; repeatable (any)")
    add("--authorization", type=Path, metavar="FILE", help="roles (infra/app/roles.json): all else is refused, 403")
    add("--start-delay", default="quantiles", metavar="SPEC", help="quantiles (like Azure), SECONDS or MIN-MAX")
    add("--seed", type=int, help="of the start delays")
    add("--settle", type=float, default=Pace().settle_s, metavar="S", help="from running to Succeeded (0.5)")
    add("--back-off", type=float, default=Pace().back_off_s, metavar="S", help="first wait of a crash loop (10)")
    add("--grace", type=float, default=2.0, metavar="S", help="from SIGTERM to SIGKILL (2)")
    add("--page-size", type=int, default=100, metavar="N", help="groups in one page of a list (100)")
    add("--metric-lag", type=float, default=120.0, metavar="S", help="how late metrics are (120)")
    add("--log-answers", type=Path, metavar="FILE", help="YAML: log query to number, read at each query")
    add("--faults", action="store_true", help="open /stand-in/faults")
    add("--groups", type=int, default=limits.groups, metavar="N", help="quota of a region (100)")
    add("--cores", type=float, default=limits.cores, metavar="N", help="quota of a region (100)")
    add("--changes-per-hour", type=int, default=limits.changes_per_hour, metavar="N", help="creates; deletes too (300)")
    add("--changes-per-5-minutes", type=int, default=limits.changes_per_5_minutes, metavar="N", help="(100)")
    add(
        "--reads",
        type=int,
        default=limits.reads,
        metavar="N",
        help="reads at once; a tenth of it a second (250)",
    )
    return parser


def build(options: argparse.Namespace, store: Store) -> Keeper:
    """All objects of one stand-in."""
    limits = Limits(
        groups=options.groups,
        cores=options.cores,
        changes_per_hour=options.changes_per_hour,
        changes_per_5_minutes=options.changes_per_5_minutes,
        reads=options.reads,
        reads_per_s=max(1.0, options.reads / 10),
    )
    first = zlib.crc32(str(store.folder.resolve()).encode()) % HOSTS
    groups = Groups(
        delays.parse(options.start_delay, options.seed),
        addresses=Addresses(first, is_free),
        pace=Pace(settle_s=options.settle, back_off_s=options.back_off),
        limits=limits,
    )
    settings = Settings(
        subscriptions=tuple(options.subscription) or (RECORDED,),
        resource_groups=frozenset(n.lower() for n in options.resource_group) or None,
        role=read_role(options.authorization) if options.authorization else None,
        page_size=max(1, options.page_size),
        metric_lag_s=options.metric_lag,
        log_answers=options.log_answers,
    )
    arm = Arm(groups, settings)
    programs = images.load(options.images) if options.images else {}
    keeper = Keeper(arm, store, programs, root=ROOT, grace_s=options.grace)
    arm.logs = keeper.logs
    return keeper


def is_free(address: str, port: int) -> bool:
    """Whether nothing on this machine listens there yet."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except PermissionError:
            return True  # a port that needs more rights: who listens there will say so
        except OSError:
            return False
    return True


def _port(text: str) -> int:
    port = int(text)
    if not 0 <= port <= 65_535:
        raise argparse.ArgumentTypeError(f"{text} is no port; expected 0 to 65535")
    return port
