"""The types of what a PUT may say. Only what the stand-in reads is listed; all else is kept as it came."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct, field

Json = dict[str, Any]
Text = str | int | float | bool  # Azure writes a number where text is due as text
Positive = Annotated[float, Meta(gt=0, le=1e6)]


class Port(Struct):
    """A port of a container or of the group."""

    port: Annotated[int, Meta(ge=1, le=65_535)]
    protocol: str = "TCP"


class Variable(Struct, rename="camel"):
    """An environment variable."""

    name: Annotated[str, Meta(min_length=1)]
    value: Text = ""
    secure_value: Text = ""


class Requests(Struct, rename={"memory_in_gb": "memoryInGB"}):
    """What a container asks for."""

    cpu: Positive | None = None
    memory_in_gb: Positive | None = None


class Resources(Struct):
    """Requests; limits are of no interest here."""

    requests: Requests | None = None


class ContainerProperties(Struct, rename="camel"):
    """One container."""

    image: str = ""
    command: list[str] = field(default_factory=list)
    ports: list[Port] = field(default_factory=list)
    environment_variables: list[Variable] = field(default_factory=list)
    resources: Resources | None = None
    volume_mounts: list[Json] = field(default_factory=list)
    liveness_probe: Json | None = None
    readiness_probe: Json | None = None
    config_map: Json | None = None


class Container(Struct):
    """A container with its name."""

    name: str
    properties: ContainerProperties


class Address(Struct, rename="camel"):
    """The address of the group."""

    ports: list[Port] = field(default_factory=list)
    type: Literal["Public", "Private"] = "Public"
    dns_name_label: str | None = None
    auto_generated_domain_name_label_scope: str | None = None


class Properties(Struct, rename="camel"):
    """The group."""

    containers: list[Container] = field(default_factory=list)
    init_containers: list[Json] = field(default_factory=list)
    os_type: str = ""
    restart_policy: str = ""
    sku: str = ""
    priority: str = ""
    ip_address: Address | None = None
    volumes: list[Json] = field(default_factory=list)
    image_registry_credentials: list[Json] = field(default_factory=list)
    subnet_ids: list[Json] = field(default_factory=list)
    diagnostics: Json | None = None


class Identity(Struct, rename="camel"):
    """The identity of the group."""

    type: str = "None"
    user_assigned_identities: dict[str, Json] = field(default_factory=dict)


class Body(Struct):
    """The whole request. What is missing altogether gets an error of its own."""

    properties: Properties | None = None
    location: str = ""
    tags: dict[str, str] = field(default_factory=dict)
    zones: list[str] = field(default_factory=list)
    identity: Identity | None = None
