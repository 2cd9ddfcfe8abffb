"""Storage queues by the settings of a connection: an address with an identity, or a connection string."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from azure.identity.aio import DefaultAzureCredential, ManagedIdentityCredential
from azure.storage.queue.aio import QueueClient, QueueServiceClient

from infra.local.functions.errors import StartError

DEFAULT_CONNECTION = "AzureWebJobsStorage"


class Storage:
    """Clients of storage queues, one service client per connection. ``verify`` is a CA file, else the machine's own."""

    def __init__(self, env: Mapping[str, str], verify: str | None = None) -> None:
        # Azure's configuration knows no case and writes either separator.
        self._settings = {name.lower().replace(":", "__"): value for name, value in env.items()}
        self._services: dict[str, QueueServiceClient] = {}
        self._credentials: list[Any] = []
        self._options: dict[str, Any] = {"retry_total": 0, "connection_timeout": 5, "read_timeout": 30}
        if verify is not None:
            self._options["connection_verify"] = verify

    def check(self, connection: str, where: str) -> None:
        """Raise StartError when the settings of this connection do not say where its queues are."""
        prefix = connection or DEFAULT_CONNECTION
        if self._connection_string(prefix) is not None:
            return
        uri = self._service_uri(prefix)
        if uri is None:
            raise StartError(
                f"{where}: the connection {prefix} is not set; set {prefix}__queueServiceUri (with an identity) "
                f"or {prefix} (a connection string) in the environment"
            )
        if urlsplit(uri).scheme != "https" or not urlsplit(uri).netloc:
            raise StartError(f"{where}: {prefix}__queueServiceUri must be an https address, for tokens go there: {uri}")

    def queue(self, connection: str, name: str) -> QueueClient:
        """A client of this queue; nothing is asked yet."""
        prefix = connection or DEFAULT_CONNECTION
        if prefix not in self._services:
            self._services[prefix] = self._service(prefix)
        return self._services[prefix].get_queue_client(name)

    async def close(self) -> None:
        """Close every connection."""
        for closable in (*self._services.values(), *self._credentials):
            await closable.close()

    def _service(self, prefix: str) -> QueueServiceClient:
        text = self._connection_string(prefix)
        if text is not None:
            return QueueServiceClient.from_connection_string(text, **self._options)
        uri = self._service_uri(prefix)
        assert uri is not None, "check() came first"
        credential: Any
        if self._setting(prefix, "credential") == "managedidentity":
            credential = ManagedIdentityCredential(client_id=self._setting(prefix, "clientId"))
        else:
            credential = DefaultAzureCredential()
        self._credentials.append(credential)
        return QueueServiceClient(uri, credential=credential, **self._options)

    def _connection_string(self, prefix: str) -> str | None:
        return self._settings.get(prefix.lower()) or self._settings.get(f"azurewebjobs{prefix.lower()}")

    def _service_uri(self, prefix: str) -> str | None:
        account = self._setting(prefix, "accountName")
        default = f"https://{account}.queue.core.windows.net" if account else None
        return self._setting(prefix, "queueServiceUri") or default

    def _setting(self, prefix: str, name: str) -> str | None:
        return self._settings.get(f"{prefix}__{name}".lower()) or None
