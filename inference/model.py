"""What every model offers the batcher: run packed rows, and how long each batch size takes."""

from __future__ import annotations

import bisect
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path

from inference.errors import BadSetting
from inference.settings import Settings
from inference.wire import Outputs, RowsReader, Signature

INLINE_S = 0.001
CLEARLY = 1.1


def buckets_up_to(high: int, low: int = 1) -> list[int]:
    """Batch sizes 1, 2, 3, 4, 6, 8, 12, 16, … within [low, high]: two a doubling, so that padding wastes little."""
    sizes = {low, high}
    size = 1
    while size <= high:
        sizes |= {size, size + size // 2}
        size *= 2
    return sorted(size for size in sizes if low <= size <= high)


class Model(ABC):
    """A loaded model. `name`, `file` and `signature` say which; `platform` and `forms` say how it runs."""

    platform = ""
    depth = 1  # batches that may be in hand at once
    inline_s = INLINE_S  # a batch up to so long runs on the event loop's thread

    def __init__(self, name: str, file: Path, signature: Signature) -> None:
        self.name = name
        self.file = file
        self.signature = signature
        self.reader = RowsReader(signature)
        self.version = str(int(file.stat().st_mtime))
        self.loaded_at = time.time()
        self.forms: dict[int, str] = {}
        self.set_costs({1: 0.0})

    @abstractmethod
    def run(self, payloads: list[bytes], rows: int) -> Outputs:
        """The outputs for `rows` packed rows; raises whatever the model raises."""

    @abstractmethod
    def warm_up(self) -> None:
        """Runs every batch size once at least, measures them and calls `set_costs`."""

    def set_costs(self, seconds: Mapping[int, float]) -> None:
        """Takes the measured seconds of each bucket and makes the tables that the batcher reads."""
        self.buckets = sorted(seconds)
        self.max_rows = self.buckets[-1]
        # A smaller batch can always be padded to a larger one: whatever says otherwise is noise of the measurement.
        costs = [min(seconds[larger] for larger in self.buckets if larger >= size) for size in self.buckets]
        cover = [bisect.bisect_left(self.buckets, rows) for rows in range(self.max_rows + 1)]
        self._cost = [costs[index] for index in cover]
        self.inline_rows = max((size for size in self.buckets if self._cost[size] < self.inline_s), default=0)
        self._take = [self._best(rows) for rows in range(self.max_rows + 1)]

    def _best(self, rows: int) -> int:
        """Of `rows` waiting, how many to take now: all, padded, or a full bucket if it serves clearly more a second."""

        def rate(size: int) -> float:
            return size / max(self._cost[size], 1e-9)

        best = max((size for size in self.buckets if size <= rows), key=rate, default=rows)
        return best if rate(best) > CLEARLY * rate(rows) else rows

    def cost_s(self, rows: int) -> float:
        """Seconds that `rows` take, in as many batches as needed."""
        if rows <= self.max_rows:
            return self._cost[rows]
        full, rest = divmod(rows, self.max_rows)
        return full * self._cost[-1] + (self._cost[rest] if rest else 0.0)

    def take(self, rows: int) -> int:
        """How many of `rows` waiting rows the next batch should hold."""
        return self._take[min(rows, self.max_rows)]


def time_call(
    call: Callable[[], object],
    *,
    at_most_s: float = 0.05,
    runs: int = 5,
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    """The least seconds by `clock` that `call` took, over up to `runs` runs and `at_most_s` seconds; at least two."""
    best, begun_at = float("inf"), clock()
    for run in range(runs):
        at = clock()
        call()
        now = clock()
        best = min(best, now - at)
        if run and now - begun_at > at_most_s:
            break
    return best


def load(name: str, file: Path, settings: Settings) -> Model:
    """The model in `file`, ready for `warm_up`; raises BadSetting with what is wrong with the file."""
    try:
        if file.suffix in {".joblib", ".skops"}:
            from inference.sklearn_model import load_estimator  # noqa: PLC0415 - scikit-learn takes a second to import

            return load_estimator(name, file, settings)
        from inference.torch_model import load_torch  # noqa: PLC0415 - torch takes two seconds to import

        return load_torch(name, file, settings)
    except BadSetting:
        raise
    except ImportError as error:
        raise BadSetting(f"The model {file} needs a library that is not installed: {error}.") from error
    except Exception as error:  # a broken file raises almost anything: RuntimeError, KeyError, BadZipFile, …
        raise BadSetting(f"The model {file} cannot be loaded: {type(error).__name__}: {error}") from error
