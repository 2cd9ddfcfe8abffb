"""The admin API as the command line calls it: one request, its JSON, or a reason why there is none."""

from __future__ import annotations

import http.client
import json
import ssl
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlencode, urlsplit
from urllib.request import HTTPRedirectHandler, HTTPSHandler, OpenerDirector, ProxyHandler, Request, build_opener

from scaler.errors import BadSetting

if TYPE_CHECKING:
    from scaler.settings import Settings

TIMEOUT_S = 60.0  # a tick that was asked for may wait for Azure
COMPLETION_LIMIT_S = 2.0
ANSWER_LIMIT_BYTES = 64 * 2**20
LOOPBACK = ("localhost", "127.0.0.1", "::1")


class Unreachable(Exception):
    """No answer that the command could use: exit code 3."""


class Refusal(Exception):
    """The API said no: exit code 2 where the caller can mend it, 1 where the answer simply is no."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.exit_code = 1 if status in (404, 409, 412) else 2


class _NoRedirects(HTTPRedirectHandler):
    """The key goes to the address that was given and nowhere else."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


class Client:
    """Calls the admin API at ``url`` (``AUTOSCALER_URL``) with ``key`` (``AUTOSCALER_KEY``)."""

    def __init__(self, url: str, key: str, *, timeout_s: float = TIMEOUT_S) -> None:
        if not url:
            raise BadSetting("environment: AUTOSCALER_URL: not set; give it the address of the function app")
        host = urlsplit(url).hostname or ""
        local = host in LOOPBACK or host.startswith("127.")
        if key and not local and not url.startswith("https://"):
            raise BadSetting(f"environment: AUTOSCALER_URL: {url} is not https, so the key would be open to be read")
        self.url = url.rstrip("/")
        self._key = key
        self._timeout_s = timeout_s
        self._opener = _opener(direct=local)

    def get(self, *path: str, **query: str | None) -> Any:
        return self.call("GET", *path, query=query)

    def call(self, method: str, *path: str, body: Any = None, query: dict[str, str | None] | None = None) -> Any:
        """Raises ``Refusal`` for a 4xx, ``Unreachable`` for no answer and for 5xx."""
        asked = {k: v for k, v in (query or {}).items() if v is not None}
        address = f"{self.url}/api/{'/'.join(quote(p, safe='') for p in path)}{'?' + urlencode(asked) if asked else ''}"
        headers = {"accept": "application/json"} | ({"x-functions-key": self._key} if self._key else {})
        data = None if body is None else json.dumps(body).encode()
        if data is not None:
            headers["content-type"] = "application/json"
        request = Request(address, data=data, headers=headers, method=method)  # noqa: S310 - Settings allows http(s) alone
        try:
            with self._opener.open(request, timeout=self._timeout_s) as response:
                return json.loads(response.read(ANSWER_LIMIT_BYTES))
        except HTTPError as error:
            _refused(error, self.url)
        except (URLError, OSError, http.client.HTTPException) as error:
            raise Unreachable(f"{self.url}: no answer: {getattr(error, 'reason', None) or error}") from error
        except ValueError as error:
            raise Unreachable(
                f"{self.url}: the answer is not JSON; is this the address of the function app?"
            ) from error


def named(where: Settings) -> list[str]:
    """The services that the app has, for completion: soon, or none at all."""
    try:
        body = Client(where.url, where.key, timeout_s=COMPLETION_LIMIT_S).get("services")
        return [str(s["service"]) for s in body["services"]]
    except (BadSetting, Unreachable, Refusal, KeyError, TypeError):
        return []


def _refused(error: HTTPError, url: str) -> NoReturn:
    with error:
        try:
            told = json.loads(error.read(ANSWER_LIMIT_BYTES))
            detail = str(told["detail"])
        except (ValueError, TypeError, KeyError, OSError, http.client.HTTPException):
            detail = ""
    if error.code in (401, 403):
        raise Refusal(error.code, f"{url}: the key is refused; set AUTOSCALER_KEY to one that may do this") from error
    if error.code >= 500:
        raise Unreachable(f"{url}: {error.code}: {detail or error.reason}") from error
    if error.code == 404 and not detail:
        raise Refusal(error.code, f"{url}: there is no admin API here; check AUTOSCALER_URL") from error
    raise Refusal(error.code, detail or f"{url}: {error.code} {error.reason}") from error


def _opener(*, direct: bool) -> OpenerDirector:
    handlers: list[Any] = [_NoRedirects(), HTTPSHandler(context=ssl.create_default_context())]
    if direct:
        handlers.append(ProxyHandler({}))
    return build_opener(*handlers)
