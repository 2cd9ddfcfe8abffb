"""Bicep files as trees, and what the tests ask of them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import tree_sitter_bicep
from tree_sitter import Language, Node, Parser

INFRA = Path(__file__).resolve().parents[3] / "infra"
FILES = [INFRA / "main.bicep", *sorted((INFRA / "app").glob("*.bicep"))]
SETTING = re.compile(r"\{ name: '([A-Za-z0-9_]+)', value: (.*) \}$", re.MULTILINE)


@cache
def tree(file: Path) -> Node:
    """The root of a file's tree."""
    return Parser(Language(tree_sitter_bicep.language())).parse(file.read_bytes()).root_node


def nodes(node: Node, kind: str = "") -> Iterator[Node]:
    """Every node below, of one kind if one is named."""
    if not kind or node.type == kind:
        yield node
    for child in node.children:
        yield from nodes(child, kind)


def text(node: Node | None) -> str:
    """The source of a node."""
    return node.text.decode() if node is not None and node.text is not None else ""


def declared(file: Path, kind: str) -> dict[str, Node]:
    """Parameters, outputs, modules, resources of a file by name."""
    return {text(next(nodes(n, "identifier"))): n for n in nodes(tree(file), f"{kind}_declaration")}


def has_default(parameter: Node) -> bool:
    """Whether a module may leave the parameter out."""
    return any(child.type == "=" for child in parameter.children)


def decorators(parameter: Node) -> str:
    """What stands above a parameter."""
    found = []
    before = parameter.prev_named_sibling
    while before is not None and before.type == "decorators":
        found.append(text(before))
        before = before.prev_named_sibling
    return "\n".join(found)


def pairs(node: Node) -> dict[str, Node]:
    """An object's properties by name, its own level only."""
    found = {}
    for child in node.named_children:
        if child.type == "object_property":
            found[text(child.named_children[0]).strip("'")] = child.named_children[-1]
    return found


def app_settings() -> dict[str, str]:
    """The function app's settings, and the expression that gives each its value."""
    return dict(SETTING.findall((INFRA / "app" / "function.bicep").read_text(encoding="utf-8")))
