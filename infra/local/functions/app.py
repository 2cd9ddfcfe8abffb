"""Loading a ``function_app.py``: its functions with their triggers, checked by the rules of Azure's Python worker."""

from __future__ import annotations

import importlib
import inspect
import sys
import traceback
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import azure.functions as func

from infra.local.functions.errors import StartError
from infra.local.functions.keys import Level
from infra.local.functions.routing import Route, Router, parse_route
from infra.local.functions.schedule import Schedule, is_frequent, parse
from infra.local.functions.settings import HostSettings, is_disabled, resolve

MODULE = "function_app"
OUT = 1  # a binding's direction, as azure.functions counts
INOUT = 2
LEVELS = {"anonymous": Level.ANONYMOUS, "function": Level.FUNCTION, "admin": Level.ADMIN}
SERVED = ("httpTrigger", "timerTrigger", "queueTrigger", "http", "queue")


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpTrigger:
    """Called by a request to its route with a key of this level."""

    route: Route
    level: Level


@dataclass(frozen=True, slots=True, kw_only=True)
class TimerTrigger:
    """Called by the clock. A monitored timer makes up for one missed call when the host starts."""

    schedule: Schedule
    run_on_startup: bool
    is_monitored: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueTrigger:
    """Called by a message; ``connection`` is the prefix of the settings that say where the queue is."""

    queue: str
    connection: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """What a function gives besides its result: the parameter, the kind (``queue``, ``http``) and where it goes."""

    name: str
    kind: str
    annotation: Any
    queue: str = ""
    connection: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Function:
    """One function of the app. ``argument`` is the parameter that the trigger fills."""

    name: str
    call: Callable[..., Any]
    is_async: bool
    folder: str
    trigger: HttpTrigger | TimerTrigger | QueueTrigger
    argument: str
    annotation: Any
    wants_context: bool
    outputs: tuple[Output, ...]
    returned: Output | None
    is_disabled: bool
    bindings: tuple[dict[str, Any], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class App:
    """All functions of a function_app.py, and where its HTTP functions listen."""

    folder: Path
    functions: tuple[Function, ...]
    router: Router

    def named(self, name: str) -> Function | None:
        """The function of this name in any case."""
        return next((f for f in self.functions if f.name.lower() == name.lower()), None)


def load_app(folder: Path, settings: HostSettings, env: Mapping[str, str], now: float) -> App:
    """Import ``function_app.py`` of this folder and index it. Raises StartError with the place of what is wrong."""
    module = _import(folder)
    found: Sequence[Any] = _indexed(module)
    if not found:
        raise StartError(
            f"{MODULE}.py in {folder} defines no function; decorate one with @app.route or another trigger"
        )
    functions = tuple(_Reader(function, settings, env, now).read() for function in found)
    routes = [f.trigger.route for f in functions if isinstance(f.trigger, HttpTrigger)]
    return App(folder=folder, functions=functions, router=Router(routes))


def _import(folder: Path) -> ModuleType:
    path = folder / f"{MODULE}.py"
    if not path.is_file():
        raise StartError(f"there is no {MODULE}.py in {folder}; name the folder of the app with --app")
    # What the app imports lies beside it, and may be imported late.
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    sys.modules.pop(MODULE, None)
    importlib.invalidate_caches()
    try:
        return importlib.import_module(MODULE)
    except SyntaxError as error:
        raise StartError(f"{error.filename} line {error.lineno}: SyntaxError: {error.msg}") from error
    except (Exception, SystemExit) as error:
        raise StartError(f"{_place(folder, error)}: {_one_line(error)}") from error


def _indexed(module: ModuleType) -> Sequence[Any]:
    registers = [value for name in dir(module) if isinstance(value := getattr(module, name), func.FunctionRegister)]
    apps = list({id(register): register for register in registers}.values())
    if not apps:
        raise StartError(f"{MODULE}.py has no FunctionApp at its top level; write `app = func.FunctionApp()`")
    if len(registers) > 1:
        raise StartError(
            f"{MODULE}.py has more than one FunctionApp at its top level; keep one, use Blueprints for parts"
        )
    try:
        return list(apps[0].get_functions())
    except Exception as error:
        raise StartError(f"{MODULE}.py cannot be indexed: {_one_line(error)}") from error


class _Reader:
    """Makes a ``Function`` of what azure.functions says of one; every error names it."""

    def __init__(self, function: Any, settings: HostSettings, env: Mapping[str, str], now: float) -> None:
        self._function = function
        self._settings = settings
        self._env = env
        self._now = now
        self._name: str = function.get_function_name()
        self._call: Callable[..., Any] = function.get_user_function()

    def read(self) -> Function:
        trigger = self._function.get_trigger()
        bindings = list(self._function.get_bindings())
        for binding in bindings:
            self._check_binding(binding)
        try:
            hints = typing.get_type_hints(self._call)
        except Exception as error:
            raise self._wrong(f"its annotations cannot be read: {_one_line(error)}") from error
        wants_context = self._check_parameters({b.name for b in bindings if b.name != "$return"}, hints)
        returned = next((self._output(b, hints.get("return")) for b in bindings if b.name == "$return"), None)
        outputs = [b for b in bindings if b.direction == OUT and b.name != "$return"]
        self._check_input(trigger, hints.get(trigger.name))
        return Function(
            name=self._name,
            call=self._call,
            is_async=inspect.iscoroutinefunction(self._call),
            folder=str(Path(inspect.getfile(self._call)).parent),
            trigger=self._trigger(trigger),
            argument=trigger.name,
            annotation=hints.get(trigger.name),
            wants_context=wants_context,
            outputs=tuple(self._output(b, self._inside_out(b.name, hints)) for b in outputs),
            returned=returned,
            is_disabled=is_disabled(self._name, self._env),
            bindings=tuple(b.get_dict_repr() for b in bindings),
        )

    def _trigger(self, trigger: Any) -> HttpTrigger | TimerTrigger | QueueTrigger:
        match trigger.type:
            case "httpTrigger":
                methods = [getattr(method, "value", method) for method in trigger.methods or ()]
                route = parse_route(self._name, self._settings.route_prefix, self._resolve(trigger.route), methods)
                level = getattr(trigger.auth_level, "value", trigger.auth_level) or "function"
                return HttpTrigger(route=route, level=LEVELS[str(level).lower()])
            case "timerTrigger":
                return self._timer(trigger)
            case _:
                return QueueTrigger(
                    queue=self._resolve(trigger.queue_name).lower(), connection=trigger.connection or ""
                )

    def _timer(self, trigger: Any) -> TimerTrigger:
        try:
            schedule = parse(self._resolve(trigger.schedule), self._now)
            is_monitored = trigger.use_monitor is not False and not is_frequent(schedule, self._now)
        except ValueError as error:
            raise self._wrong(f"its schedule cannot be used: {error}") from error
        return TimerTrigger(schedule=schedule, run_on_startup=bool(trigger.run_on_startup), is_monitored=is_monitored)

    def _check_binding(self, binding: Any) -> None:
        if binding.type not in SERVED:
            served = ", ".join(SERVED)
            raise self._wrong(f"this host does not serve bindings of type {binding.type}; it serves {served}")
        if binding.direction == INOUT:
            raise self._wrong(f"the binding {binding.name} is inout, which Python functions do not support")
        if binding.name == "$return" and binding.direction != OUT:
            raise self._wrong("the binding $return must have the direction out")

    def _check_parameters(self, bound: set[str], hints: dict[str, Any]) -> bool:
        parameters = set(inspect.signature(self._call).parameters)
        wants_context = "context" in parameters and "context" not in bound
        if wants_context:
            parameters.remove("context")
            hint = hints.get("context", func.Context)
            if not isinstance(hint, type) or hint.__name__ != "Context":
                raise self._wrong(f"the parameter context must be annotated azure.functions.Context, not {hint!r}")
        if unbound := sorted(parameters - bound):
            raise self._wrong(f"the parameters {', '.join(unbound)} belong to no binding; name them in a decorator")
        if missing := sorted(bound - parameters):
            raise self._wrong(f"the bindings {', '.join(missing)} have no parameter of that name")
        return wants_context

    def _check_input(self, trigger: Any, hint: Any) -> None:
        # The worker takes str and bytes for any trigger; for a request it then fails at every call, so not here.
        if hint is None or (hint in (str, bytes) and trigger.type != "httpTrigger"):
            return
        converter = converter_of(trigger.type)
        if typing.get_origin(hint) is func.Out or not isinstance(hint, type):
            raise self._wrong(f"the parameter {trigger.name} is an input and cannot be annotated {hint!r}")
        if not converter.check_input_type_annotation(hint):
            raise self._wrong(f"a {trigger.type} gives no {hint.__name__}, as {trigger.name} is annotated")

    def _inside_out(self, name: str, hints: dict[str, Any]) -> Any:
        """T of the annotation ``Out[T]`` of an output parameter."""
        hint = hints.get(name)
        if hint is None:
            return None
        arguments = typing.get_args(hint)
        if typing.get_origin(hint) is not func.Out or len(arguments) != 1:
            raise self._wrong(f"the parameter {name} is an output; annotate it azure.functions.Out[…]")
        return arguments[0]

    def _output(self, binding: Any, hint: Any) -> Output:
        converter = converter_of(binding.type)
        is_generic = hint in (str, bytes) and binding.name != "$return"
        if hint is not None and not is_generic and not _accepts_output(converter, hint):
            raise self._wrong(f"the output {binding.name} of type {binding.type} cannot be annotated {hint!r}")
        if binding.type == "http":
            return Output(name=binding.name, kind="http", annotation=hint)
        queue = self._resolve(binding.queue_name).lower()
        return Output(
            name=binding.name, kind="queue", annotation=hint, queue=queue, connection=binding.connection or ""
        )

    def _resolve(self, text: str) -> str:
        return resolve(text, self._env, f"function {self._name}")

    def _wrong(self, problem: str) -> StartError:
        return StartError(f"function {self._name}: {problem}")


def converter_of(binding: str) -> Any:
    """azure.functions' own converter between Python values and the binding's form."""
    return func.get_binding_registry().get(binding)  # type: ignore[no-untyped-call]


def _accepts_output(converter: Any, hint: Any) -> bool:
    try:
        return bool(converter.check_output_type_annotation(hint))
    except TypeError:  # the library's converters ask issubclass of what is no class
        return False


def _place(folder: Path, error: BaseException) -> str:
    """File and line of the innermost frame of the app itself, for there lies the remedy, not in the libraries."""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename.startswith(f"{folder}/") and "site-packages" not in frame.filename
    ]
    return f"{frames[-1].filename} line {frames[-1].lineno}" if frames else f"{MODULE}.py"


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
