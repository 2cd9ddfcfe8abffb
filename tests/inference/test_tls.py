"""The server with a certificate of its own: TLS alone, key and certificate from the environment, nothing on a disk."""

from __future__ import annotations

import json
import os
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import trustme

from tests.inference.process import ROOT, Replica, until

NAME = "r-1.test"
FLOWERS = b'{"data": [[5.1, 3.5, 1.4, 0.2], [6.7, 3.0, 5.2, 2.3]]}'


def one_line(certificate: trustme.LeafCert) -> str:
    """Key and certificate as the autoscaler gives them: line breaks written out."""
    blobs = (certificate.private_key_pem, *certificate.cert_chain_pems)
    return b"".join(blob.bytes() for blob in blobs).decode().replace("\n", "\\n")


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA(key_type=trustme.KeyType.ECDSA)


def ask(replica: Replica, trust: ssl.SSLContext, request: bytes) -> Any:
    """One request over TLS: the answer's body, decoded."""
    with trust.wrap_socket(replica.connect(), server_hostname=NAME) as client:
        client.sendall(request)
        said = b""
        while more := client.recv(65536):
            said += more
    return json.loads(said.partition(b"\r\n\r\n")[2])


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".encode()


@pytest.mark.parametrize("workers", ["1", "2"])
def test_it_serves_tls_and_answers_nothing_in_plain_text(
    start: Callable[..., Replica], authority: trustme.CA, workers: str
) -> None:
    trust = ssl.create_default_context(cadata=authority.cert_pem.bytes().decode())
    one = start(TLS_CERTIFICATE=one_line(authority.issue_cert(NAME)), WORKERS=workers).listening()
    until(lambda: ask(one, trust, get("/stats"))["phase"] == "ready", "ready")
    post = b"POST /predict HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % len(FLOWERS)
    assert ask(one, trust, post + FLOWERS) == {"predictions": [0, 2]}
    with one.connect() as plain:
        plain.sendall(get("/stats"))
        assert said_in_plain_text(plain) == b""
    assert one.stop() == 0


def said_in_plain_text(plain: socket.socket) -> bytes:
    """What is readable of the answer; the alert of TLS is none."""
    said = b""
    try:
        while more := plain.recv(65536):
            said += more
    except ConnectionResetError:
        pass
    return b"" if said[:1] == b"\x15" else said


def test_the_health_check_of_the_image_speaks_it_too(start: Callable[..., Replica], authority: trustme.CA) -> None:
    certificate = one_line(authority.issue_cert(NAME))
    one = start(TLS_CERTIFICATE=certificate).listening()
    given = {"PATH": os.environ["PATH"], "HOST": "127.0.0.1", "PORT": str(one.port)}
    check = [sys.executable, "-m", "inference", "--check"]
    codes = [
        subprocess.run(check, cwd=ROOT, env=given | more, timeout=50, check=False).returncode
        for more in ({"TLS_CERTIFICATE": certificate}, {})
    ]
    assert codes == [0, 1]


@pytest.mark.parametrize("which", ["no PEM", "key alone", "two that do not belong together"])
def test_a_certificate_that_cannot_be_used_is_one_sentence_without_the_key(authority: trustme.CA, which: str) -> None:
    first, second = authority.issue_cert(NAME), authority.issue_cert(NAME)
    key = first.private_key_pem.bytes().decode()
    text = {"no PEM": "planted", "key alone": key}.get(which, key + second.cert_chain_pems[0].bytes().decode())
    given = {"PATH": os.environ["PATH"], "HOST": "127.0.0.1", "PORT": "0", "TLS_CERTIFICATE": text}
    command = [sys.executable, "-m", "inference"]
    ran = subprocess.run(command, cwd=ROOT, env=given, capture_output=True, text=True, timeout=50, check=False)
    assert ran.returncode == 2
    (sentence,) = ran.stderr.splitlines()
    assert sentence.startswith("TLS_CERTIFICATE ")
    assert not any(line in ran.stderr for line in [*key.splitlines()[1:-1], "planted"])
