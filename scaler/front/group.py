"""The container group that the front is on Azure: Envoy with discovery beside it, and what both start with. Pure.

Bootstrap, services and certificate travel as a secret volume, so that a front needs nothing but its images; its tag
``template`` is the hash of all that, and a front with another one is brought up to date in place.
"""

from __future__ import annotations

import hashlib
import json
from base64 import b64encode
from collections.abc import Mapping

from scaler.authority import Authority
from scaler.front.bootstrap import bootstrap
from scaler.front.layout import Address, Layout
from scaler.model import Json
from scaler.ports import GroupRequest
from scaler.settings import FrontSettings, Settings

ROLE = "front"
FOLDER = "/etc/front"
EVERYWHERE, LOOPBACK = "0.0.0.0", "127.0.0.1"  # noqa: S104 - the front serves its network
PLAIN_PORT, TLS_PORT, DISCOVERY_PORT, ADMIN_PORT = 8080, 443, 8081, 9901
ENVOY_SIZE = {"cpu": 0.5, "memoryInGB": 1.0}
DISCOVERY_SIZE = {"cpu": 0.5, "memoryInGB": 0.5}
HEAP_BYTES = 768 * 2**20  # of Envoy's gigabyte: held bodies count, the rest is its own


def front_request(settings: Settings, hold_limits_s: Mapping[str, float]) -> GroupRequest:
    """The PUT that makes the front. ``hold_limits_s`` gives every service's, in the order of the configuration."""
    front = settings.front
    files = _files(settings, hold_limits_s)
    properties = {
        "osType": "Linux",
        "restartPolicy": "Always",
        "containers": [_envoy(front), _discovery(settings)],
        "volumes": [{"name": "front", "secret": {name: b64encode(text).decode() for name, text in files.items()}}],
        "imageRegistryCredentials": _credentials(front),
        "ipAddress": _address(front),
    }
    if front.subnet:
        properties["subnetIds"] = [{"id": front.subnet}]
    body: Json = {"location": front.region, "properties": properties}
    if front.identity:
        body["identity"] = {"type": "UserAssigned", "userAssignedIdentities": {front.identity: {}}}
    digest = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()[:12]
    body["tags"] = {"aci-autoscaler": settings.deployment_id, "role": ROLE, "template": digest}
    return GroupRequest(name=f"{settings.deployment_id}-front", body=json.dumps(body).encode())


def port_of(front: FrontSettings) -> int:
    """Where clients, or the gateway, reach Envoy."""
    return TLS_PORT if front.certificate else PLAIN_PORT


def _files(settings: Settings, hold_limits_s: Mapping[str, float]) -> dict[str, bytes]:
    """What lies in the volume, by name."""
    front, authority = settings.front, settings.replica_authority
    layout = Layout(
        services=hold_limits_s,
        listen=Address(EVERYWHERE, port_of(front)),
        discovery=Address(LOOPBACK, DISCOVERY_PORT),
        admin=Address(LOOPBACK, ADMIN_PORT),
        heap_limit_bytes=HEAP_BYTES,
        certificate=f"{FOLDER}/certificate.pem" if front.certificate else None,
        trusted=Authority(authority).trusted if authority else None,
    )
    services = {name: {"hold_limit_s": limit_s} for name, limit_s in hold_limits_s.items()}
    files = {
        "envoy.json": json.dumps(bootstrap(layout)).encode(),
        "autoscaler.yaml": json.dumps({"services": services}).encode(),
    }
    return files | ({"certificate.pem": front.certificate.encode()} if front.certificate else {})


def _envoy(front: FrontSettings) -> Json:
    command = ["/usr/local/bin/envoy", "-c", f"{FOLDER}/envoy.json", "--disable-hot-restart", "--log-level", "warning"]
    return _container("envoy", front.envoy_image, command, ENVOY_SIZE, [], port_of(front))


def _discovery(settings: Settings) -> Json:
    given = {
        "AUTOSCALER_CONFIG": f"{FOLDER}/autoscaler.yaml",
        "AUTOSCALER_TABLE_ENDPOINT": settings.table_endpoint,
        "AUTOSCALER_QUEUE_ENDPOINT": settings.queue_endpoint,
        "AZURE_CLIENT_ID": settings.front.client_id,
        "DISCOVERY_HOST": LOOPBACK,
        "DISCOVERY_PORT": str(DISCOVERY_PORT),
    }
    variables = [{"name": name, "value": value} for name, value in given.items() if value]
    image = settings.front.discovery_image
    return _container("discovery", image, ["python", "-m", "scaler", "discovery"], DISCOVERY_SIZE, variables, None)


def _container(
    name: str, image: str, command: list[str], size: Mapping[str, float], variables: list[Json], port: int | None
) -> Json:
    properties: Json = {
        "image": image,
        "command": command,
        "resources": {"requests": dict(size)},
        "volumeMounts": [{"name": "front", "mountPath": FOLDER, "readOnly": True}],
        "environmentVariables": variables,
    }
    if port is not None:
        properties["ports"] = [{"port": port, "protocol": "TCP"}]
    return {"name": name, "properties": properties}


def _credentials(front: FrontSettings) -> list[Json]:
    servers = dict.fromkeys(image.partition("/")[0] for image in (front.envoy_image, front.discovery_image))
    return [{"server": server, "identity": front.identity} for server in servers] if front.identity else []


def _address(front: FrontSettings) -> Json:
    address: Json = {
        "type": "Private" if front.subnet else "Public",
        "ports": [{"port": port_of(front), "protocol": "TCP"}],
    }
    if front.dns_label and not front.subnet:
        address["dnsNameLabel"] = front.dns_label
    return address
