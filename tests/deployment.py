"""What a process of a deployment is given over Azurite and the stand-in: its settings in files and its environment."""

from __future__ import annotations

import os
from pathlib import Path

from tests.azurite import Azurite
from tests.stand_in import GROUP, SUBSCRIPTION, StandIn

TEMPLATE = """
properties:
  containers:
  - name: server
    properties:
      image: example.azurecr.io/idle:1
      ports: [{port: 8000}]
      resources: {requests: {cpu: 0.5, memoryInGB: 1.0}}
  ipAddress: {type: Public, ports: [{port: 8000}]}
"""


def deployed(
    folder: Path, azurite: Azurite, stand_in: StandIn, config: str, template: str = TEMPLATE, **more: str
) -> dict[str, str]:
    """The environment, once the files it names are written; ``more`` is added to it, or overrules it."""
    (folder / "replica.yaml").write_text(template)
    (folder / "autoscaler.yaml").write_text(config)
    (folder / "trust.pem").write_text(azurite.ca.read_text() + stand_in.ca.read_text())
    return {
        "PATH": os.environ["PATH"],
        "SSL_CERT_FILE": str(folder / "trust.pem"),
        "AUTOSCALER_CONFIG": str(folder / "autoscaler.yaml"),
        "AUTOSCALER_DEPLOYMENT_ID": "deployed",
        "AZURE_SUBSCRIPTION_ID": SUBSCRIPTION,
        "AUTOSCALER_RESOURCE_GROUP": GROUP,
        "AUTOSCALER_TABLE_ENDPOINT": azurite.table,
        "AUTOSCALER_ARM_ENDPOINT": stand_in.arm,
        "AZURE_CLIENT_ID": "00000000-0000-4000-8000-00000000001d",
        "REPLICA_TOKEN": "planted-secret",
        **stand_in.identity,
        **more,
    }
