"""``discovery`` and ``envoy``: the two things that the front is made of."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from contextlib import AsyncExitStack
from pathlib import Path

from scaler.cli.checks import config_of
from scaler.errors import BadSetting
from scaler.front.bootstrap import bootstrap
from scaler.front.layout import Address, Layout
from scaler.settings import Settings


def serve_discovery(settings: Settings) -> None:
    """Until SIGINT or SIGTERM. Raises ``BadSetting``."""
    services = _hold_limits(Path(settings.config_file))
    asyncio.run(_serve(settings, services))


async def _serve(settings: Settings, services: dict[str, float]) -> None:
    from scaler.azure import open_store, open_wakes  # noqa: PLC0415 - takes most of a second
    from scaler.front.server import run  # noqa: PLC0415
    from scaler.front.wake import HttpWake, Wake, nobody_to_wake  # noqa: PLC0415

    async with AsyncExitStack() as stack:
        rows = await stack.enter_async_context(open_store(settings))
        wake: Wake = nobody_to_wake
        if settings.url:
            wake = await stack.enter_async_context(HttpWake(settings.url, settings.key))
        elif settings.queue_endpoint:
            wake = await stack.enter_async_context(open_wakes(settings))
        serving = asyncio.ensure_future(
            run(
                host=settings.discovery_host,
                port=settings.discovery_port,
                rows=rows,
                services=services,
                wake=wake,
                started=lambda port: print(
                    f"discovery: http://{settings.discovery_host}:{port}", file=sys.stderr, flush=True
                ),
            )
        )
        loop = asyncio.get_running_loop()
        for end in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(end, serving.cancel)
        try:
            await serving
        except asyncio.CancelledError:
            if not serving.cancelled():
                raise


def envoy_bootstrap(file: Path, *, listen: str, discovery: str, admin: str) -> str:
    """Envoy's bootstrap as JSON. Raises ``BadSetting``."""
    layout = Layout(
        services=_hold_limits(file),
        listen=_address(listen, "--listen"),
        discovery=_address(discovery, "--discovery"),
        admin=_address(admin, "--admin"),
    )
    return json.dumps(bootstrap(layout), indent=2)


def _hold_limits(file: Path) -> dict[str, float]:
    return {name: service.hold_limit_s for name, service in config_of(file).services.items()}


def _address(text: str, option: str) -> Address:
    host, _, port = text.rpartition(":")
    if not host or not port.isascii() or not port.isdecimal() or int(port) > 65535:
        raise BadSetting(f"{option}: {text!r} is no address; write it like 127.0.0.1:8080")
    return Address(host.strip("[]"), int(port))
