"""What NVML says about the GPUs of this machine; an empty list where there is no GPU, driver or library."""

from __future__ import annotations

import os
from typing import Any


def visible(ids: list[str], allowed: str | None) -> list[int]:
    """Which of the GPUs with these UUIDs CUDA_VISIBLE_DEVICES allows: numbers or beginnings of UUIDs; unset: all."""
    if allowed is None:
        return list(range(len(ids)))
    found: list[int] = []
    for word in (part.strip() for part in allowed.split(",")):
        numbers = [i for i, uuid in enumerate(ids) if (word.isdigit() and int(word) == i) or uuid.startswith(word)]
        if not word or not numbers:  # CUDA, too, stops at the first that is none
            break
        found.append(numbers[0])
    return found


class Gpus:
    """The GPUs this replica may use, read on demand."""

    def __init__(self) -> None:
        self._nvml: Any = None
        self._handles: list[Any] = []
        try:
            import pynvml  # noqa: PLC0415 - not needed to serve

            pynvml.nvmlInit()
        except Exception:  # ImportError, or NVML's own errors: no driver is the ordinary case on ACI
            return
        self._nvml = pynvml
        handles = [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())]
        ids = [str(pynvml.nvmlDeviceGetUUID(handle)) for handle in handles]
        self._handles = [handles[i] for i in visible(ids, os.environ.get("CUDA_VISIBLE_DEVICES"))]

    def read(self) -> list[dict[str, float | int]]:
        """One entry a GPU: utilization 0..1 and memory in bytes; a GPU that fell off the bus is left out."""
        found: list[dict[str, float | int]] = []
        for handle in self._handles:
            try:
                memory = self._nvml.nvmlDeviceGetMemoryInfo(handle)
                rates = self._nvml.nvmlDeviceGetUtilizationRates(handle)
            except self._nvml.NVMLError:
                continue
            found.append(
                {
                    "utilization": rates.gpu / 100,
                    "memory_used_bytes": int(memory.used),
                    "memory_total_bytes": int(memory.total),
                }
            )
        return found
