"""What an operator chooses: images, delays; and what is said when it cannot be."""

import random
from pathlib import Path
from typing import Any

import pytest

from infra.local.arm import delays
from infra.local.arm.images import IDLE, MARK, launch, load
from infra.local.arm.state import Container, Group
from scaler.errors import BadSetting
from tests.infra.arm.world import container
from tests.infra.arm.world import group as body


def a_group(**properties: Any) -> Group:
    asked = body(containers=[container(**properties)])["properties"]
    return Group(
        subscription="s",
        resource_group="g",
        name="iris-1",
        location="westeurope",
        properties=asked,
        created_at=0.0,
        address="127.64.0.9",
        containers=[Container(name="main")],
    )


def test_an_image_becomes_the_program_of_the_first_pattern_that_fits(tmp_path: Path) -> None:
    file = tmp_path / "images.yaml"
    file.write_text(
        '"*/iris:*":\n  command: [python, -m, inference]\n  environment: {THREADS: "1", PORT: "9"}\n'
        '"*": {command: [other]}\n'
    )
    variables = [{"name": "A", "value": "b"}, {"name": "TOKEN", "secureValue": "hidden"}]
    made = launch(load(file), a_group(environmentVariables=variables), "main", "run-1")
    assert made.command == ("python", "-m", "inference")
    wanted = {"HOST": "127.64.0.9", "PORT": "8000", "THREADS": "1", "A": "b", "TOKEN": "hidden", MARK: "run-1"}
    assert {name: made.environment[name] for name in wanted} == wanted
    assert "hidden" not in repr(made)


def test_nothing_of_our_own_secrets_is_handed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IDENTITY_HEADER", "ours")
    made = launch({}, a_group(), "main", "run-1")
    assert made.command == IDLE
    assert "IDENTITY_HEADER" not in made.environment


def test_a_command_of_the_container_goes_before_its_image() -> None:
    assert launch({}, a_group(command=["/bin/true"]), "main", "r").command == ("/bin/true",)


@pytest.mark.parametrize("text", ["- a", '"*": {command: no}', '"*": {program: [x]}', "{"])
def test_a_bad_image_map_is_refused_with_the_file_and_the_form(tmp_path: Path, text: str) -> None:
    file = tmp_path / "images.yaml"
    file.write_text(text)
    with pytest.raises(BadSetting, match=r"--images .*images\.yaml: .*expected"):
        load(file)


def test_delays_are_spread_like_azures() -> None:
    draw = delays.parse("quantiles", seed=7)
    drawn = sorted(draw({}).started_s for _ in range(4000))
    assert 17 < drawn[2000] < 21
    assert 35 < drawn[3600] < 46
    assert 10 <= drawn[0] <= drawn[-1] <= 225
    assert sorted(draw({"subnetIds": [{}]}).started_s for _ in range(1000))[500] > 90


@pytest.mark.parametrize(("text", "low", "high"), [("2.5", 2.5, 2.5), ("1-4", 1.0, 4.0), ("0", 0.0, 0.0)])
def test_delays_can_be_given(text: str, low: float, high: float) -> None:
    draw = delays.parse(text, seed=1)
    assert all(low <= draw({}).started_s <= high for _ in range(100))


@pytest.mark.parametrize("text", ["", "soon", "4-1", "-1", "1-2-3"])
def test_a_delay_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(BadSetting, match="--start-delay"):
        delays.parse(text)


def test_stages_of_a_start_come_in_order() -> None:
    chance = random.Random(3)
    for _ in range(1000):
        stages = delays.stages(chance.uniform(0, 300))
        assert 0 <= stages.pulling_s <= stages.pulled_s <= stages.started_s
