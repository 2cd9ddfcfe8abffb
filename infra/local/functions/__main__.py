"""``python -m infra.local.functions --app DIR --port 7071 --keys FILE``: serve a function app until SIGTERM."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import socket
import sys
from pathlib import Path

from infra.local.functions.app import HttpTrigger
from infra.local.functions.errors import StartError
from infra.local.functions.host import GRACE_S, Host, Parts, bind, prepare, stop_on_signals
from infra.local.functions.invoke import current

DEFAULT_PORT = 7071
log = logging.getLogger("functions")


def main() -> int:
    """Exit code: 0 after a stop, 2 when the host could not start."""
    arguments = _arguments()
    _set_up_logging()
    try:
        listener = bind(arguments.host, arguments.port)
        parts = prepare(arguments.app.resolve(), arguments.keys.resolve(), os.environ)
    except StartError as error:
        print(f"functions: {error}", file=sys.stderr)
        return 2
    has_ended = asyncio.run(_serve(parts, listener, arguments.grace_s))
    if not has_ended:
        # A thread that still runs a function would hold the process for ever.
        logging.shutdown()
        sys.stdout.flush()
        os._exit(0)
    return 0


async def _serve(parts: Parts, listener: socket.socket, grace_s: float) -> bool:
    host = Host(parts, grace_s=grace_s)
    stop_on_signals(host)
    _say_hello(parts, listener)
    return await host.serve(listener)


def _say_hello(parts: Parts, listener: socket.socket) -> None:
    address, port = listener.getsockname()[:2]
    log.info("listening on http://%s:%d with %d functions", address, port, len(parts.app.functions))
    for function in parts.app.functions:
        trigger = function.trigger
        where = f" /{trigger.route.template}" if isinstance(trigger, HttpTrigger) else ""
        kind = type(trigger).__name__.removesuffix("Trigger").lower()
        log.info("  %s: %s%s%s", function.name, kind, where, " (disabled)" if function.is_disabled else "")
    for here, on_azure in parts.app.router.ambiguities():
        log.warning(
            "the routes of %s and %s both match some path: here %s answers, on Azure %s, whose name sorts first; "
            "make one of them more specific",
            here,
            on_azure,
            here,
            on_azure,
        )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m infra.local.functions", description=__doc__)
    parser.add_argument("--app", type=Path, default=Path(), help="folder of function_app.py and host.json (here)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (127.0.0.1)")
    parser.add_argument("--port", type=_port, default=os.environ.get("FUNCTIONS_PORT", str(DEFAULT_PORT)))
    parser.add_argument("--keys", type=Path, required=True, help="file of the keys; made with random ones if missing")
    parser.add_argument("--grace-s", type=float, default=GRACE_S, help="seconds that running functions get at the end")
    return parser.parse_args()


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65_535:
        raise argparse.ArgumentTypeError(f"{text!r} is no port; give a number from 0 (any free one) to 65535")
    return int(text)


class _Formatter(logging.Formatter):
    """Names the invocation that a record belongs to."""

    def format(self, record: logging.LogRecord) -> str:
        record.invocation = f" [{current.get()}]" if current.get() else ""
        return super().format(record)


def _set_up_logging() -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter("%(asctime)s %(levelname)s %(name)s%(invocation)s: %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    # The SDKs log every request at INFO.
    for name in ("azure", "uvicorn", "asyncio"):
        logging.getLogger(name).setLevel(logging.WARNING)


if __name__ == "__main__":
    sys.exit(main())
