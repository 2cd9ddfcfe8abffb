"""Mutants of a module: its syntax tree with one small fault in it, as somebody could have typed it.

Left alone: docstrings and other text, annotations, decorators, what a class is declared with, assertions, and calls of
a log.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator
from typing import Any

from msgspec import Struct

COMPARED: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
RECKONED: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Div,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
}
TUNED = 10.0  # spans of time and the like: 45 s or 46 s is a choice, 90 s would be a fault
NAMED = {"min": "max", "max": "min", "any": "all", "all": "any", "floor": "ceil", "ceil": "floor"}


class Mutant(Struct, frozen=True, kw_only=True):
    """One fault: where it is, what it makes of what, and the whole tree with it. ``function`` is the outermost function
    that it is in, by its qualified name; None: it is in none, or in what is worked out when a function is made."""

    where: str
    lines: range
    before: str
    after: str
    tree: Any
    function: str | None

    @property
    def key(self) -> str:
        """How it is named in the list of those that are explained: it survives other changes of the file."""
        return f"{self.where}: {self.before} -> {self.after}"


def mutants(module: str, source: str) -> Iterator[Mutant]:
    """Every mutant of a module."""
    tree = ast.parse(source)
    for path, node in _sites(tree):
        for changed in _faults(node):
            mutated = copy.deepcopy(tree)
            _put(mutated, path, changed)
            yield Mutant(
                where=".".join([module, *(owner.name for owner, _ in _owners(tree, path))]),
                lines=_lines(tree, path),
                before=_text(node),
                after=_text(changed),
                tree=ast.fix_missing_locations(mutated),
                function=_function(tree, path),
            )


Path = tuple[tuple[str, int | None], ...]


def _sites(tree: ast.AST, path: Path = ()) -> Iterator[tuple[Path, ast.AST]]:
    for name, value in ast.iter_fields(tree):
        if name in ("annotation", "returns", "decorator_list") or (
            isinstance(tree, ast.ClassDef) and name == "keywords"
        ):
            continue
        for index, child in enumerate(value) if isinstance(value, list) else ((None, value),):
            if not isinstance(child, ast.AST) or _is_left_alone(child):
                continue
            here = (*path, (name, index))
            yield here, child
            yield from _sites(child, here)


def _is_left_alone(node: ast.AST) -> bool:
    if isinstance(node, ast.Expr):
        text = isinstance(node.value, ast.Constant)
        logged = isinstance(node.value, ast.Call) and ast.unparse(node.value.func).startswith("log.")
        return text or logged
    typed = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    return typed or isinstance(node, ast.Assert | ast.Import | ast.ImportFrom | ast.JoinedStr)


def _faults(node: ast.AST) -> Iterator[ast.AST]:
    yield from _of_conditions(node)
    yield from _of_numbers(node)
    yield from _of_flow(node)


def _of_conditions(node: ast.AST) -> Iterator[ast.AST]:
    match node:
        case ast.Compare(ops=ops):
            for i, op in enumerate(ops):
                yield _with(node, ops=[*ops[:i], COMPARED[type(op)](), *ops[i + 1 :]])
        case ast.BoolOp(op=op):
            yield _with(node, op=ast.Or() if isinstance(op, ast.And) else ast.And())
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            yield operand
        case ast.If(test=test) | ast.IfExp(test=test) if not isinstance(test, ast.Compare | ast.BoolOp | ast.UnaryOp):
            yield _with(node, test=ast.UnaryOp(ast.Not(), test))
        case ast.comprehension(ifs=[_, *_]):
            yield _with(node, ifs=[])


def _of_numbers(node: ast.AST) -> Iterator[ast.AST]:
    match node:
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            yield operand
        case ast.BinOp(op=op) | ast.AugAssign(op=op) if type(op) in RECKONED:
            yield _with(node, op=RECKONED[type(op)]())
        case ast.Constant(value=bool() as value):
            yield ast.Constant(not value)
        case ast.Constant(value=float() as value) if value >= TUNED:
            yield ast.Constant(value * 2)
        case ast.Constant(value=int() | float() as value):
            yield ast.Constant(value + 1)
        case ast.Name(id=name) if name in NAMED:
            yield ast.Name(NAMED[name], node.ctx)
        case ast.Attribute(attr=name) if name in NAMED:
            yield _with(node, attr=NAMED[name])


def _of_flow(node: ast.AST) -> Iterator[ast.AST]:
    match node:
        case ast.Break():
            yield ast.Continue()
        case ast.Continue():
            yield ast.Break()
        case ast.Expr(value=ast.Call()):
            yield ast.Pass()
        case ast.Return(value=ast.expr() as value) if not (isinstance(value, ast.Constant) and value.value is None):
            yield ast.Return(ast.Constant(None))


def _with(node: ast.AST, **fields: Any) -> ast.AST:
    changed = copy.copy(node)
    for name, value in fields.items():
        setattr(changed, name, value)
    return changed


def _put(tree: ast.AST, path: Path, node: ast.AST) -> None:
    *way, (name, index) = path
    for step, place in way:
        value = getattr(tree, step)
        tree = value if place is None else value[place]
    if index is None:
        setattr(tree, name, node)
    else:
        getattr(tree, name)[index] = node


Owner = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def _nodes(tree: ast.AST, path: Path) -> Iterator[tuple[ast.AST, str]]:
    """The nodes on the way to a place, from the outside in, each with the field of it that the way leaves by."""
    for i, (step, _) in enumerate(path):
        at = tree
        for name, place in path[:i]:
            value = getattr(at, name)
            at = value if place is None else value[place]
        yield at, step


def _owners(tree: ast.AST, path: Path) -> Iterator[tuple[Owner, str]]:
    """The classes and functions that a place is in."""
    for node, step in _nodes(tree, path):
        if isinstance(node, Owner):
            yield node, step


def _function(tree: ast.AST, path: Path) -> str | None:
    names = []
    for owner, step in _owners(tree, path):
        names.append(owner.name)
        if not isinstance(owner, ast.ClassDef):
            return ".".join(names) if step == "body" else None
    return None


def _lines(tree: ast.AST, path: Path) -> range:
    """The lines that run when the statement of a place does: of a compound one, its head."""
    statements = [(node, step) for node, step in _nodes(tree, path) if isinstance(node, ast.stmt)]
    place: Any = tree
    for name, index in path:
        value = getattr(place, name)
        place = value if index is None else value[index]
    own = isinstance(place, ast.stmt)
    node, step = (place, "") if own or not statements else statements[-1]
    first, last = getattr(node, "lineno", 0), getattr(node, "end_lineno", 0)
    body = getattr(node, "body", None)
    if isinstance(body, list) and body and step != "body":
        last = max(first, body[0].lineno - 1)
    return range(first, last + 1)


def _text(node: ast.AST) -> str:
    """A node on one line."""
    if isinstance(node, ast.comprehension):
        return f"for {ast.unparse(node.target)} in …" + "".join(f" if {ast.unparse(test)}" for test in node.ifs)
    if isinstance(node, ast.If):
        return f"if {ast.unparse(node.test)}"
    return " ".join(ast.unparse(node).split())
