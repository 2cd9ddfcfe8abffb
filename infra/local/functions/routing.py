"""Route templates as ASP.NET reads them, and which function answers a method and a path.

A template is a path of literals (any case), ``{x}``, ``{x:int}``, ``{x=default}``, ``{x?}`` and at its end ``{*rest}``,
which also matches nothing. Among the routes that match and allow the method, the more specific one answers: literal
before constrained parameter before parameter before catch-all, segment by segment. A method that no matching route
allows is a 404, as on Azure, not a 405.

Azure's host has an open defect here (azure-functions-host#9876): of two matching routes it takes the function whose
name sorts first. ``ambiguities`` finds the pairs where that differs, so that nobody is surprised after a deployment.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import combinations
from urllib.parse import unquote

from infra.local.functions.errors import StartError

PARAMETER = re.compile(
    r"\{(?P<star>\*{1,2})?(?P<name>[A-Za-z_]\w*)(?P<constraints>(?::[^{}=?]+)*)(?P<tail>\?|=[^{}]*)?\}"
)
CONSTRAINT = re.compile(r"(?P<name>[a-z]+)(?:\((?P<arguments>.*)\))?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """One part of a template: a literal, or a parameter with what it accepts."""

    literal: str | None = None
    name: str = ""
    accepts: tuple[Callable[[str], bool], ...] = ()
    is_optional: bool = False
    default: str | None = None
    is_catch_all: bool = False

    @property
    def rank(self) -> int:
        """The smaller, the more specific."""
        if self.literal is not None:
            return 1
        return (4 if self.is_catch_all else 2) + (not self.accepts)

    def takes(self, text: str) -> bool:
        if self.literal is not None:
            return self.literal.lower() == text.lower()
        return bool(text) and all(accepts(text) for accepts in self.accepts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """Where one function listens; no methods means all of them."""

    function: str
    template: str
    methods: frozenset[str]
    segments: tuple[Segment, ...]

    @property
    def rank(self) -> tuple[int, ...]:
        return tuple(segment.rank for segment in self.segments)

    def allows(self, method: str) -> bool:
        return not self.methods or method in self.methods

    def match(self, parts: Sequence[str]) -> dict[str, str] | None:
        """The route's parameters if it matches these parts of a path."""
        found: dict[str, str] = {}
        for i, segment in enumerate(self.segments):
            if segment.is_catch_all:
                rest = "/".join(parts[i:])
                if rest and not segment.takes(rest):
                    return None
                return found | ({segment.name: rest} if rest else _default(segment))
            if i >= len(parts):
                if not segment.is_optional and segment.default is None:
                    return None
                found |= _default(segment)
            elif not segment.takes(parts[i]):
                return None
            elif segment.literal is None:
                found[segment.name] = parts[i]
        return found if len(parts) <= len(self.segments) else None


class Router:
    """All routes of an app. Raises StartError when two functions want the same template and method."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self.routes = tuple(sorted(routes, key=lambda route: (route.rank, route.template.lower(), route.function)))
        for one, other in combinations(self.routes, 2):
            if one.template.lower() == other.template.lower() and _share_method(one, other):
                raise StartError(
                    f"function {other.function}: its route {other.template!r} is that of {one.function} too, with a "
                    "method in common; give one of them another route"
                )

    def match(self, method: str, raw_path: str) -> tuple[Route, dict[str, str]] | None:
        """The route that answers and its parameters; None where Azure's host would say 404."""
        parts = split_path(raw_path)
        for route in self.routes:
            if route.allows(method) and (found := route.match(parts)) is not None:
                return route, found
        return None

    def ambiguities(self) -> list[tuple[str, str]]:
        """Pairs (answers here, answers on Azure) of functions for paths that both match."""
        return [
            (one.function, other.function)
            for one, other in combinations(self.routes, 2)
            if other.function.lower() < one.function.lower() and _share_method(one, other) and _overlap(one, other)
        ]


def parse_route(function: str, prefix: str, template: str, methods: Iterable[str] | None) -> Route:
    """The route of a function; raises StartError naming the function when the template cannot be read."""
    own = template.strip("/")
    if own.lower().startswith(("admin", "runtime")):
        raise StartError(f"function {function}: its route {template!r} begins like Azure's own /admin; choose another")
    texts = [text for text in f"{prefix}/{own}".split("/") if text]
    segments = tuple(_segment(function, text) for text in texts)
    for i, segment in enumerate(segments):
        is_last = i == len(segments) - 1
        if (segment.is_catch_all or segment.is_optional) and not is_last:
            raise StartError(
                f"function {function}: in {template!r} only the last segment may be optional or a catch-all"
            )
    names = [segment.name.lower() for segment in segments if segment.literal is None]
    if len(set(names)) < len(names):
        raise StartError(f"function {function}: {template!r} names a parameter twice")
    return Route(
        function=function,
        template="/".join(texts),
        methods=frozenset(method.upper() for method in methods or ()),
        segments=segments,
    )


def split_path(raw_path: str) -> list[str]:
    """The parts of a path as it came: dot segments removed, percent-decoded but for the slash, as Kestrel does it."""
    parts: list[str] = []
    for part in raw_path.removeprefix("/").removesuffix("/").split("/"):
        text = unquote(re.sub("%2f", "%252F", part, flags=re.IGNORECASE))
        if text == "..":
            del parts[-1:]
        elif text != ".":
            parts.append(text)
    return [] if parts == [""] else parts


def _segment(function: str, text: str) -> Segment:
    if "{" not in text and "}" not in text:
        return Segment(literal=text)
    match = PARAMETER.fullmatch(text)
    if match is None:
        raise StartError(
            f"function {function}: the segment {text!r} of its route cannot be read; "
            "write {x}, {x?}, {x:int} or {*rest}"
        )
    tail = match["tail"] or ""
    constraints = [name for name in match["constraints"].split(":") if name]
    return Segment(
        name=match["name"],
        accepts=tuple(_constraint(function, constraint) for constraint in constraints),
        is_optional=tail == "?",
        default=tail[1:] if tail.startswith("=") else None,
        is_catch_all=match["star"] is not None,
    )


def _constraint(function: str, text: str) -> Callable[[str], bool]:
    match = CONSTRAINT.fullmatch(text)
    if match is None or match["name"] not in CONSTRAINTS:
        known = ", ".join(sorted(CONSTRAINTS))
        raise StartError(f"function {function}: unknown constraint {text!r} in its route; known are {known}")
    arguments = match["arguments"]
    try:
        if match["name"] == "regex":
            return CONSTRAINTS["regex"](arguments)
        return CONSTRAINTS[match["name"]](*(int(number) for number in (arguments or "").split(",") if number))
    except (TypeError, ValueError, re.error) as error:
        raise StartError(f"function {function}: the constraint {text!r} of its route has wrong arguments") from error


def _whole(least: float, most: float) -> Callable[[str], bool]:
    return lambda text: re.fullmatch(r"[+-]?\d{1,30}", text) is not None and least <= int(text) <= most


def _parses(parse: Callable[[str], object]) -> Callable[[str], bool]:
    def accepts(text: str) -> bool:
        try:
            parse(text)
        except ValueError:
            return False
        return True

    return accepts


def _length(least: int, most: int | None = None) -> Callable[[str], bool]:
    return lambda text: least <= len(text) <= (least if most is None else most)


CONSTRAINTS: dict[str, Callable[..., Callable[[str], bool]]] = {
    "int": lambda: _whole(-(2**31), 2**31 - 1),
    "long": lambda: _whole(-(2**63), 2**63 - 1),
    "min": lambda least: _whole(least, 2**63 - 1),
    "max": lambda most: _whole(-(2**63), most),
    "range": _whole,
    "bool": lambda: lambda text: text.lower() in {"true", "false"},
    "guid": lambda: _parses(uuid.UUID),
    "datetime": lambda: _parses(datetime.fromisoformat),
    "decimal": lambda: _parses(float),
    "double": lambda: _parses(float),
    "float": lambda: _parses(float),
    "alpha": lambda: lambda text: re.fullmatch("[A-Za-z]*", text) is not None,
    "length": _length,
    "minlength": lambda least: lambda text: len(text) >= least,
    "maxlength": lambda most: lambda text: len(text) <= most,
    "regex": lambda pattern: lambda text: re.search(pattern, text, re.IGNORECASE) is not None,
    "required": lambda: bool,
}


def _default(segment: Segment) -> dict[str, str]:
    return {} if segment.default is None else {segment.name: segment.default}


def _share_method(one: Route, other: Route) -> bool:
    return not one.methods or not other.methods or bool(one.methods & other.methods)


def _overlap(one: Route, other: Route) -> bool:
    """Whether some path is matched by both, constraints taken as if they could be met."""
    a, b = one.segments, other.segments
    for i in range(max(len(a), len(b))):
        ours = a[i] if i < len(a) else None
        theirs = b[i] if i < len(b) else None
        if (ours and ours.is_catch_all) or (theirs and theirs.is_catch_all):
            return True
        if ours is None or theirs is None:
            present = ours or theirs
            assert present is not None
            return present.is_optional or present.default is not None
        if ours.literal is not None and not theirs.takes(ours.literal):
            return False
        if theirs.literal is not None and not ours.takes(theirs.literal):
            return False
    return True
