"""Parts as simple as can be, and a program that supervises them (``… trivial FOLDER PORT PORT``)."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from pathlib import Path

from infra.local.supervisor import Part, Supervisor

SERVE = """
import http.server, signal, sys
if "stubborn" in sys.argv: signal.signal(signal.SIGTERM, signal.SIG_IGN)
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.send_header("content-length", "0"); self.end_headers()
    def log_message(self, *_): pass
print("listening", flush=True)
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


def free_port() -> int:
    """A port that nobody has at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def part(key: str, port: int, *words: str, level: int = 0, program: str = SERVE) -> Part:
    """A part that answers 200 on its port; with the word ``stubborn`` it does not listen to SIGTERM."""
    return Part(
        key=key,
        name=f"part {key}",
        command=(sys.executable, "-c", program, str(port), *words),
        environment=dict(os.environ),
        ready_url=f"http://127.0.0.1:{port}/",
        level=level,
    )


async def main(folder: Path, ports: list[int]) -> None:
    """Start a part for each port, the last one stubborn; print their processes; stay."""
    supervisor = Supervisor(folder, lambda line: print(line, flush=True))
    words = [("stubborn",) if port == ports[-1] else () for port in ports]
    await supervisor.start([part(f"p{i}", port, *words[i]) for i, port in enumerate(ports)])
    print(*(supervisor.pid(f"p{i}") for i in range(len(ports))), flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), [int(port) for port in sys.argv[2:]]))
