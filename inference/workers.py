"""More than one process for one replica: a master forks WORKERS servers that share the socket, and replaces the dead.

Worker 0 listens at once and says "starting" while its model loads; the others listen once they can answer.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import signal
import socket
import time
from types import FrameType

from inference import server
from inference.ledger import Ledger
from inference.service import Place
from inference.settings import Settings

log = logging.getLogger("inference.workers")
BACK_OFF_S = 1.0
PR_SET_PDEATHSIG = 1
SIGNALS = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}


def _end_with_parent() -> None:
    """Has the kernel stop this process when the master is gone, however that ended: no worker stays behind."""
    master = os.getppid()
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != master:  # it went before the kernel knew
        os.kill(os.getpid(), signal.SIGTERM)


class Master:
    """The parent of the workers; it answers no requests."""

    def __init__(self, settings: Settings, bound: socket.socket) -> None:
        self._settings = settings
        self._bound = bound
        self._ledger = Ledger(settings.workers)
        self._slots: dict[int, int] = {}  # process → slot
        self._started_at = [0.0] * settings.workers
        self._start_id = server.new_start_id()
        self._stopping = False

    def run(self) -> int:
        """Until told to stop, or until a worker finds that the model cannot be served; the exit code."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        signal.signal(signal.SIGHUP, self._pass_on)
        for slot in range(self._settings.workers):
            self._fork(slot, fresh=slot == 0)
        code = 0
        while self._slots:
            try:
                pid, status = os.wait()
            except ChildProcessError:
                break
            slot = self._slots.pop(pid)
            ended = os.waitstatus_to_exitcode(status)
            if ended == 2:
                code = 2
                self._stop(signal.SIGTERM, None)
            elif not self._stopping:
                log.error("worker died", extra={"worker": slot, "exit_code": ended})
                time.sleep(max(0.0, self._started_at[slot] + BACK_OFF_S - time.monotonic()))
                self._fork(slot, fresh=False)
        return code

    def _fork(self, slot: int, *, fresh: bool) -> None:
        self._started_at[slot] = time.monotonic()
        # A signal just after the fork would run the handler of the master in the child, and be lost.
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        pid = os.fork()
        if pid:
            self._slots[pid] = slot
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
            if self._stopping:  # told to stop before the slot was known
                os.kill(pid, signal.SIGTERM)
            return
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until the server listens to it
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        _end_with_parent()
        place = Place(ledger=self._ledger, slot=slot, start_id=self._start_id, listens_at_once=fresh)
        server.leave(server.serve(self._settings, self._bound, place))

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self._stopping = True
        self._pass_on(signal.SIGTERM, frame)

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        for pid in list(self._slots):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
