"""Address records in a private DNS zone: how the gateway finds the front, whose address Azure may change."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from azure.core.exceptions import AzureError
from azure.core.rest import HttpRequest

from scaler.azure.failures import unavailable
from scaler.errors import Unavailable
from scaler.ports import outgoing

if TYPE_CHECKING:
    from azure.mgmt.containerinstance.aio import ContainerInstanceManagementClient

API_VERSION = "2024-06-01"
CALL_LIMIT_S = 15.0
TTL_S = 10  # how long the gateway may go on with an address that is no longer right
ROLE = "`records` of infra/app/roles.json on the zone"


class AddressRecords:
    """The records of one zone, by the zone's resource id. Raises ``Unavailable`` when nothing was learned or done."""

    def __init__(self, arm: ContainerInstanceManagementClient, zone: str) -> None:
        self._arm, self._zone = arm, zone

    async def keep(self, name: str, address: str) -> bool:
        """Have the record say this one address; whether it had to be written."""
        if await self._addresses(name) == [address]:
            return False
        body = {"properties": {"ttl": TTL_S, "aRecords": [{"ipv4Address": address}]}}
        await self._send("PUT", name, body)
        return True

    async def _addresses(self, name: str) -> list[str]:
        found = await self._send("GET", name)
        return [r.get("ipv4Address", "") for r in found.get("properties", {}).get("aRecords", [])]

    async def _send(self, method: str, name: str, body: object = None) -> dict[str, Any]:
        """The answer; empty where there is no such record."""
        with outgoing("record"):
            return await self._answer(method, name, body)

    async def _answer(self, method: str, name: str, body: object) -> dict[str, Any]:
        what = f"record {name} of {self._zone.rpartition('/')[2]}"
        request = HttpRequest(method, f"{self._zone}/A/{name}?api-version={API_VERSION}", json=body)
        try:
            async with asyncio.timeout(CALL_LIMIT_S):
                response = await self._arm._send_request(request)  # its docstring offers it for this
                if method == "GET" and response.status_code == 404:
                    return {}
                response.raise_for_status()
                found: dict[str, Any] = response.json()
                return found
        except TimeoutError as error:
            raise Unavailable(f"{what}: no answer within {CALL_LIMIT_S:.0f} s") from error
        except AzureError as error:
            raise unavailable(what, error, role=ROLE) from error
        except ValueError as error:
            raise Unavailable(f"{what}: the answer could not be read") from error
