"""The stand-in in memory with the clock in hand: no sockets, no processes, every start after exactly ten seconds."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from infra.local.arm.addresses import Addresses
from infra.local.arm.arm import RECORDED, Arm, Settings
from infra.local.arm.delays import stages
from infra.local.arm.groups import Groups
from infra.local.arm.http import Answer, Request
from infra.local.arm.life import Pace
from infra.local.arm.limits import Limits
from infra.local.arm.state import End, Start

API = "2023-05-01"
START_S = 10.0
PROVIDER = "providers/Microsoft.ContainerInstance"
TOKEN = {"authorization": "Bearer local"}


@dataclass
class World:
    """One ``Arm`` and its time. ``running`` are the runs whose processes would be alive."""

    limits: Limits = field(default_factory=Limits)
    settings: Settings = field(default_factory=Settings)
    now: float = 1_790_000_000.0
    running: dict[str, str] = field(default_factory=dict)  # run: container
    ended: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        pace = Pace(settle_s=1.0, back_off_s=10.0)
        groups = Groups(lambda _group: stages(START_S), addresses=Addresses(0), pace=pace, limits=self.limits)
        self.arm = Arm(groups, self.settings, logs=lambda group, container: f"{group.name} {container}\nsecond\n")

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] = TOKEN,
        api: str | None = API,
    ) -> Answer:
        """One request; ``path`` is below the subscription unless it begins with a slash."""
        full = path if path.startswith("/") else f"/subscriptions/{RECORDED}/{path}"
        asked = dict(query or {}) | ({"api-version": api} if api else {})
        raw = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        answer = self.arm.answer(Request(method=method, path=full, query=asked, headers=headers, body=raw), self.now)
        self._do_effects()
        return answer

    def put(self, name: str, body: dict[str, Any] | None = None, **properties: Any) -> Answer:
        return self.call("PUT", group_path(name), body or group(**properties))

    def get(self, name: str, api: str = API) -> Answer:
        return self.call("GET", group_path(name), api=api)

    def properties(self, name: str) -> dict[str, Any]:
        answer = self.get(name)
        assert answer.status == 200, answer.body
        found: dict[str, Any] = answer.body["properties"]
        return found

    def view(self, name: str) -> dict[str, Any]:
        """``instanceView`` of the first container."""
        seen: dict[str, Any] = self.properties(name)["containers"][0]["properties"]["instanceView"]
        return seen

    def started(self, name: str, **properties: Any) -> dict[str, Any]:
        """A group that runs and is settled."""
        assert self.put(name, **properties).status == 201
        self.wait(START_S + 1)
        return self.properties(name)

    def wait(self, seconds: float) -> None:
        """Let time pass, stopping at each moment at which something happens."""
        until = self.now + seconds
        while (at := self.arm.groups.next_at()) is not None and at <= until:
            self.now = max(self.now, at)
            self.arm.groups.advance(self.now)
            self._do_effects()
        self.now = until

    def exit(self, name: str, exit_code: int) -> None:
        """The process of the group's first container ends by itself."""
        key = next(g.key for g in self.arm.groups.every() if g.name == name)
        found = self.arm.groups.find(key)
        assert found is not None
        run = found.containers[0].run
        assert run is not None
        assert run in self.running
        del self.running[run]
        self.arm.groups.exited(key, run, exit_code, self.now)
        self._do_effects()

    def operation(self, answer: Answer) -> dict[str, Any]:
        """Poll the operation that an answer names."""
        url, _, query = answer.headers["azure-asyncoperation"].partition("?")
        pairs = dict(pair.split("=", 1) for pair in query.split("&"))
        api = pairs.pop("api-version")
        polled = self.call("GET", "/" + url.split("/", 3)[3], query=pairs, api=api)
        assert polled.status == 200, polled.body
        body: dict[str, Any] = polled.body
        return body

    def _do_effects(self) -> None:
        for effect in self.arm.groups.take_effects():
            match effect:
                case Start():
                    self.running[effect.run] = effect.container
                case End():
                    self.running.pop(effect.run)
                    self.ended.append(effect.run)


def group_path(name: str, action: str = "") -> str:
    return f"resourceGroups/work/{PROVIDER}/containerGroups/{name}" + (f"/{action}" if action else "")


def container(name: str = "main", **properties: Any) -> dict[str, Any]:
    default = {
        "image": "example.azurecr.io/iris:1",
        "ports": [{"port": 8000, "protocol": "TCP"}],
        "resources": {"requests": {"cpu": 1, "memoryInGB": 1}},
    }
    return {"name": name, "properties": default | properties}


def group(location: str = "westeurope", **properties: Any) -> dict[str, Any]:
    """The body of a PUT."""
    default = {
        "osType": "Linux",
        "containers": [container()],
        "ipAddress": {"type": "Public", "ports": [{"port": 8000, "protocol": "TCP"}]},
    }
    return {"location": location, "tags": {"service": "iris"}, "properties": default | properties}
