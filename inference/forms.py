"""Equivalent forms of one torch module, and which of them is fastest for each batch size on this machine.

form       what it is                                             why it may win
eager      the module as it was loaded                            always right: the form all others are compared with
frozen     traced, weights as constants, dead code gone           no Python between the operators: small models
fused      frozen, then TorchScript's own passes for inference    operators joined
packed     eager, with the weights of linear layers in            batches of 2 to 64 on CPUs: the weights need not
           oneDNN's blocked layout                                be rearranged on every call
compiled   torch.compile (needs a C++ compiler; a setting)        large elementwise parts, GPUs

A form is used for a batch size only if it answered random rows of that size as eager did and was clearly faster.
"""

from __future__ import annotations

import copy
import logging
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.jit._trace import TracerWarning

from inference.model import time_call

log = logging.getLogger("inference.forms")

Form = Callable[[Tensor], Any]
CLEARLY = 0.95  # of the time of the best form so far
OWN_TRACE_BYTES = 32 * 2**20  # weights up to which every batch size may have a trace of its own
PACKED_FROM_BYTES = 2**18  # below, the interpreter costs more than the layout saves
PACKED_BYTES = 2**30  # weights up to which a second copy in another layout is kept
PACK_FOR_ROWS = 32  # oneDNN's hint: the layout for it was near the best from 2 to 128 rows
LONG_RUN_S = 0.004  # kernels that take longer than this do not mind the interpreter: fusing cannot pay


@dataclass(kw_only=True)
class Tuner:
    """Finds `calls`, `names` and `costs` (seconds), each by batch size. Run it under `torch.inference_mode`."""

    make: Callable[[], nn.Module]
    eager: nn.Module
    sizes: list[int]
    row_shape: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device
    budget_s: float
    use_compile: bool
    rough: bool
    calls: dict[int, Form] = field(default_factory=dict)
    names: dict[int, str] = field(default_factory=dict)
    costs: dict[int, float] = field(default_factory=dict)

    def tune(self) -> None:
        """Eager on every size first, so that there is an answer whenever the time is up."""
        self._until = time.monotonic() + self.budget_s
        self._samples = {size: self._sample(size) for size in self.sizes}
        self._wanted = {}
        for size, rows in self._samples.items():
            self._wanted[size] = _tensors(self.eager(rows))
            self.calls[size], self.names[size] = self.eager, "eager"
            self.costs[size] = time_call(self._synchronised(self.eager, rows))
        for name, build in self._builders():
            if time.monotonic() > self._until:
                log.info("tuning stopped", extra={"reason": "time is up", "before": name})
                break
            self._try(name, build)

    def _builders(self) -> Iterator[tuple[str, Callable[[int], Form]]]:
        if self.device.type == "cpu":
            weights = sum(p.numel() * p.element_size() for p in self.eager.parameters())
            packed = (
                pack_linears(self.make()) if PACKED_FROM_BYTES <= weights <= PACKED_BYTES and not self.rough else None
            )
            if packed is not None:
                yield "packed", lambda size: packed
        yield "frozen", lambda size: self._trace(self.eager, size, fuse=False)
        if self.device.type == "cpu":
            yield "fused", lambda size: self._trace(self.eager, size, fuse=True)
        if self.use_compile:
            yield "compiled", self._compile

    def _try(self, name: str, build: Callable[[int], Form]) -> None:
        """Builds the form once for a middle size and uses it wherever it holds; elsewhere one of its own, if cheap."""
        middle = min(self.sizes, key=lambda size: abs(size - PACK_FOR_ROWS))
        if name == "fused" and min(self.costs.values()) > LONG_RUN_S:
            return
        weights = sum(p.numel() * p.element_size() for p in self.eager.parameters())
        shared = self._build(name, build, middle)
        for size in self.sizes:
            if time.monotonic() > self._until:
                return
            if shared is not None and self._measure(name, shared, size):
                continue
            if weights <= OWN_TRACE_BYTES and size != middle:
                own = self._build(name, build, size)
                if own is not None:
                    self._measure(name, own, size)

    def _build(self, name: str, build: Callable[[int], Form], size: int) -> Form | None:
        try:
            with warnings.catch_warnings(record=True) as said:
                warnings.simplefilter("always")
                form = build(size)
            # What Python decided while tracing is not in the trace: such a form could answer other rows wrongly.
            if doubts := [w for w in said if issubclass(w.category, TracerWarning)]:
                raise ValueError(str(doubts[0].message))
            return form
        except Exception as error:  # a form that cannot be made is not needed: eager always can
            log.debug("form not available", extra={"form": name, "rows": size, "reason": _brief(error)})
            return None

    def _measure(self, name: str, form: Form, size: int) -> bool:
        """Whether the form holds for `size`; takes it if it is also clearly faster."""
        rows = self._samples[size]
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                for _ in range(2):  # TorchScript and oneDNN settle in the first two calls
                    if not self._same(_tensors(form(rows)), self._wanted[size]):
                        return False
                cost_s = time_call(self._synchronised(form, rows))
        except Exception as error:  # a trace of another batch size may fail in any way
            log.debug("form does not hold", extra={"form": name, "rows": size, "reason": _brief(error)})
            return False
        if cost_s < CLEARLY * self.costs[size]:
            self.calls[size], self.names[size], self.costs[size] = form, name, cost_s
        return True

    def _trace(self, module: nn.Module, size: int, *, fuse: bool) -> Form:
        traced = torch.jit.trace(module, self._samples[size], check_trace=False).eval()  # type: ignore[no-untyped-call]
        frozen = torch.jit.freeze(traced)
        return torch.jit.optimize_for_inference(frozen) if fuse else frozen

    def _compile(self, size: int) -> Form:
        compiled: Form = torch.compile(self.make(), dynamic=False)
        compiled(self._samples[size])
        return compiled

    def _sample(self, size: int) -> Tensor:
        shape = (size, *self.row_shape)
        generator = torch.Generator().manual_seed(size)
        if self.dtype.is_floating_point:
            return torch.randn(shape, generator=generator).to(self.dtype).to(self.device)
        return torch.randint(0, 2, shape, generator=generator).to(self.dtype).to(self.device)

    def _same(self, got: tuple[Tensor, ...], wanted: tuple[Tensor, ...]) -> bool:
        near = {"rtol": 2e-2, "atol": 2e-2} if self.rough else {"rtol": 1e-4, "atol": 1e-5}
        return len(got) == len(wanted) and all(
            g.shape == w.shape and g.dtype == w.dtype and torch.allclose(g, w, equal_nan=True, **near)
            for g, w in zip(got, wanted, strict=True)
        )

    def _synchronised(self, form: Form, rows: Tensor) -> Callable[[], object]:
        if self.device.type == "cpu":
            return lambda: form(rows)

        def call() -> None:
            form(rows)
            torch.cuda.synchronize(self.device)

        return call


def _tensors(out: Any) -> tuple[Tensor, ...]:
    return (out,) if isinstance(out, Tensor) else tuple(out)


def _brief(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"[:200]


class PackedLinear(nn.Module):
    """A linear layer whose weights lie in oneDNN's blocked layout; the plain ones stay for those who look at them."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.weight, self.bias = weight, bias
        # TorchScript can neither trace nor freeze this layout: the form stays in Python, which big layers do not mind.
        blocked = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), PACK_FOR_ROWS)
        self.register_buffer("blocked", blocked, persistent=False)

    def forward(self, rows: Tensor) -> Tensor:
        out: Tensor = torch.ops.mkldnn._linear_pointwise(rows, self.blocked, self.bias, "none", [], "")
        return out


def pack_linears(module: nn.Module) -> nn.Module | None:
    """A copy of `module` that shares its weights, with linear layers packed; None if there is nothing to pack."""
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return None
    shared = {id(tensor): tensor for tensor in _all_tensors(module)}
    copied = copy.deepcopy(module, shared)
    packed = _pack_graph(copied) if isinstance(copied, fx.GraphModule) else _pack_modules(copied)
    return copied if packed else None


def _all_tensors(module: nn.Module) -> Iterable[Tensor]:
    yield from module.parameters()
    yield from module.buffers()


def without_guards(module: nn.Module) -> nn.Module:
    """The module of a program without its check of the input's shape, which this server has made already."""
    if isinstance(module, fx.GraphModule):
        for node in list(module.graph.nodes):
            if node.op == "call_module" and node.target == "_guards_fn" and not node.users:
                module.graph.erase_node(node)
        module.recompile()
    return module


def _pack_modules(module: nn.Module) -> int:
    found = 0
    for name, child in list(module.named_children()):
        if type(child) is nn.Linear and child.weight.dtype == torch.float32:
            setattr(module, name, PackedLinear(child.weight, child.bias))
            found += 1
        else:
            found += _pack_modules(child)
    return found


def _pack_graph(module: fx.GraphModule) -> int:
    found = 0
    for node in list(module.graph.nodes):
        if node.op != "call_function" or node.target is not torch.ops.aten.linear.default:
            continue
        weight, *rest = [_constant(module, arg) for arg in node.args[1:]]
        bias = rest[0] if rest else None
        if weight is None or weight.dtype != torch.float32 or (rest and bias is None):
            continue
        name = f"packed_{found}"
        module.add_submodule(name, PackedLinear(weight, bias))
        with module.graph.inserting_before(node):
            replacement = module.graph.call_module(name, (node.args[0],))
        node.replace_all_uses_with(replacement)
        module.graph.erase_node(node)
        found += 1
    module.recompile()
    return found


def _constant(module: fx.GraphModule, arg: Any) -> Tensor | None:
    if not isinstance(arg, fx.Node) or arg.op != "get_attr":
        return None
    value: Any = module
    for part in str(arg.target).split("."):
        value = getattr(value, part)
    return value if isinstance(value, Tensor) else None
