"""A replica as a program, to be killed: starts quickly, prints its port, and answers, stalls, or dies of poison."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

NAME, HOST, PORT, MOOD = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]


class Answers(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._say({})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        asked = urlsplit(self.path)
        if MOOD == "dies" and asked.path == "/poison":
            os._exit(1)
        if MOOD == "stalls":
            threading.Event().wait()
        time.sleep(float(parse_qs(asked.query).get("sleep", ["0"])[0]))
        self._say({"replica": NAME, "bytes": len(body), "sha256": hashlib.sha256(body).hexdigest()})

    def _say(self, value: object) -> None:
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


class Server(ThreadingHTTPServer):
    request_queue_size = 1024
    daemon_threads = True


with Server((HOST, PORT), Answers) as server:
    print(server.server_address[1], flush=True)
    server.serve_forever()
