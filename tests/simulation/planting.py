"""How a fault is planted: one name of the production code is bound to something wrong, for a while."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

Patch = tuple[object, str, Callable[[Any], Any]]  # where, what, and from the right code the wrong one


@contextmanager
def planted(fault: Callable[[], Patch]) -> Iterator[None]:
    """Within it, the fault is at work."""
    where, what, wrong = fault()
    right = vars(where)[what]
    setattr(where, what, wrong(right))
    try:
        yield
    finally:
        setattr(where, what, right)
