"""Where things are: the environment, read here and nowhere else, once, into one frozen value."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self
from urllib.parse import urlsplit

from msgspec import Struct

from scaler.errors import BadSetting

Purpose = Literal["function", "discovery", "cli"]
CONFIG_FILE = str(Path(__file__).resolve().parents[1] / "autoscaler.yaml")
SECRETS = frozenset(
    {
        "replica_token",
        "replica_authority",
        "key",
        "template_values",
        "events_url",
        "events_secret",
        "telemetry_connection",
    }
)
LEAST_AUTHORITY = 12  # characters: guesses can be tried on any certificate
GUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
RESOURCE_GROUP = re.compile(r"[\w.()-]{0,89}[\w()-]")
DEPLOYMENT_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
TOKEN = re.compile(r"[\x21-\x7e]{8,512}")
CRON_FIELD = re.compile(r"[0-9A-Za-z*/,-]+")
RESOURCE_ID = re.compile(r"/subscriptions/[^/\s]+(/[^/\s]+)+", re.IGNORECASE)
PLACE = re.compile(r"[a-z][a-z0-9]{0,19}")
DNS_LABEL = re.compile(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?")
TRUTH = re.compile(r"true|false", re.IGNORECASE)
TEMPLATE_PREFIX = "TEMPLATE_"  # TEMPLATE_NAME is what ${NAME} in a replica template stands for
NEEDED: Mapping[Purpose, tuple[str, ...]] = {
    "function": (
        "AUTOSCALER_DEPLOYMENT_ID",
        "AZURE_SUBSCRIPTION_ID",
        "AUTOSCALER_RESOURCE_GROUP",
        "AUTOSCALER_TABLE_ENDPOINT",
    ),
    "discovery": ("AUTOSCALER_TABLE_ENDPOINT",),
    "cli": (),
}
MEANING = {
    "AUTOSCALER_DEPLOYMENT_ID": "the name that marks the container groups of this deployment",
    "AZURE_SUBSCRIPTION_ID": "the subscription that the replicas are created in",
    "AUTOSCALER_RESOURCE_GROUP": "the resource group that the replicas are created in",
    "AUTOSCALER_TABLE_ENDPOINT": "the table service of the storage account, like https://<account>.table.core.windows.net",
}


class Place(Struct, frozen=True):
    """Another resource group for replicas, perhaps of another subscription: quotas are per subscription."""

    subscription_id: str
    resource_group: str


class FrontSettings(Struct, frozen=True, kw_only=True):
    """The container group of Envoy and discovery. Without images there is none: the front is somebody else's business.
    ``identity``, ``subnet`` and ``zone`` are resource ids; ``certificate`` is a PEM with key and chain."""

    envoy_image: str = ""
    discovery_image: str = ""
    region: str = ""
    identity: str = ""
    client_id: str = ""
    dns_label: str = ""
    subnet: str = ""
    zone: str = ""
    certificate: str = ""

    @property
    def wanted(self) -> bool:
        return bool(self.envoy_image and self.discovery_image and self.region)

    def __repr__(self) -> str:
        return f"FrontSettings(envoy_image={self.envoy_image!r}, discovery_image={self.discovery_image!r})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [("envoy_image", self.envoy_image), ("discovery_image", self.discovery_image)]


class Settings(Struct, frozen=True, kw_only=True):
    """What the environment says. Empty text: not set. Keys and tokens never show in ``repr``."""

    config_file: str = CONFIG_FILE
    deployment_id: str = ""
    subscription_id: str = ""
    resource_group: str = ""
    arm_endpoint: str = "https://management.azure.com"
    table_endpoint: str = ""
    queue_endpoint: str = ""
    metrics_endpoint: str = ""  # of one region; without it metrics are asked for one resource at a time
    logs_endpoint: str = ""
    logs_workspace: str = ""  # workspace id that `log_query` signals ask
    client_id: str = ""  # of the user-assigned identity; empty: the identity that the place gives
    managed_identity: bool = False  # the place offers one, so nothing else is tried
    replica_token: str = ""
    replica_authority: str = ""  # what ``Authority`` is made from: then replicas serve TLS
    replica_tls: bool = True  # False: those made from now on do not, and the authority is for those that still do
    template_values: Mapping[str, str] = {}  # NAME → what ${NAME} in a replica template stands for
    places: Mapping[str, Place] = {}  # name, as in `westeurope@name` → where that is
    front: FrontSettings = FrontSettings()
    tick_schedule: str = "*/15 * * * * *"
    url: str = ""  # of the function app, for discovery and the command line
    key: str = ""
    events_url: str = ""  # the webhook that hears of events; it may carry a key, so it is kept like one
    events_secret: str = ""  # what they are signed with
    telemetry_connection: str = ""  # connection string of Application Insights
    telemetry_identity: str | None = None  # client id that may write there; None: the connection string suffices
    discovery_host: str = "127.0.0.1"
    discovery_port: int = 8081

    @classmethod
    def read(cls, env: Mapping[str, str], purpose: Purpose = "function") -> Self:
        """Raises ``BadSetting`` with one sentence for the first name that is missing or wrong for the ``purpose``."""
        missing = [name for name in NEEDED[purpose] if not env.get(name, "").strip()]
        if missing:
            raise BadSetting(f"environment: {missing[0]}: not set; give it {MEANING[missing[0]]}")
        reader = _Reader(env)
        queue = reader.https("AUTOSCALER_QUEUE_ENDPOINT") or reader.https("AzureWebJobsStorage__queueServiceUri")
        return cls(
            config_file=reader.text("AUTOSCALER_CONFIG") or CONFIG_FILE,
            deployment_id=reader.like(
                "AUTOSCALER_DEPLOYMENT_ID", DEPLOYMENT_ID, "up to 63 letters, digits, `-`, `_`, `.`"
            ),
            subscription_id=reader.like("AZURE_SUBSCRIPTION_ID", GUID, "a GUID, as `az account show` prints it"),
            resource_group=reader.like("AUTOSCALER_RESOURCE_GROUP", RESOURCE_GROUP, "the name of a resource group"),
            arm_endpoint=reader.https("AUTOSCALER_ARM_ENDPOINT") or "https://management.azure.com",
            table_endpoint=reader.https("AUTOSCALER_TABLE_ENDPOINT"),
            queue_endpoint=queue,
            metrics_endpoint=reader.https("AUTOSCALER_METRICS_ENDPOINT"),
            logs_endpoint=reader.https("AUTOSCALER_LOGS_ENDPOINT"),
            logs_workspace=reader.like("AUTOSCALER_LOGS_WORKSPACE", GUID, "the workspace id, a GUID"),
            client_id=reader.like("AZURE_CLIENT_ID", GUID, "the client id of the managed identity, a GUID"),
            managed_identity=bool(reader.text("IDENTITY_ENDPOINT")),
            replica_token=reader.secret("REPLICA_TOKEN"),
            replica_authority=reader.secrets("REPLICA_AUTHORITY", LEAST_AUTHORITY),
            replica_tls=reader.like("REPLICA_TLS", TRUTH, "true or false").lower() != "false",
            template_values=reader.template_values(),
            places=reader.places("AUTOSCALER_PLACES"),
            front=_front(reader),
            tick_schedule=reader.cron("AUTOSCALER_TICK_SCHEDULE") or "*/15 * * * * *",
            url=reader.url("AUTOSCALER_URL"),
            key=reader.secret("AUTOSCALER_KEY"),
            events_url=reader.webhook("AUTOSCALER_EVENTS_URL"),
            events_secret=reader.secret("AUTOSCALER_EVENTS_SECRET"),
            telemetry_connection=reader.connection("APPLICATIONINSIGHTS_CONNECTION_STRING"),
            telemetry_identity=reader.identity("APPLICATIONINSIGHTS_AUTHENTICATION_STRING"),
            discovery_host=reader.text("DISCOVERY_HOST") or "127.0.0.1",
            discovery_port=reader.port("DISCOVERY_PORT", 8081),
        )

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={value!r}" for name, value in self.__rich_repr__())
        return f"Settings({shown})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        values = ((name, getattr(self, name)) for name in self.__struct_fields__)
        return [(name, "***" if value and name in SECRETS else value) for name, value in values]


def _front(reader: _Reader) -> FrontSettings:
    return FrontSettings(
        envoy_image=reader.text("FRONT_ENVOY_IMAGE"),
        discovery_image=reader.text("FRONT_DISCOVERY_IMAGE"),
        region=reader.text("FRONT_REGION"),
        identity=reader.like("FRONT_IDENTITY", RESOURCE_ID, "the resource id of the front's identity"),
        client_id=reader.like("FRONT_CLIENT_ID", GUID, "the client id of the front's identity, a GUID"),
        dns_label=reader.like("FRONT_DNS_LABEL", DNS_LABEL, "a DNS label: letters, digits and dashes"),
        subnet=reader.like("FRONT_SUBNET", RESOURCE_ID, "the resource id of a subnet"),
        zone=reader.like("FRONT_ZONE", RESOURCE_ID, "the resource id of a private DNS zone"),
        certificate=reader.pem("FRONT_CERTIFICATE"),
    )


class _Reader:
    """One value after the other, each checked where it is read; what is absent or blank is empty text."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self._env = env

    def text(self, name: str) -> str:
        value = self._env.get(name, "").strip()
        if any(ord(c) < 32 for c in value):
            raise BadSetting(
                f"environment: {name}: holds a control character, perhaps a line break; give it on one line"
            )
        return value

    def like(self, name: str, pattern: re.Pattern[str], expected: str) -> str:
        value = self.text(name)
        if value and not pattern.fullmatch(value):
            raise BadSetting(f"environment: {name}: {value!r} is not {expected}")
        return value

    def url(self, name: str, schemes: tuple[str, ...] = ("http", "https")) -> str:
        value = self.text(name).rstrip("/")
        if not value:
            return ""
        try:
            parts = urlsplit(value)
            _ = parts.port
        except ValueError as error:
            raise BadSetting(f"environment: {name}: {value!r} is no address: {error}") from error
        if parts.username or parts.password:
            raise BadSetting(f"environment: {name}: holds a user or password; give the address alone")
        if parts.scheme not in schemes or not parts.hostname or parts.query or parts.fragment:
            expected = " or ".join(f"{s}://host[:port]" for s in schemes)
            raise BadSetting(f"environment: {name}: {value!r} is no address that can be used here; expected {expected}")
        return value

    def https(self, name: str) -> str:
        """Tokens go there, so nothing but TLS will do."""
        return self.url(name, ("https",))

    def secret(self, name: str) -> str:
        """It is sent in a header, so it may hold no blanks; and it is never repeated in an error."""
        value = self._resolved(name)
        if value and not TOKEN.fullmatch(value):
            raise BadSetting(f"environment: {name}: expected 8 to 512 printable characters without blanks")
        return value

    def secrets(self, name: str, least: int) -> str:
        """Secrets between blanks, each of at least so many characters; never repeated in an error."""
        value = self._resolved(name)
        if any(len(one) < least or not TOKEN.fullmatch(one) for one in value.split()):
            raise BadSetting(
                f"environment: {name}: expected a secret of {least} to 512 printable characters, or several with "
                "blanks between them"
            )
        return value

    def _resolved(self, name: str) -> str:
        """What may be kept in Key Vault: its text, and not the reference to it."""
        value = self.text(name)
        if value.startswith("@Microsoft.KeyVault("):
            raise BadSetting(f"environment: {name}: the reference to Key Vault was not resolved; look at its access")
        return value

    def pem(self, name: str) -> str:
        """A private key and a certificate chain in one text; the value is never repeated in an error."""
        value = self._env.get(name, "").strip()
        if value and not ("-----BEGIN CERTIFICATE-----" in value and "PRIVATE KEY-----" in value):
            hint = " (the reference to Key Vault was not resolved)" if value.startswith("@Microsoft.KeyVault(") else ""
            raise BadSetting(f"environment: {name}: expected a PEM with a private key and a certificate{hint}")
        return value

    def template_values(self) -> dict[str, str]:
        """Whatever is named ``TEMPLATE_…`` and not empty."""
        named = ((n.removeprefix(TEMPLATE_PREFIX), n) for n in self._env if n.startswith(TEMPLATE_PREFIX))
        return {short: value for short, name in sorted(named) if short and (value := self._env[name].strip())}

    def places(self, name: str) -> dict[str, Place]:
        """``second=<subscription id>/<resource group>, third=…``"""
        found = {}
        for entry in filter(None, (e.strip() for e in self.text(name).split(","))):
            place, _, where = entry.partition("=")
            subscription, _, group = where.partition("/")
            if not (PLACE.fullmatch(place) and GUID.fullmatch(subscription) and RESOURCE_GROUP.fullmatch(group)):
                raise BadSetting(
                    f"environment: {name}: {entry!r} is no place; write it like "
                    "`second=<subscription id>/<resource group>`"
                )
            found[place] = Place(subscription, group)
        return found

    def webhook(self, name: str) -> str:
        """An https address that may hold a key in its query, so it is never repeated in an error."""
        value = self.text(name)
        try:
            parts = urlsplit(value)
            good = parts.scheme == "https" and bool(parts.hostname) and not parts.fragment and parts.port != 0
        except ValueError:
            good = False
        if value and not good:
            raise BadSetting(f"environment: {name}: expected an address like https://host/path, query and all")
        return value

    def connection(self, name: str) -> str:
        """As Application Insights gives it: ``InstrumentationKey=…;IngestionEndpoint=https://…``."""
        value = self.text(name)
        if value and "instrumentationkey=" not in value.lower():
            raise BadSetting(f"environment: {name}: expected the connection string of Application Insights, whole")
        return value

    def identity(self, name: str) -> str | None:
        """``Authorization=AAD``, with ``ClientId=…`` where it is not the system's identity; None when not set."""
        pairs = dict(part.partition("=")[::2] for part in self.text(name).split(";") if part)
        if not pairs:
            return None
        client = pairs.get("ClientId", "")
        if pairs.get("Authorization") != "AAD" or (client and not GUID.fullmatch(client)):
            raise BadSetting(
                f"environment: {name}: expected `Authorization=AAD` or `ClientId=<guid>;Authorization=AAD`"
            )
        return client

    def cron(self, name: str) -> str:
        value = self.text(name)
        fields = value.split()
        if value and (len(fields) != 6 or not all(CRON_FIELD.fullmatch(f) for f in fields)):
            raise BadSetting(
                f"environment: {name}: {value!r} is no schedule of six fields (second minute hour day month weekday), "
                "like `*/15 * * * * *`"
            )
        return value

    def port(self, name: str, default: int) -> int:
        value = self.text(name)
        if not value:
            return default
        if not value.isascii() or not value.isdecimal() or int(value) > 65535:
            raise BadSetting(f"environment: {name}: {value!r} is no port; expected a number up to 65535")
        return int(value)
