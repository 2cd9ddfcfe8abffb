"""Equivalent forms of one torch module, and which of them is fastest for each batch size on this machine.

form       what it is                                             why it may win
eager      the module as it was loaded                            always right: the form all others are compared with
frozen     traced, weights as constants, dead code gone           no Python between the operators: small models
fused      frozen, then TorchScript's own passes for inference    operators joined
packed     eager, with the weights of linear layers in            batches of 2 to 64 on CPUs: the weights need not
           oneDNN's blocked layout                                be rearranged on every call
graphed    a CUDA graph: all kernel launches of a batch as one    GPUs: small batches, and free hands for Python
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
CLEARLY = 0.95  # of eager's time
RACING = 0.3  # share of the time that is kept for comparing what was made
ROUNDS = 8
NEAR = 1.5  # a form slower than so many times the best is out of the race
OWN_TRACE_BYTES = 32 * 2**20  # weights up to which every batch size may have a trace of its own
PACKED_FROM_BYTES = 2**18  # below, the interpreter costs more than the layout saves
PACKED_BYTES = 2**30  # weights up to which a second copy in another layout is kept
PACK_FOR_ROWS = 32  # oneDNN's hint: the layout for it was near the best from 2 to 128 rows
LONG_RUN_S = 0.004  # kernels that take longer than this do not mind the interpreter: fusing cannot pay


@dataclass(slots=True)
class Contender:
    """A form that answers one batch size rightly, and the least seconds it took so far."""

    name: str
    call: Form
    cost_s: float


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
        """Eager on every size first, so that there is an answer whenever the time is up; then all forms race."""
        self._until = time.monotonic() + self.budget_s
        make_until = self._until - RACING * self.budget_s
        self._samples = {size: self._sample(size) for size in self.sizes}
        self._wanted: dict[int, tuple[Tensor, ...]] = {}
        self._contenders: dict[int, list[Contender]] = {}
        for size, rows in self._samples.items():
            try:
                self._wanted[size] = _tensors(self.eager(rows))
                cost_s = self._time(self.eager, rows, 0.05)
            except torch.OutOfMemoryError:
                if size == self.sizes[0]:
                    raise
                log.warning("larger batches do not fit into the GPU's memory", extra={"rows": size})
                self.sizes = [smaller for smaller in self.sizes if smaller < size]
                break
            self._contenders[size] = [Contender("eager", self.eager, cost_s)]
        for name, build in self._builders():
            if time.monotonic() > make_until:
                log.info("tuning stopped", extra={"reason": "time is up", "before": name})
                break
            self._try(name, build, make_until)
        self._race()
        for size, contenders in self._contenders.items():
            taken = _choose(contenders)
            self.calls[size], self.names[size], self.costs[size] = taken.call, taken.name, taken.cost_s

    def _race(self) -> None:
        """All sizes and forms in turn, several times: what else runs on the machine slows a round, not one of them."""
        for _ in range(ROUNDS):
            for size, contenders in self._contenders.items():
                near = NEAR * min(one.cost_s for one in contenders)
                for one in contenders:
                    if time.monotonic() > self._until:
                        return
                    if one.cost_s <= near:
                        one.cost_s = min(one.cost_s, self._time(one.call, self._samples[size], 0.002))

    def _builders(self) -> Iterator[tuple[str, Callable[[int], Form]]]:
        if self.device.type == "cpu":
            weights = sum(p.numel() * p.element_size() for p in self.eager.parameters())
            packed = (
                pack_linears(self.make()) if PACKED_FROM_BYTES <= weights <= PACKED_BYTES and not self.rough else None
            )
            if packed is not None:
                yield "packed", lambda size: packed
        if self.device.type == "cuda":
            self._pool = torch.cuda.graph_pool_handle()
            yield "graphed", self._graph
        yield "frozen", lambda size: self._trace(self.eager, size, fuse=False)
        if self.device.type == "cpu":
            yield "fused", lambda size: self._trace(self.eager, size, fuse=True)
        if self.use_compile:
            yield "compiled", self._compile

    def _try(self, name: str, build: Callable[[int], Form], until: float) -> None:
        """Builds the form once for a middle size and uses it wherever it holds; elsewhere one of its own, if cheap."""
        middle = min(self.sizes, key=lambda size: abs(size - PACK_FOR_ROWS))
        if name == "fused" and min(one.cost_s for found in self._contenders.values() for one in found) > LONG_RUN_S:
            return
        weights = sum(p.numel() * p.element_size() for p in self.eager.parameters())
        own_each = name == "graphed" or weights <= OWN_TRACE_BYTES
        shared = self._build(name, build, middle)
        for size in self.sizes:
            if time.monotonic() > until:
                return
            if shared is not None and self._holds(name, shared, size):
                continue
            if own_each and size != middle:
                own = self._build(name, build, size)
                if own is not None:
                    self._holds(name, own, size)

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

    def _holds(self, name: str, form: Form, size: int) -> bool:
        """Whether the form answers `size` rows rightly; if so it is in the race."""
        rows = self._samples[size]
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                for _ in range(2):  # TorchScript and oneDNN settle in the first two calls
                    if not self._same(_tensors(form(rows)), self._wanted[size]):
                        return False
                cost_s = self._time(form, rows, 0.01)
        except Exception as error:  # a trace of another batch size may fail in any way
            log.debug("form does not hold", extra={"form": name, "rows": size, "reason": _brief(error)})
            return False
        self._contenders[size].append(Contender(name, form, cost_s))
        return True

    def _trace(self, module: nn.Module, size: int, *, fuse: bool) -> Form:
        traced = torch.jit.trace(module, self._samples[size], check_trace=False).eval()  # type: ignore[no-untyped-call]
        frozen = torch.jit.freeze(traced)
        return torch.jit.optimize_for_inference(frozen) if fuse else frozen

    def _graph(self, size: int) -> Form:
        """The kernels of eager, recorded; the graphs of all sizes share memory, so only one may run at a time."""
        given, aside = self._samples[size].clone(), torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]
        aside.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(aside):  # libraries settle before anything is recorded
            for _ in range(3):
                self.eager(given)
        torch.cuda.current_stream(self.device).wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
            out = self.eager(given)

        def replay(rows: Tensor) -> Any:
            if rows.shape != given.shape:
                raise ValueError(f"recorded for {tuple(given.shape)}, not {tuple(rows.shape)}")
            given.copy_(rows, non_blocking=True)
            graph.replay()
            return out

        return replay

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

    def _time(self, form: Form, rows: Tensor, at_most_s: float) -> float:
        if self.device.type == "cpu":
            # One thread's own clock stands still while another program has the core.
            clock = time.thread_time if torch.get_num_threads() == 1 else time.perf_counter
            return time_call(lambda: form(rows), at_most_s=at_most_s, clock=clock)

        def call() -> None:
            form(rows)
            torch.cuda.synchronize(self.device)

        return time_call(call, at_most_s=at_most_s)


def _choose(contenders: list[Contender]) -> Contender:
    """The fastest, if clearly faster than eager; a graph even at equal times, for it leaves the interpreter free."""
    eager, best = contenders[0], min(contenders, key=lambda one: one.cost_s)
    for one in contenders:
        if one.name == "graphed" and one.cost_s <= best.cost_s / CLEARLY:
            return one
    return best if best.cost_s < CLEARLY * eager.cost_s else eager


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
