"""``python -m infra.local.arm``: the stand-in for Azure as one program."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import msgspec
import uvicorn

from infra.local.arm import delays, images
from infra.local.arm.addresses import HOSTS, Addresses
from infra.local.arm.arm import RECORDED, Arm, Role, Settings
from infra.local.arm.doors import App, arm_door, identity_door, listening_socket
from infra.local.arm.groups import Groups
from infra.local.arm.keeper import Keeper
from infra.local.arm.life import Pace
from infra.local.arm.limits import Limits
from infra.local.arm.processes import reap
from infra.local.arm.store import Memory, Store
from scaler.errors import BadSetting

ROOT = Path(__file__).resolve().parents[3]


class Server(uvicorn.Server):
    """One of two servers in a loop: the signals belong to the program."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.open = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and say so."""
        await super().startup(sockets)
        self.open.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m infra.local.arm", description=__doc__)
    limits = Limits()
    add = parser.add_argument
    add("--data", type=Path, required=True, metavar="DIR", help="state, logs; made if missing")
    add("--reap", action="store_true", help="end every process recorded in DIR, forget the groups, and exit")
    add("--host", default="127.0.0.1")
    add("--port", type=int, default=8443, help="Resource Manager and Monitor, https (8443; 0: any free port)")
    add("--identity-port", type=int, default=8442, help="identity endpoint, http, with IDENTITY_HEADER set (8442)")
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
    add("--authorization", type=Path, metavar="FILE", help="YAML with `actions`: all else is refused with 403")
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


def main(arguments: list[str] | None = None) -> int:
    """Run until SIGTERM or SIGINT; 2 for something the operator should mend."""
    options = parser().parse_args(arguments)
    try:
        store = Store(options.data)
        with store.held():
            if options.reap:
                return reap_all(store, options.grace)
            asyncio.run(serve(options, store))
    except BadSetting as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def reap_all(store: Store, grace_s: float) -> int:
    """End what an earlier stand-in left, and begin the next one without groups."""
    memory = store.load()
    runs = [c.run for g in memory.kept.groups for c in g.containers if c.run is not None]
    ended = reap(memory.records, runs, grace_s)
    memory.kept.groups, memory.kept.operations, memory.records = [], [], []
    store.save(Memory(kept=memory.kept, windows=memory.windows))
    print(json.dumps({"ended": ended}))
    return 0


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
        role=_role(options.authorization),
        page_size=max(1, options.page_size),
        metric_lag_s=options.metric_lag,
        log_answers=options.log_answers,
    )
    arm = Arm(groups, settings)
    programs = images.load(options.images) if options.images else {}
    keeper = Keeper(arm, store, programs, root=ROOT, grace_s=options.grace)
    arm.logs = keeper.logs
    return keeper


async def serve(options: argparse.Namespace, store: Store) -> None:
    """Open the doors, say where they are, and wait for a signal."""
    for name in ("certificate", "key"):
        file = getattr(options, name)
        if file is None or not file.is_file():
            raise BadSetting(f"--{name} {file}: give a PEM file; Azure's clients refuse to send tokens without TLS")
    keeper = build(options, store)
    arm_socket = _bound(options.host, options.port, "--port")
    servers = [_server(arm_door(keeper, faults=options.faults), options)]
    sockets = [arm_socket]
    if header := os.environ.get("IDENTITY_HEADER"):
        clients = frozenset(c.lower() for c in options.client_id) or None
        servers.append(_server(identity_door(header, time.time, clients), None))
        sockets.append(_bound(options.host, options.identity_port, "--identity-port"))
    keeper.open()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _leave, servers)
    measuring = asyncio.create_task(keeper.run())
    runs = [asyncio.create_task(s.serve(sockets=[k])) for s, k in zip(servers, sockets, strict=True)]
    for server in servers:
        await server.open.wait()
    ports = [bound.getsockname()[1] for bound in sockets]
    print(json.dumps({"port": ports[0], "identity_port": ports[1] if len(ports) > 1 else None}), flush=True)
    try:
        await asyncio.gather(*runs)
    finally:
        measuring.cancel()
        keeper.close()


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


def _leave(servers: list[Server]) -> None:
    for server in servers:
        server.should_exit = True


def _server(app: App, tls: argparse.Namespace | None) -> Server:
    config = uvicorn.Config(
        app,
        lifespan="off",
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=2,
        ssl_certfile=str(tls.certificate) if tls else None,
        ssl_keyfile=str(tls.key) if tls else None,
    )
    return Server(config)


def _bound(host: str, port: int, option: str) -> socket.socket:
    try:
        return listening_socket(host, port)
    except OSError as error:
        raise BadSetting(f"{option} {port}: {error.strerror}; choose another port (0: any free one)") from error


def _role(file: Path | None) -> Role | None:
    if file is None:
        return None
    try:
        return msgspec.yaml.decode(file.read_bytes(), type=Role)
    except (OSError, msgspec.MsgspecError) as error:
        raise BadSetting(
            f"--authorization {file}: {error}; expected `actions: [Microsoft.ContainerInstance/…]`"
        ) from error


if __name__ == "__main__":
    sys.exit(main())
