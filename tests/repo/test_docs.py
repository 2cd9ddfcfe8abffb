"""The prose keeps in step with the code."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec import Struct
from msgspec.inspect import DictType, ListType, StructType, Type, UnionType, type_info

from scaler import config

ROOT = Path(__file__).resolve().parents[2]
DOCS = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
RULES = DOCS[DOCS.index("## Rules") :]


def keys(kind: type[Struct], prefix: str = "") -> Iterator[str]:
    """Every key an operator can write below this mapping, dotted."""
    info = type_info(kind)
    assert isinstance(info, StructType)
    for field in info.fields:
        below = list(_structs(field.type))
        if kind is not config.Shadow and below and below[0] not in (config.Rule, config.SignalText):
            yield from keys(below[0], f"{prefix}{field.encode_name}.")
        else:
            yield f"{prefix}{field.encode_name}"


def _structs(kind: Type) -> Iterator[type[Struct]]:
    match kind:
        case StructType():
            yield kind.cls
        case UnionType():
            for one in kind.types:
                yield from _structs(one)
        case ListType():
            yield from _structs(kind.item_type)
        case DictType():
            yield from _structs(kind.value_type)


@pytest.mark.parametrize("key", list(keys(config.Service)))
def test_every_key_of_a_service_is_in_the_docs(key: str) -> None:
    assert f"`{key}`" in DOCS


@pytest.mark.parametrize("key", list(keys(config.Rule)))
def test_every_key_of_a_rule_is_in_the_docs(key: str) -> None:
    assert f"`{key}`" in RULES


@pytest.mark.parametrize("key", list(keys(config.SignalText)))
def test_every_key_of_a_signal_is_in_the_docs(key: str) -> None:
    assert f"`{key}`" in DOCS


@pytest.mark.parametrize("block", re.findall(r"```yaml\n(.*?)```", DOCS, re.DOTALL))
def test_the_examples_are_valid(block: str) -> None:
    assert config.load(block, "docs/configuration.md").services


def test_the_configuration_that_ships_is_valid() -> None:
    text = (ROOT / "autoscaler.yaml").read_text(encoding="utf-8")
    assert list(config.load(text, "autoscaler.yaml").services) == ["iris"]


def test_no_two_records_of_decisions_have_one_number() -> None:
    numbers = [path.name[:4] for path in sorted((ROOT / "docs" / "decisions").glob("*.md"))]
    assert numbers == [f"{n:04}" for n in range(1, len(numbers) + 1)]


@pytest.mark.parametrize(
    "page", ["README.md", *(f"docs/{n}.md" for n in ("deploy", "front", "runbook", "cli", "monitoring"))]
)
def test_prose_is_no_wider_than_a_screen(page: str) -> None:
    """Tables and what is shown as it stands aside."""
    prose = re.sub(r"```.*?```", "", (ROOT / page).read_text(encoding="utf-8"), flags=re.DOTALL)
    wide = [line for line in prose.splitlines() if len(line) > 130 and not line.startswith(("|", "    "))]
    assert not wide
