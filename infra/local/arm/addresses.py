"""Addresses of 127.64.0.0/16: each container group has its own, and none comes back soon."""

from __future__ import annotations

from collections.abc import Callable, Container

NETWORK = "127.64"
HOSTS = 256 * 254
MOST_PROBES = 100
Free = Callable[[str, int], bool]


def address(number: int) -> str:
    """The ``number``-th address of the network; .0 and .255 are left out."""
    third, fourth = divmod(number % HOSTS, 254)
    return f"{NETWORK}.{third}.{fourth + 1}"


class Addresses:
    """Hands out addresses in turn from ``next_number`` on; ``is_free`` may refuse one that another program uses."""

    def __init__(self, next_number: int, is_free: Free = lambda _address, _port: True) -> None:
        self.next_number = next_number % HOSTS
        self._is_free = is_free

    def take(self, used: Container[str | None], port: int) -> str:
        """The next address that no group has and on which the port is free."""
        for tried in range(HOSTS):
            candidate = address(self.next_number)
            self.next_number = (self.next_number + 1) % HOSTS
            # A program that listens on this port of every address is for the process itself to complain about.
            if candidate not in used and (tried >= MOST_PROBES or self._is_free(candidate, port)):
                return candidate
        raise AssertionError("65 024 groups on one machine")
