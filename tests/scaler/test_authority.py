"""One secret, one authority: what it signs is believed by whoever trusts it, for the names in it and no others."""

from __future__ import annotations

import ssl
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from inference import tls
from scaler.authority import Authority, name_of_replica, name_of_service

ROOT = Path(__file__).resolve().parents[2]
SECRET, OTHER = "a-secret-of-some-length", "another-secret-of-some-length"


def handshake(certificate: str, trusted: str, expected: str) -> None:
    """Both ends in memory, as strict as OpenSSL can be; raises what the client finds wrong."""
    trust = ssl.create_default_context(cadata=trusted)
    trust.verify_flags |= ssl.VERIFY_X509_STRICT
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = trust.wrap_bio(to_client, to_server, server_hostname=expected)
    server = tls.context(certificate).wrap_bio(to_server, to_client, server_side=True)
    steps: list[Callable[[], None]] = [client.do_handshake, server.do_handshake] * 3
    for step in steps:
        try:
            step()
        except ssl.SSLWantReadError:
            continue


def test_a_replica_is_believed_under_both_of_its_names() -> None:
    authority = Authority(SECRET)
    certificate = authority.certify("iris", "iris-7f3a", time.time())
    for expected in (name_of_replica("iris-7f3a"), name_of_service("iris")):
        handshake(certificate, authority.trusted, expected)


@pytest.mark.parametrize("expected", [name_of_replica("iris-0000"), name_of_service("other"), "iris-7f3a", "127.0.0.1"])
def test_it_is_not_believed_under_any_other(expected: str) -> None:
    authority = Authority(SECRET)
    with pytest.raises(ssl.SSLCertVerificationError, match="mismatch"):
        handshake(authority.certify("iris", "iris-7f3a", time.time()), authority.trusted, expected)


def test_another_authoritys_certificate_is_not_believed() -> None:
    certificate = Authority(OTHER).certify("iris", "iris-7f3a", time.time())
    with pytest.raises(ssl.SSLCertVerificationError, match="issuer certificate"):
        handshake(certificate, Authority(SECRET).trusted, name_of_replica("iris-7f3a"))


def test_a_new_secret_signs_while_the_old_one_is_still_trusted() -> None:
    both = Authority(f"{OTHER} {SECRET}")
    old = Authority(SECRET).certify("iris", "iris-7f3a", time.time())
    new = both.certify("iris", "iris-8000", time.time())
    handshake(old, both.trusted, name_of_replica("iris-7f3a"))
    handshake(new, both.trusted, name_of_replica("iris-8000"))
    handshake(new, Authority(OTHER).trusted, name_of_replica("iris-8000"))


def test_every_process_with_the_secret_has_the_same_authority_and_no_replica_the_same_key() -> None:
    told = "import sys; from scaler.authority import Authority; print(Authority(sys.stdin.read()).trusted, end='')"
    ran = subprocess.run(
        [sys.executable, "-c", told], cwd=ROOT, input=SECRET, capture_output=True, text=True, check=True
    )
    authority = Authority(SECRET)
    assert ran.stdout == authority.trusted
    assert authority.certify("iris", "iris-1", 0.0) != authority.certify("iris", "iris-1", 0.0)


def test_what_stands_for_a_secret_tells_nothing_to_who_has_not_ours() -> None:
    told = Authority(SECRET).stands_for("a-token")
    assert told == Authority(f"{SECRET} {OTHER}").stands_for("a-token"), "the first signs, so its word counts"
    assert len({told, Authority(OTHER).stands_for("a-token"), Authority(SECRET).stands_for("b-token")}) == 3
    assert Authority(SECRET).stands_for("") == ""


def test_neither_secret_nor_key_shows() -> None:
    authority = Authority(SECRET)
    shown = repr(authority) + authority.trusted + authority.certify("iris", "iris-7f3a", 0.0)
    assert SECRET not in shown
    assert authority.trusted.count("PRIVATE KEY") == 0


def test_a_replica_gets_its_certificate_without_a_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / "nowhere"))
    monkeypatch.chdir(tmp_path)
    tls.context(Authority(SECRET).certify("iris", "iris-7f3a", time.time()))
    assert list(tmp_path.iterdir()) == []
