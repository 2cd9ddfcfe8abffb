"""One throw-away authority for all stand-ins of a test run, and one stand-in for the tests that change little."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from tests.infra.arm.standin import StandIn, serving


@pytest.fixture(scope="session")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ca.pem, cert.pem and key.pem."""
    folder = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1", "localhost")
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    certificate.private_key_pem.write_to_path(str(folder / "key.pem"))
    for i, blob in enumerate(certificate.cert_chain_pems):
        blob.write_to_path(str(folder / "cert.pem"), append=i > 0)
    return folder


@pytest.fixture(scope="module")
def standin(tmp_path_factory: pytest.TempPathFactory, tls: Path) -> Iterator[StandIn]:
    """A stand-in of the module's own."""
    with serving(tmp_path_factory.mktemp("stand-in"), tls, "--back-off", "0.5") as running:
        yield running
