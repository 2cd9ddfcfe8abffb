"""Starting a process that cannot outlive the one that started it."""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Callable

PR_SET_PDEATHSIG = 1
# Looked up before the fork: nothing between fork and exec may take a lock.
_prctl = ctypes.CDLL(None, use_errno=True).prctl


def die_with_parent(number: signal.Signals) -> Callable[[], None]:
    """A ``preexec_fn``: the kernel sends ``number`` to the process when the thread that started it is gone."""
    parent = os.getpid()

    def before_exec() -> None:
        _prctl(PR_SET_PDEATHSIG, int(number), 0, 0, 0)
        # The parent may have died before the line above.
        if os.getppid() != parent:
            os._exit(1)

    return before_exec


def die_with_my_parent(number: signal.Signals) -> None:
    """The same for this process: ``make`` killed by force must not leave the whole system behind."""
    _prctl(PR_SET_PDEATHSIG, int(number), 0, 0, 0)
