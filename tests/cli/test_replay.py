"""``replay`` as it is typed."""

from __future__ import annotations

import json
import re
import site
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from scaler.config import load
from scaler.peers import PEERS
from scaler.shadow import shadow_of
from tests.cli.conftest import Run

CONFIG = """
services:
  iris:
    replicas: {min: 0, max: 8}
    target: {concurrency: 4, requests_per_second: 10}
    start: {expected_s: 60}
    forecast: false
"""
CHEAPER = CONFIG.replace("max: 8", "max: 3")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "a.yaml"
    path.write_text(CONFIG, encoding="utf-8")
    return path


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    """Half a day: a busy hour, a quiet one, and so on."""
    path = tmp_path / "trace.csv"
    bins = (f"{60 * i},{1500 if i // 60 % 2 else 60}" for i in range(720))
    path.write_text("t_s,requests\n" + "\n".join(bins) + "\n", encoding="utf-8")
    return path


def test_a_trace_under_a_policy_another_and_every_peer(run: Run, file: Path, trace: Path, tmp_path: Path) -> None:
    other = tmp_path / "b.yaml"
    other.write_text(CHEAPER, encoding="utf-8")
    rivals = [str(other), "hpa", "keda", "keda-load", "kpa", "ray", "skyserve:0.8", "fixed:2"]
    words = [word for rival in rivals for word in ("--against", rival)]
    shown = run("replay", str(trace), "--config", str(file), *words, "--json")
    assert shown.exit_code == 0, shown.output
    told = json.loads(shown.stdout)
    assert [r["name"] for r in told["results"]] == [
        str(file), str(other), "hpa:0.7", "keda:0.7", "keda-load:0.7", "kpa:0.7", "ray:0.7", "skyserve:0.8", "fixed:2",
    ]  # fmt: skip
    assert told["trace"]["requests"] == 6 * 60 * 1560
    for r in told["results"]:
        assert r["served"] + r["lost"] + r["refused"] + r["waiting"] == pytest.approx(r["requests"])
        assert r["most_ready"] <= 8
    fixed = told["results"][-1]
    assert (fixed["replica_hours"], fixed["cold_starts"], fixed["changes"]) == (24.0, 0, 0)
    assert told["results"][0]["against_first"] is None
    assert fixed["against_first"]["low"] <= fixed["against_first"]["difference"] <= fixed["against_first"]["high"]


def test_people_get_a_table_and_a_sentence_for_each_rival(run: Run, file: Path, trace: Path) -> None:
    shown = run("replay", str(trace), "--config", str(file), "--against", "fixed:8", "--replica-hour", "0.05")
    assert shown.exit_code == 0, shown.output
    assert "iris: " in shown.stdout
    assert "12.0 hours, 561600 requests" in shown.stdout
    assert "fixed:8 costs" in shown.stdout
    assert "95 % interval" in shown.stdout
    assert "4.80" in shown.stdout  # 8 x 12 x 0.05


def test_the_same_command_says_the_same_and_another_seed_something_else(run: Run, file: Path, trace: Path) -> None:
    one, same, other = (
        run("replay", str(trace), "--config", str(file), "--json", "--seed", seed).stdout for seed in ("1", "1", "2")
    )
    assert one == same
    assert json.loads(one)["results"] != json.loads(other)["results"]


def test_best_is_the_cheapest_of_its_settings(run: Run, file: Path, trace: Path) -> None:
    shown = run(
        "replay", str(trace), "--config", str(file), "--json", "--against", "fixed:best", "--against", "fixed:3"
    )
    best, three = json.loads(shown.stdout)["results"][1:]
    assert best["settings_tried"] == 8
    assert best["cost"] <= three["cost"]


def test_a_plot_is_a_picture_that_stands_by_itself(run: Run, file: Path, trace: Path, tmp_path: Path) -> None:
    plot = tmp_path / "plot.svg"
    shown = run("replay", str(trace), "--config", str(file), "--against", "keda", "--plot", str(plot))
    assert shown.exit_code == 0, shown.output
    root = ET.fromstring(plot.read_text(encoding="utf-8"))
    text = " ".join(root.itertext())
    assert "keda:0.7" in text
    assert "replicas billed" in text
    assert len(root.findall("{http://www.w3.org/2000/svg}path")) > 10


def test_days_cut_a_trace_and_begins_sets_its_calendar(run: Run, file: Path, trace: Path) -> None:
    schedule = "    schedule: {timezone: Europe/Berlin, rules: [{days: sat-sun, off: true}]}\n"
    file.write_text(CONFIG + schedule, encoding="utf-8")
    words = ("replay", str(trace), "--config", str(file), "--json", "--days", "0.25")
    weekday = json.loads(run(*words).stdout)
    assert weekday["trace"]["seconds"] == 6 * 3600
    assert weekday["results"][0]["refused"] == 0
    weekend = json.loads(run(*words, "--begins", "2026-03-07T06:00").stdout)
    assert weekend["trace"]["begins_at"] == "2026-03-07T05:00:00+00:00"
    assert weekend["results"][0]["refused"] > 0.9 * weekend["trace"]["requests"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ((), "give a trace file, or --recorded"),
        (("{trace}", "--recorded"), "one of both"),
        (("nowhere.csv",), "nowhere.csv: cannot be read: No such file or directory"),
        (("{folder}",), "cannot be read: Is a directory"),
        (("{trace}", "--against", "nomad"), "--against: 'nomad' is no file that is there; expected a configuration"),
        (("{trace}", "--against", "fixed"), "expected fixed:N"),
        (("{trace}", "--against", "fixed:-1"), "expected fixed:N"),
        (("{trace}", "--against", "hpa:x"), "the share of a replica to keep busy"),
        (("{trace}", "--against", "hpa:nan"), "the share of a replica to keep busy"),
        (("{trace}", "--against", "hpa:0"), "the share of a replica to keep busy"),
        (("{trace}", "--service", "rose"), "services.rose: there is no such service; there is: iris"),
        (("{trace}", "--plot", "x.png"), "pictures are SVG"),
        (("{trace}", "--plot", "/nowhere/x.svg"), "--plot: /nowhere/x.svg: cannot be written"),
        (("{trace}", "--begins", "soon"), "--begins: 'soon' is no time"),
        (("--recorded",), "AUTOSCALER_TABLE_ENDPOINT: not set"),
    ],
)
def test_what_cannot_be_played_is_a_sentence(
    run: Run, file: Path, trace: Path, tmp_path: Path, words: tuple[str, ...], sentence: str
) -> None:
    filled = [word.format(trace=trace, folder=tmp_path) for word in words]
    shown = run("replay", *filled, "--config", str(file), "--days", "0.01")
    assert shown.exit_code == 2
    assert sentence in shown.stderr
    assert len(shown.stderr.splitlines()) == 1


def test_a_bad_line_of_a_trace_is_told_by_its_number(run: Run, file: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.csv"
    bad.write_text("t_s,requests\n0,1\n60,many\n", encoding="utf-8")
    shown = run("replay", str(bad), "--config", str(file))
    assert (shown.exit_code, f"{bad}: line 3: '60,many'" in shown.stderr) == (2, True)


def test_a_trace_that_is_too_long_says_how_to_cut_it(run: Run, file: Path, tmp_path: Path) -> None:
    long = tmp_path / "long.csv"
    long.write_text("t_s,requests\n0,1\n1e10,1\n", encoding="utf-8")
    shown = run("replay", str(long), "--config", str(file))
    assert (shown.exit_code, "--days" in shown.stderr) == (2, True)


def test_what_a_replay_cannot_know_is_said(run: Run, file: Path, trace: Path) -> None:
    file.write_text(
        CONFIG.replace("requests_per_second: 10", "requests_per_second: 10, memory: 0.8, gpu: 0.7")
        + "    signals: [{storage_queue: jobs, per_replica: 50}]\n",
        encoding="utf-8",
    )
    notes = " ".join(json.loads(run("replay", str(trace), "--config", str(file), "--json").stdout)["notes"])
    assert "jobs" in notes
    assert "memory" in notes
    assert "GPU" in notes


def test_what_one_replica_carries_has_to_be_known(run: Run, file: Path, trace: Path) -> None:
    file.write_text("services: {iris: {target: {concurrency: 4}}}", encoding="utf-8")
    shown = run("replay", str(trace), "--config", str(file))
    assert (shown.exit_code, "--rate" in shown.stderr) == (2, True)
    told = json.loads(run("replay", str(trace), "--config", str(file), "--request-s", "0.5", "--json").stdout)
    assert told["world"]["rate"] == 8.0


ROOT = Path(__file__).resolve().parents[2]
DOCS = (ROOT / "docs" / "replay.md").read_text(encoding="utf-8")


def test_the_commands_of_the_page_run_as_they_are_written(tmp_path: Path) -> None:
    (tmp_path / "autoscaler.yaml").write_bytes((ROOT / "autoscaler.yaml").read_bytes())
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").symlink_to(sys.executable)
    blocks = re.findall(r"```sh\n(.*?)```", DOCS, re.DOTALL)
    assert len(blocks) == 3
    script = "set -e\n" + "".join(blocks).replace("range(3 * 1440)", "range(690, 780)").replace("hpa:best", "hpa:0.9")
    environment = {"PATH": f"{tmp_path}/bin:/usr/bin:/bin", "PYTHONPATH": f"{ROOT}:{':'.join(site.getsitepackages())}"}
    ran = subprocess.run(
        ["/bin/sh", "-c", script],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=55,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert "candidate.yaml costs" in ran.stdout
    assert ET.fromstring((tmp_path / "three_days.svg").read_text(encoding="utf-8")).tag.endswith("svg")
    assert len(json.loads((tmp_path / "result.json").read_text(encoding="utf-8"))["results"]) == 2


@pytest.mark.parametrize("block", re.findall(r"```yaml\n(.*?)```", DOCS, re.DOTALL))
def test_the_settings_on_the_page_are_valid(block: str) -> None:
    service = load(block, "docs/replay.md").services["iris"]
    assert shadow_of(service, "iris", "docs/replay.md") is not None


def test_every_rival_is_on_the_page_and_in_the_help(run: Run) -> None:
    told = " ".join(run("replay", "--help").stdout.split())
    for name in (*PEERS, "shadow", "fixed:N"):
        assert f"`{name}`" in DOCS
        assert name in told


def test_the_shadow_of_a_record_needs_a_table_that_is_named(run: Run, file: Path) -> None:
    shown = run("shadow", "iris", "--config", str(file))
    assert (shown.exit_code, "AUTOSCALER_TABLE_ENDPOINT" in shown.stderr) == (2, True)
    assert run("shadow", "rose", "--config", str(file)).exit_code == 2


def test_a_shadow_can_be_replayed_where_there_is_one(run: Run, file: Path, trace: Path) -> None:
    words = ("replay", str(trace), "--config", str(file), "--against", "shadow", "--days", "0.05", "--json")
    assert "services.iris.shadow: there is none" in run(*words).stderr
    file.write_text(CONFIG + "    shadow: {replicas: {min: 3, max: 8}}\n", encoding="utf-8")
    live, shadow = json.loads(run(*words).stdout)["results"]
    assert shadow["name"] == "shadow"
    assert shadow["replica_hours"] >= 3 * 1.2 - 0.1 > live["replica_hours"]
