"""One throw-away authority for all stand-ins of a test run, and one stand-in for the tests that change little."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.azurite import write_certificates
from tests.infra.arm.standin import StandIn, serving


@pytest.fixture(scope="session")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ca.pem, cert.pem and key.pem."""
    folder = tmp_path_factory.mktemp("tls")
    write_certificates(folder)
    return folder


@pytest.fixture(scope="module")
def standin(tmp_path_factory: pytest.TempPathFactory, tls: Path) -> Iterator[StandIn]:
    """A stand-in of the module's own."""
    with serving(tmp_path_factory.mktemp("stand-in"), tls, "--back-off", "0.5") as running:
        yield running
