"""What the web app needs of the autoscaler, and who may be behind a request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from starlette.requests import Request

from scaler.config import Config
from scaler.model import Decision
from scaler.ports import Store
from scaler.tick.managed import Managed
from scaler.web.access import PRINCIPAL_NAME, Access
from scaler.web.pins import line
from scaler.web.problems import Problem


class Report(Protocol):
    """How a tick of one service ended: ``scaler.tick.scaler.TickReport``."""

    @property
    def service(self) -> str: ...
    @property
    def outcome(self) -> str: ...
    @property
    def decision(self) -> Decision | None: ...


class Scaler(Protocol):
    """The part of ``scaler.tick.scaler.Scaler`` that the web app uses."""

    @property
    def config(self) -> Config: ...
    @property
    def managed(self) -> Mapping[str, Managed]: ...
    @property
    def store(self) -> Store: ...
    async def tick(self, now: float, *, cause: str, only: str | None = None) -> Sequence[Report]: ...


def actor(request: Request, claimed: str | None, *, access: Access) -> str:
    """Who changes something. Easy Auth's name only where Easy Auth is on, for otherwise anybody can send that header;
    with a key it is ``key`` and the name the caller claims."""
    if access.platform and (name := request.headers.get(PRINCIPAL_NAME, "").strip()):
        return line(name, PRINCIPAL_NAME)
    name = line(claimed if claimed is not None else request.headers.get("x-actor", ""), "actor")
    return f"key ({name})" if name else "key"


def known(scaler: Scaler, name: str) -> str:
    """The name of a configured service, or a problem 404 that names those there are."""
    if name not in scaler.config.services:
        names = ", ".join(sorted(scaler.config.services))
        raise Problem(404, "unknown-service", f"There is no service of that name; the services are: {names}.")
    return name
