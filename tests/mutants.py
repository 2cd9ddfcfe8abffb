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
NAMED = {"min": "max", "max": "min", "any": "all", "all": "any", "floor": "ceil", "ceil": "floor"}


class Mutant(Struct, frozen=True, kw_only=True):
    """One fault: where it is, what it makes of what, and the whole tree with it."""

    where: str
    line: int
    before: str
    after: str
    tree: Any

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
                where=".".join([module, *_names(tree, path)]),
                line=getattr(node, "lineno", 0),
                before=_text(node),
                after=_text(changed),
                tree=ast.fix_missing_locations(mutated),
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


def _names(tree: ast.AST, path: Path) -> Iterator[str]:
    """The classes and functions that a place is in."""
    for step, place in path:
        value = getattr(tree, step)
        tree = value if place is None else value[place]
        if isinstance(tree, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield tree.name


def _text(node: ast.AST) -> str:
    """A node on one line."""
    if isinstance(node, ast.comprehension):
        return f"for {ast.unparse(node.target)} in …" + "".join(f" if {ast.unparse(test)}" for test in node.ifs)
    if isinstance(node, ast.If):
        return f"if {ast.unparse(node.test)}"
    return " ".join(ast.unparse(node).split())
