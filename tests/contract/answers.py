"""A server that gives every request the same answer, over TLS or not: for answers that no honest server gives."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path


@asynccontextmanager
async def answering(
    folder: Path | None, body: bytes, *, status: str = "200 OK", headers: str = "Content-Type: application/json"
) -> AsyncIterator[str]:
    """Its address. ``folder`` holds ``cert.pem`` and ``key.pem``; None: no TLS. ``headers`` may say another length than
    the body has."""
    context = None
    if folder is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    length = "" if "Content-Length" in headers or "chunked" in headers else f"Content-Length: {len(body)}\r\n"
    answer = f"HTTP/1.1 {status}\r\n{headers}\r\n{length}Connection: close\r\n\r\n".encode() + body

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
            await writer.drain()
            writer.close()
            await writer.wait_closed()
        except (OSError, asyncio.IncompleteReadError):
            writer.close()  # the client left, and that is its right

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    async with server:
        port = server.sockets[0].getsockname()[1]
        yield f"{'https' if context else 'http'}://127.0.0.1:{port}"
