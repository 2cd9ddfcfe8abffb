"""A PyTorch model: a torch.export program, or safetensors with a factory; run in buckets, each in its fastest form."""

from __future__ import annotations

import importlib
import json
import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from inference.errors import BadSetting
from inference.forms import Form, Tuner, without_guards
from inference.model import Model, buckets_up_to
from inference.settings import Settings, cores
from inference.wire import CODES, Array, Outputs, Signature

log = logging.getLogger("inference.model")
GPU_DEPTH = 2  # one computed, one prepared
GPU_INLINE_S = 0.0002  # above, the event loop has better things to do than to wait for a GPU
WIRE_DTYPES = {getattr(torch, name): name for name in CODES}


class TorchModel(Model):
    """A module whose first dimension is the batch."""

    platform = "pytorch_torch"

    def __init__(  # noqa: PLR0913 - what a loader found out, all of it needed
        self,
        name: str,
        file: Path,
        *,
        make: Callable[[], nn.Module],
        row_shape: tuple[int, ...],
        dtype: torch.dtype,
        bounds: tuple[int, int],
        device: torch.device,
        settings: Settings,
        input_name: str = "data",
    ) -> None:
        self._make = make
        self._device = device
        self._gpu = Stream(device) if device.type == "cuda" else None
        if self._gpu is not None:
            self.depth, self.inline_s = GPU_DEPTH, GPU_INLINE_S
        self._input_dtype = dtype
        self._settings = settings
        low, high = bounds
        self._sizes = buckets_up_to(min(high, max(low, settings.max_batch_size)), low)
        self._eager = make()
        self._calls: dict[int, Form] = dict.fromkeys(self._sizes, self._eager)
        with torch.inference_mode():
            outputs = _tensors(self._eager(torch.zeros((self._sizes[0], *row_shape), dtype=dtype, device=device)))
        described = tuple(
            (f"output_{i}" if i else "predictions", _wire_dtype(out), tuple(out.shape[1:]))
            for i, out in enumerate(outputs)
        )
        if any(len(out.shape) == 0 or out.shape[0] != self._sizes[0] for out in outputs):
            raise BadSetting(f"The model {file} must answer one row for each row it is given.")
        signature = Signature(input_name=input_name, dtype=WIRE_DTYPES[dtype], row_shape=row_shape, outputs=described)
        super().__init__(name, file, signature)
        self.set_costs(dict.fromkeys(self._sizes, 0.0))

    def run(self, payloads: list[bytes], rows: int) -> Outputs:
        if rows > self.max_rows:
            return self._run_in_parts(b"".join(payloads), rows)
        size = self.buckets[0] if rows <= self.buckets[0] else self._cover[rows]
        packed = bytearray().join(payloads)
        if rows < size:
            packed.extend(bytes((size - rows) * self.signature.row_bytes))
        with torch.inference_mode():
            given = torch.frombuffer(packed, dtype=self._input_dtype).view(size, *self.signature.row_shape)
            if self._gpu is not None:
                return Outputs(self._gpu.run(self._calls[size], given, rows))
            out = self._calls[size](given)
            if isinstance(out, Tensor) and out.dtype != torch.bfloat16:
                return Outputs((out[:rows].numpy(),))
            return Outputs(tuple(_readable(t[:rows]).numpy() for t in _tensors(out)))

    def _run_in_parts(self, packed: bytes, rows: int) -> Outputs:
        import numpy as np  # noqa: PLC0415 - only for a request larger than the largest batch

        step, row_bytes = self.max_rows, self.signature.row_bytes
        parts = [
            self.run([packed[at * row_bytes : (at + step) * row_bytes]], min(step, rows - at))
            for at in range(0, rows, step)
        ]
        return Outputs(tuple(np.concatenate(arrays) for arrays in zip(*(p.arrays for p in parts), strict=True)))

    def set_costs(self, seconds: Any) -> None:
        super().set_costs(seconds)
        self._cover = [next(size for size in self.buckets if size >= rows) for rows in range(self.max_rows + 1)]

    def warm_up(self) -> None:
        """Times every form of the model on every batch size and keeps the fastest, within the time allowed."""
        tuner = Tuner(
            make=self._make,
            eager=self._eager,
            sizes=self._sizes,
            row_shape=self.signature.row_shape,
            dtype=self._input_dtype,
            device=self._device,
            budget_s=self._settings.tune_s,
            use_compile=self._settings.compile,
            rough=self._settings.dtype != "float32",
        )
        with torch.inference_mode():
            tuner.tune()
        self._sizes = tuner.sizes
        self._calls = tuner.calls
        self.forms = tuner.names
        self.set_costs(tuner.costs)
        for size in self._sizes:  # the whole way once, conversions included
            self.run([bytes(size * self.signature.row_bytes)], size)


class Stream:
    """The order of work on one GPU: threads put copies and kernels in turn and wait for their own outside of it."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._lock = threading.Lock()

    def run(self, form: Form, given: Tensor, rows: int) -> tuple[Array, ...]:
        """The first `rows` rows of each output, in the host's memory; `given` is in the host's memory too."""
        pinned = given.pin_memory()
        with self._lock, torch.cuda.stream(self._stream):
            out = _tensors(form(pinned.to(self._device, non_blocking=True)))
            fetched = [_readable(t[:rows]).to("cpu", non_blocking=True) for t in out]
            done = torch.cuda.Event()  # type: ignore[no-untyped-call]
            done.record(self._stream)
        done.synchronize()
        return tuple(t.numpy() for t in fetched)


def _readable(out: Tensor) -> Tensor:
    """numpy has no bfloat16."""
    return out.float() if out.dtype == torch.bfloat16 else out


def _tensors(out: Any) -> tuple[Tensor, ...]:
    if isinstance(out, Tensor):
        return (out,)
    if isinstance(out, tuple | list) and out and all(isinstance(t, Tensor) for t in out):
        return tuple(out)
    raise BadSetting(f"The model must answer a tensor or a tuple of tensors, not {type(out).__name__}.")


def _wire_dtype(out: Tensor) -> str:
    dtype = torch.float32 if out.dtype == torch.bfloat16 else out.dtype
    if dtype not in WIRE_DTYPES:
        raise BadSetting(f"The model answers {out.dtype}, which has no JSON form here.")
    return WIRE_DTYPES[dtype]


def load_torch(name: str, file: Path, settings: Settings) -> TorchModel:
    """The model in a `.pt2` or `.safetensors` file, on the device of the settings."""
    torch.set_num_threads(settings.threads or _cores())
    torch.set_grad_enabled(False)
    device = _device(settings.device)
    if file.suffix == ".pt2":
        return _load_program(name, file, settings, device)
    return _load_weights(name, file, settings, device)


def _cores() -> int:
    own = os.environ.get("OMP_NUM_THREADS", "")
    return int(own) if own.isdigit() and int(own) else cores()


def _device(text: str) -> torch.device:
    found = torch.cuda.is_available()
    if text == "auto":
        return torch.device("cuda:0" if found else "cpu")
    if text.startswith("cuda"):
        if not found:
            raise BadSetting(f"DEVICE is {text}, but PyTorch sees no GPU here: use auto or cpu.")
        index = int(text.partition(":")[2] or 0)
        if index >= torch.cuda.device_count():
            raise BadSetting(f"DEVICE is {text}, but there are only {torch.cuda.device_count()} GPUs.")
        return torch.device(f"cuda:{index}")
    return torch.device("cpu")


def _load_program(name: str, file: Path, settings: Settings, device: torch.device) -> TorchModel:
    if settings.dtype != "float32":
        raise BadSetting(f"DTYPE is {settings.dtype}, but the types of the program {file} are fixed: export it anew.")
    program = torch.export.load(file)
    if device.type != "cpu":
        from torch.export.passes import move_to_device_pass  # noqa: PLC0415 - only with a GPU

        program = move_to_device_pass(program, device)
    names = program.graph_signature.user_inputs
    if len(names) != 1:
        raise BadSetting(f"The program {file} takes {len(names)} inputs; this server feeds one tensor of rows.")
    given = next(node.meta["val"] for node in program.graph.nodes if node.name == names[0])
    if given.dtype not in WIRE_DTYPES or not given.shape:
        raise BadSetting(f"The program {file} takes {given.dtype} of shape {tuple(given.shape)}; rows are needed.")
    batch, *row = given.shape
    if any(not isinstance(size, int) for size in row):
        raise BadSetting(f"The program {file} has more than one free dimension; only the first may be free.")
    bounds = (batch, batch)
    if not isinstance(batch, int):
        span = program.range_constraints[batch.node.expr]
        bounds = (max(1, int(span.lower)), min(int(span.upper), 2**20) if span.upper.is_finite else 2**20)
    return TorchModel(
        name,
        file,
        make=lambda: without_guards(program.module()),
        row_shape=tuple(row),
        dtype=given.dtype,
        bounds=bounds,
        device=device,
        settings=settings,
        input_name=str(names[0]),
    )


def _load_weights(name: str, file: Path, settings: Settings, device: torch.device) -> TorchModel:
    from safetensors import safe_open  # noqa: PLC0415 - only for this format
    from safetensors.torch import load_file  # noqa: PLC0415

    with safe_open(file, "pt") as opened:
        spoken = (opened.metadata() or {}).get("factory", "")
    where = settings.factory or spoken
    if not where:
        raise BadSetting(
            f"The weights {file} need a factory: set MODEL_FACTORY=module:function, or name it in the file."
        )
    module, row_shape = _factory(where)()
    if not isinstance(module, nn.Module):
        raise BadSetting(f"MODEL_FACTORY {where} returned no nn.Module but a {type(module).__name__}.")
    module.load_state_dict(load_file(file))
    module.eval().to(device)
    if settings.dtype != "float32":
        module = _Cast(module, getattr(torch, settings.dtype))
    return TorchModel(
        name,
        file,
        make=lambda: module,
        row_shape=tuple(row_shape),
        dtype=torch.float32,
        bounds=(1, 2**20),
        device=device,
        settings=settings,
    )


class _Cast(nn.Module):
    """A module in a smaller type behind float32 rows."""

    def __init__(self, module: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.inner = module.to(dtype)
        self._dtype = dtype

    def forward(self, rows: Tensor) -> Any:
        return self.inner(rows.to(self._dtype))


def _factory(where: str) -> Any:
    module, _, function = where.partition(":")
    try:
        return getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise BadSetting(f"MODEL_FACTORY is {where}, which cannot be imported: {error}.") from None


def describe(file: Path, factory: str) -> dict[str, str]:
    """The metadata that a safetensors file should carry so that it needs no MODEL_FACTORY."""
    return {"factory": factory, "for": json.dumps(file.stem)}
