"""Keys: made when missing, kept secret, read strictly."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from infra.local.functions.errors import StartError
from infra.local.functions.keys import Keys, Level, load_keys


def test_a_missing_file_is_made_with_random_keys_that_only_the_owner_reads(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "keys.json"

    keys = load_keys(path, ["read", "Change"])

    assert path.stat().st_mode & 0o777 == 0o600
    content = json.loads(path.read_text())
    made = [content["master"], content["functionKeys"]["default"]]
    made += [content["functions"][name]["default"] for name in ("read", "Change")]
    assert len(set(made)) == 4
    assert min(map(len, made)) >= 32
    assert keys.level(content["functions"]["Change"]["default"], "change") == Level.FUNCTION
    assert list(tmp_path.joinpath("deep").iterdir()) == [path]


def test_keys_that_are_there_stay_and_new_functions_get_theirs(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    written = {"master": "m", "functionKeys": {"default": "h"}, "functions": {"read": {"cli": "r"}}, "note": "mine"}
    path.write_text(json.dumps(written))

    load_keys(path, ["read", "change"])

    content = json.loads(path.read_text())
    new = content["functions"].pop("change")
    assert content == written
    assert set(new) == {"default"}


@pytest.mark.parametrize(
    ("given", "function", "expected"),
    [
        ("master", None, Level.ADMIN),
        ("master", "read", Level.ADMIN),
        ("host", "read", Level.FUNCTION),
        ("host", None, Level.ANONYMOUS),
        ("of-read", "READ", Level.FUNCTION),
        ("of-read", "change", Level.ANONYMOUS),
        ("", "read", Level.ANONYMOUS),
        (None, "read", Level.ANONYMOUS),
        ("maste", "read", Level.ANONYMOUS),
        ("schlüssel\udcff", "read", Level.ANONYMOUS),
    ],
)
def test_a_key_opens_what_it_is_for(given: str | None, function: str | None, expected: Level) -> None:
    keys = Keys(master="master", host={"default": "host"}, functions={"read": {"default": "of-read"}})

    assert keys.level(given, function) == expected


@pytest.mark.parametrize(
    "content",
    ["[]", '{"master": 5}', '{"master": ""}', '{"functionKeys": ["a"]}', '{"functions": {"f": {"default": ""}}}', "{x"],
)
def test_a_malformed_file_is_a_sentence_and_stays_as_it_is(tmp_path: Path, content: str) -> None:
    path = tmp_path / "keys.json"
    path.write_text(content)

    with pytest.raises(StartError, match=r"the key file .*keys\.json .*mend it or delete it"):
        load_keys(path, ["read"])

    assert path.read_text() == content


def test_a_file_that_others_can_read_is_warned_about(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "keys.json"
    load_keys(path, [])
    path.chmod(0o644)

    with caplog.at_level(logging.WARNING):
        load_keys(path, [])

    assert "can be read by other users" in caplog.text


def test_keys_do_not_appear_in_the_text_of_the_object() -> None:
    keys: Any = Keys(master="secret-master", host={"default": "secret-host"}, functions={})

    assert "secret" not in repr(keys)
