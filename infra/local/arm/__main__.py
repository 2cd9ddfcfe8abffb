"""``python -m infra.local.arm``: the stand-in for Azure as one program."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys

from infra.local.arm.options import build, parser
from infra.local.arm.processes import reap
from infra.local.arm.store import Memory, Store
from scaler.errors import BadSetting


def main(arguments: list[str] | None = None) -> int:
    """Run until SIGTERM or SIGINT; 2 for something the operator should mend."""
    options = parser().parse_args(arguments)
    try:
        store = Store(options.data)
        with store.held():
            if options.reap:
                return reap_all(store, options.grace)
            asyncio.run(run(options, store))
    except BadSetting as error:
        print(error, file=sys.stderr)
        return 2
    except OSError as error:
        print(
            f"{error.filename or options.data}: {error.strerror}; make room or mend the rights there", file=sys.stderr
        )
        return 2
    return 0


async def run(options: argparse.Namespace, store: Store) -> None:
    """Serve until a signal. Raises ``BadSetting``."""
    from infra.local.arm.servers import serve  # noqa: PLC0415 - a reap needs no server

    if options.certificate is None or options.key is None:
        raise BadSetting("--certificate and --key: give two PEM files; Azure's clients send no tokens without TLS")
    await serve(options, build(options, store))


def reap_all(store: Store, grace_s: float) -> int:
    """End what an earlier stand-in left, and begin the next one without groups."""
    memory = store.load()
    runs = [c.run for g in memory.kept.groups for c in g.containers if c.run is not None]
    ended = reap(memory.records, runs, grace_s)
    memory.kept.groups, memory.kept.operations, memory.records = [], [], []
    store.save(Memory(kept=memory.kept, windows=memory.windows))
    print(json.dumps({"ended": ended}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
