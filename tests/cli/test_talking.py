"""The verbs that talk to the function app."""

from __future__ import annotations

import json
import socket
from itertools import pairwise

import pytest

from scaler.cli.app import _names
from scaler.cli.show import console, forecast
from tests.cli.conftest import Run
from tests.cli.served import KEY, Served


def test_status_shows_every_service_and_why(served: Served, scaler: Run) -> None:
    served.tick()
    shown = scaler("status")
    assert shown.exit_code == 0, shown.stderr
    assert "iris" in shown.stdout
    assert "digits" in shown.stdout
    assert "s ago" in shown.stdout
    told = json.loads(scaler("status", "--json").stdout)
    assert [s["service"] for s in told["services"]] == ["digits", "iris"]


def test_status_of_one_service_shows_its_steps(served: Served, scaler: Run) -> None:
    served.tick()
    shown = scaler("status", "iris")
    for step in json.loads(scaler("status", "iris", "--json").stdout)["steps"]:
        assert step["name"] in shown.stdout


def test_status_check_says_no_before_the_first_tick(scaler: Run) -> None:
    assert scaler("status").exit_code == 0
    assert scaler("status", "--check").exit_code == 1
    assert scaler("status", "iris", "--check").exit_code == 1


def test_pin_and_unpin_say_what_came_of_it(served: Served, scaler: Run) -> None:
    shown = scaler("pin", "iris", "4", "--for", "2h", "--reason", "launch", "--actor", "anna")
    assert shown.exit_code == 0, shown.stderr
    assert "4 desired" in shown.stdout
    pin = served.world.store.rows["iris"]["pin"].value
    assert (pin.min, pin.max, pin.reason, pin.actor) == (4, 4, "launch", "key (anna)")
    assert pin.until == served.world.clock() + 7200
    assert "the pin is gone" in scaler("unpin", "iris").stdout
    again = scaler("unpin", "iris")
    assert (again.exit_code, "no pin" in again.stdout) == (1, True)


def test_pin_takes_a_span(served: Served, scaler: Run) -> None:
    told = json.loads(scaler("pin", "iris", "--min", "2", "--max", "5", "--json").stdout)
    assert (told["pin"]["min"], told["pin"]["max"]) == (2, 5)


def test_a_pin_that_cannot_be_is_bad_input_in_the_words_of_the_api(scaler: Run) -> None:
    for words, sentence in ((("iris", "9"), "above 6"), (("iris",), "missing"), (("iris", "2", "--for", "x"), "2h30m")):
        shown = scaler("pin", *words)
        assert shown.exit_code == 2
        assert sentence in shown.stderr
        assert shown.stderr.startswith("error: ")


def test_explain_tells_the_decision_of_a_time(served: Served, scaler: Run) -> None:
    served.tick(times=3)
    told = json.loads(scaler("explain", "iris", "--at", "2099-01-01T00:00:00+00:00", "--json").stdout)
    shown = scaler("explain", "iris")
    assert told["decision"]["because"] in shown.stdout.replace("\n", " ")
    verified = scaler("explain", "iris", "--verify")
    assert (verified.exit_code, "the same" in verified.stdout) == (0, True)
    nothing = scaler("explain", "iris", "--at", "2001-01-01")
    assert (nothing.exit_code, "No decision" in nothing.stderr) == (1, True)
    assert scaler("explain", "iris", "--at", "teatime").exit_code == 2


def test_schedule_shows_the_days_to_come(scaler: Run) -> None:
    shown = scaler("schedule", "iris", "--days", "7")
    assert "Europe/Berlin" in shown.stdout
    assert "off" in shown.stdout
    assert scaler("schedule", "iris", "--days", "0").exit_code == 2


@pytest.mark.parametrize("verb", ["tick", "wake"])
def test_tick_and_wake_tell_what_was_decided(served: Served, scaler: Run, verb: str) -> None:
    assert "desired" in scaler(verb, "iris").stdout
    assert {r.service for r in served.world.store.recorded.values()} == {"iris"}


def test_watch_looks_as_often_as_it_was_told(served: Served, scaler: Run) -> None:
    served.tick()
    lines = scaler("watch", "--count", "2", "--every", "0.2", "--json").stdout.splitlines()
    assert [json.loads(line)["services"][1]["service"] for line in lines] == ["iris", "iris"]
    assert "iris" in scaler("watch", "--count", "2", "--every", "0.2").stdout


def test_an_unknown_service_is_told_with_those_there_are(scaler: Run) -> None:
    shown = scaler("status", "nope")
    assert shown.exit_code == 1
    assert "digits, iris" in shown.stderr


def test_a_wrong_key_says_which_name_to_set_and_never_shows_the_key(served: Served, run: Run) -> None:
    shown = run("status", env={"AUTOSCALER_URL": served.url, "AUTOSCALER_KEY": "a-wrong-secret"})
    assert shown.exit_code == 2
    assert "AUTOSCALER_KEY" in shown.stderr
    assert "a-wrong-secret" not in shown.output


def test_without_an_address_the_command_says_which_name_to_set(run: Run) -> None:
    shown = run("status")
    assert (shown.exit_code, "AUTOSCALER_URL" in shown.stderr) == (2, True)


def test_nobody_there_is_exit_code_3(run: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    shown = run("status", env={"AUTOSCALER_URL": f"http://127.0.0.1:{port}"})
    assert shown.exit_code == 3
    assert "no answer" in shown.stderr


def test_a_key_is_never_sent_in_the_clear_to_another_machine(run: Run) -> None:
    shown = run("status", env={"AUTOSCALER_URL": "http://app.example", "AUTOSCALER_KEY": "a-good-secret"})
    assert shown.exit_code == 2
    assert "https" in shown.stderr


def test_text_of_others_is_never_read_as_markup(served: Served, scaler: Run) -> None:
    scaler("pin", "iris", "2", "--reason", "[bold]x[/nope]")
    shown = scaler("status", "iris")
    assert shown.exit_code == 0, shown.output


def test_doctor_finds_the_api_and_says_what_is_wrong_with_the_timer(served: Served, run: Run) -> None:

    env = {"AUTOSCALER_URL": served.url, "AUTOSCALER_KEY": KEY, "AUTOSCALER_CONFIG": "nowhere.yaml"}
    told = json.loads(run("doctor", "--json", env=env).stdout)
    by_name = {c["name"]: c for c in told["checks"]}
    assert by_name["configuration"]["ok"] is False
    assert by_name["admin API"]["ok"] is True
    assert by_name["timer"]["ok"] is False
    assert all(c["remedy"] for c in told["checks"] if c["ok"] is False)
    assert run("doctor", env=env).exit_code == 1


def test_status_tells_why_not_one_fewer_and_not_one_more(served: Served, scaler: Run) -> None:
    served.tick()
    told = json.loads(scaler("status", "iris", "--json").stdout)
    shown = scaler("status", "iris").stdout
    for other in told["alternatives"]:
        assert f"why not {other['replicas']}?" in shown
    assert "why not" in scaler("explain", "iris").stdout


def test_a_dry_run_says_what_would_come_of_it_and_changes_nothing(served: Served, scaler: Run) -> None:
    served.tick()
    shown = scaler("pin", "iris", "5", "--dry-run")
    assert shown.exit_code == 0, shown.stderr
    assert "would have: 5 desired" in shown.stdout
    assert "pin" not in served.world.store.rows["iris"]
    ticks = len(served.world.store.recorded)
    assert "would have" in scaler("tick", "iris", "--dry-run").stdout
    assert scaler("unpin", "iris", "--dry-run").exit_code == 1
    assert len(served.world.store.recorded) == ticks


def test_decisions_show_what_changed_the_count_and_every_tick_when_asked(served: Served, scaler: Run) -> None:
    served.tick(times=3)
    scaler("pin", "iris", "5")
    served.tick(times=3)
    scaler("unpin", "iris")
    told = json.loads(scaler("decisions", "iris", "--json").stdout)["decisions"]
    assert 5 in [d["desired"] for d in told]
    assert all(a["desired"] != b["desired"] for a, b in pairwise(told))
    every = json.loads(scaler("decisions", "iris", "--every", "--json").stdout)["decisions"]
    assert len(every) == 8
    assert "pinned by key" in scaler("decisions", "iris").stdout
    assert len(json.loads(scaler("decisions", "iris", "--limit", "1", "--json").stdout)["decisions"]) == 1


def test_forecast_is_a_table_or_exit_1_with_the_reason(scaler: Run) -> None:
    shown = scaler("forecast", "iris")
    assert (shown.exit_code, "has no forecast" in shown.stderr) == (1, True)
    told = {"service": "iris", "at": "2026-03-01T12:00:00Z", "bin_s": 60.0}
    band = told | {"low": [1.0, 2.0], "mid": [2.0, 3.0], "high": [4.0, 8.0]}
    with console().capture() as captured:
        console().print(forecast(band))
    assert "8.0" in captured.get()
    assert "█" in captured.get()


def test_the_shell_completes_the_names_of_services(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOSCALER_URL", served.url)
    monkeypatch.setenv("AUTOSCALER_KEY", KEY)
    assert _names("i") == ["iris"]
    monkeypatch.setenv("AUTOSCALER_KEY", "a-wrong-secret")
    assert _names("i") == []
