"""The stand-in's memory: one file, replaced as a whole, readable by its owner only because secrets are in it."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
from msgspec import Struct, field

from infra.local.arm.groups import Kept
from infra.local.arm.limits import Window
from infra.local.arm.processes import Record
from scaler.errors import BadSetting


class Memory(Struct, kw_only=True):
    """Everything that outlives the program."""

    kept: Kept = field(default_factory=Kept)
    records: list[Record] = field(default_factory=list)
    windows: dict[str, Window] = field(default_factory=dict)


class Store:
    """The file of one data folder."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.file = folder / "state.json"

    def load(self) -> Memory:
        """What was kept last; nothing at the first start. Raises ``BadSetting`` for a file that is not ours."""
        try:
            return msgspec.json.decode(self.file.read_bytes(), type=Memory)
        except FileNotFoundError:
            return Memory()
        except msgspec.MsgspecError as error:
            raise BadSetting(
                f"{self.file}: not readable ({error}); delete it to begin without container groups"
            ) from error

    def save(self, memory: Memory) -> None:
        """Replace the file. A reader sees the old one or the new one, never half of it."""
        new = self.file.with_suffix(".new")
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as out:
            out.write(msgspec.json.encode(memory))
        new.replace(self.file)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Nobody else uses this folder meanwhile. Raises ``BadSetting`` if somebody does."""
        with (self.folder / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise BadSetting(
                    f"--data {self.folder}: another stand-in runs here; end it or choose another folder"
                ) from None
            yield
