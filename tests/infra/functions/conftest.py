"""Fixtures of the host's tests."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def _own_imports() -> Iterator[None]:
    """Each test loads its own function_app; afterwards the import system is as it was."""
    path, module = list(sys.path), sys.modules.get("function_app")
    yield
    sys.path[:] = path
    sys.modules.pop("function_app", None)
    if module is not None:
        sys.modules["function_app"] = module
