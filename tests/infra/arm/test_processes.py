"""Container groups are real processes: started, ended, found again after the stand-in was killed."""

import os
import signal
import subprocess
from pathlib import Path

import msgspec
import pytest

from infra.local.arm.store import Memory
from infra.local.ledger import boot, started
from tests.infra.arm.standin import StandIn, ask, is_alive, path_of, serving, until


def child_of(standin: StandIn, name: str) -> int | None:
    words = standin.logs(name).split()
    return int(words[1]) if len(words) > 1 else None


def test_a_group_answers_on_its_own_address_with_its_own_secret(standin: StandIn) -> None:
    status, body = standin.put("own-1")
    assert status == 201
    assert "hidden" not in str(body)
    first = standin.said("own-1")
    assert first["token"] == "hidden"
    standin.put("own-2")
    assert standin.said("own-2")["pid"] != first["pid"]
    addresses = {standin.properties(name)["ipAddress"]["ip"] for name in ("own-1", "own-2")}
    assert len(addresses) == 2
    assert "hello from" in standin.logs("own-1")


def test_delete_ends_the_process(standin: StandIn) -> None:
    standin.put("gone")
    pid = standin.said("gone")["pid"]
    ip = standin.properties("gone")["ipAddress"]["ip"]
    status, _, body = standin.call("DELETE", path_of("gone"))
    assert (status, body["name"]) == (200, "gone")
    until(lambda: not is_alive(pid), "the process to end")
    assert ask(ip) is None


def test_a_process_that_does_not_listen_to_sigterm_is_killed(standin: StandIn) -> None:
    standin.put("deaf", "example.azurecr.io/stubborn:1")
    standin.running("deaf")
    until(lambda: "deaf" in standin.logs("deaf"), "the process to be deaf")
    pids = pids_of(standin.data, "deaf")
    standin.call("DELETE", path_of("deaf"))
    until(lambda: not any(map(is_alive, pids)), "the process to be killed", limit_s=10)


def test_what_a_container_started_goes_with_it(standin: StandIn) -> None:
    standin.put("family", "example.azurecr.io/family:1", restartPolicy="Never")
    standin.running("family")
    child = until(lambda: child_of(standin, "family"), "the child")
    (parent,) = pids_of(standin.data, "family")
    os.kill(parent, signal.SIGKILL)  # only the parent, not its group
    until(lambda: not is_alive(child), "the child to end")
    until(lambda: standin.properties("family")["instanceView"]["state"] == "Failed", "the group to have failed")


def test_a_crashed_process_is_run_again(standin: StandIn) -> None:
    standin.put("crash")
    pid = standin.said("crash")["pid"]
    assert standin.call("POST", "/stand-in/faults", {"fault": "crash", "name": "crash"})[2]["groups"] == 1
    until(lambda: not is_alive(pid), "the process to die")
    until(lambda: standin.said("crash")["pid"] != pid, "another process")
    view = standin.properties("crash")["containers"][0]["properties"]["instanceView"]
    assert (view["restartCount"], view["previousState"]["exitCode"]) == (1, 137)


def test_a_program_that_is_not_there_is_a_crash_loop_in_a_group_that_succeeded(standin: StandIn) -> None:
    standin.put("missing", "example.azurecr.io/missing:1")
    standin.running("missing")

    def backs_off() -> bool:
        view = standin.properties("missing")["containers"][0]["properties"]["instanceView"]
        return str(view["currentState"]["detailStatus"]).startswith("CrashLoopBackOff")

    until(backs_off, "the back-off")
    assert standin.properties("missing")["provisioningState"] == "Succeeded"
    assert "/does/not/exist" in standin.logs("missing")
    standin.call("DELETE", path_of("missing"))


def test_a_crash_loop_can_be_asked_for(standin: StandIn) -> None:
    standin.call("POST", "/stand-in/faults", {"fault": "crash_loop", "name": "loop"})
    standin.put("loop")
    view = until(lambda: _restarted(standin, "loop"), "three runs")
    assert view["previousState"]["exitCode"] == 1
    standin.call("DELETE", path_of("loop"))


def _restarted(standin: StandIn, name: str) -> dict[str, dict[str, int]] | None:
    view = standin.properties(name)["containers"][0]["properties"].get("instanceView", {})
    return view if view.get("restartCount", 0) >= 2 else None


def test_stop_and_start_change_the_process_and_its_address(standin: StandIn) -> None:
    standin.put("pause")
    pid, ip = standin.said("pause")["pid"], standin.properties("pause")["ipAddress"]["ip"]
    assert standin.call("POST", path_of("pause", "stop"))[0] == 204
    until(lambda: not is_alive(pid), "the process to end")
    assert standin.call("POST", path_of("pause", "start"))[0] == 202
    assert standin.said("pause")["pid"] != pid
    assert standin.properties("pause")["ipAddress"]["ip"] != ip


def test_restart_gives_the_address_to_a_new_process_only_when_the_old_one_left_it(standin: StandIn) -> None:
    standin.put("again")
    pid, ip = standin.said("again")["pid"], standin.properties("again")["ipAddress"]["ip"]
    assert standin.call("POST", path_of("again", "restart"))[0] == 204
    until(lambda: (ask(ip) or {}).get("pid") not in (None, pid), "another process at the same address")
    assert not is_alive(pid)


def pids_of(data: Path, name: str) -> list[int]:
    """Processes recorded for a group."""
    memory = msgspec.json.decode((data / "state.json").read_bytes(), type=Memory)
    return [record.pid for record in memory.records if f"/{name}/" in record.owner]


@pytest.fixture
def fresh(tmp_path: Path, tls: Path) -> object:
    with serving(tmp_path, tls, "--back-off", "0.5") as running:
        yield running


def test_groups_outlive_a_killed_stand_in_and_are_taken_over(fresh: StandIn) -> None:
    fresh.put("lives")
    fresh.put("dies")
    fresh.put("deleted")
    kept, lost = fresh.said("lives")["pid"], fresh.said("dies")["pid"]
    fresh.running("deleted")
    fresh.stop(signal.SIGKILL)
    assert ask_pid(fresh, kept)
    os.kill(lost, signal.SIGKILL)
    fresh.start()
    assert fresh.said("lives")["pid"] == kept
    assert fresh.said("dies")["pid"] != lost  # run again, as the policy wants it
    fresh.call("DELETE", path_of("lives"))
    until(lambda: not is_alive(kept), "a taken-over process to end")


def ask_pid(standin: StandIn, pid: int) -> bool:
    return is_alive(pid)


def test_an_exit_of_a_taken_over_process_is_noticed(fresh: StandIn) -> None:
    fresh.put("lives")
    pid = fresh.said("lives")["pid"]
    fresh.stop(signal.SIGKILL)
    fresh.start()
    os.kill(pid, signal.SIGKILL)
    until(lambda: (ask(fresh.properties("lives")["ipAddress"]["ip"]) or {}).get("pid") not in (None, pid), "a new one")


def test_a_process_that_was_never_written_down_is_found_by_its_mark(fresh: StandIn) -> None:
    fresh.put("lives")
    pid = fresh.said("lives")["pid"]
    fresh.stop(signal.SIGKILL)
    file = fresh.data / "state.json"
    memory = msgspec.json.decode(file.read_bytes(), type=Memory)
    memory.records.clear()  # killed between starting it and writing that down
    file.write_bytes(msgspec.json.encode(memory))
    fresh.start()
    assert fresh.said("lives")["pid"] == pid


def test_reap_ends_everything_recorded_and_forgets_the_groups(fresh: StandIn) -> None:
    fresh.put("one")
    fresh.put("two")
    pids = [fresh.said(name)["pid"] for name in ("one", "two")]
    fresh.stop(signal.SIGKILL)
    assert fresh.reap() == {"ended": 2}
    assert not any(map(is_alive, pids))
    assert fresh.reap() == {"ended": 0}
    fresh.start()
    assert fresh.call("GET", path_of("one"))[0] == 404


def test_a_process_with_a_reused_id_is_never_ended(fresh: StandIn) -> None:
    fresh.put("one")
    fresh.said("one")
    fresh.stop(signal.SIGKILL)
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as stranger:
        try:
            file = fresh.data / "state.json"
            memory = msgspec.json.decode(file.read_bytes(), type=Memory)
            (record,) = memory.records
            os.killpg(record.pid, signal.SIGKILL)
            ticks = started(stranger.pid)
            assert ticks is not None
            # As if the kernel had given the id of our process to somebody else a moment later.
            record.pid, record.started, record.boot = stranger.pid, ticks - 1, boot()
            file.write_bytes(msgspec.json.encode(memory))
            assert fresh.reap() == {"ended": 0}
            assert is_alive(stranger.pid)
        finally:
            stranger.kill()


def test_two_stand_ins_do_not_share_a_folder(fresh: StandIn) -> None:
    other = subprocess.run(fresh.command("--port", "0"), capture_output=True, text=True, timeout=20, check=False)
    assert other.returncode == 2
    assert "another stand-in runs here" in other.stderr
    assert len(other.stderr.strip().splitlines()) == 1


def test_state_and_secrets_are_for_their_owner_only(fresh: StandIn) -> None:
    fresh.put("one")
    assert (fresh.data / "state.json").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--certificate", "nowhere.pem"], "--certificate nowhere.pem"),
        (["--start-delay", "soon"], "--start-delay soon: expected"),
        (["--images", "nowhere.yaml"], "--images nowhere.yaml: No such file"),
        (["--authorization", "nowhere.yaml"], "--authorization nowhere.yaml"),
    ],
)
def test_a_bad_option_is_one_sentence_and_exit_code_2(
    tmp_path: Path, tls: Path, options: list[str], words: str
) -> None:
    made = StandIn(tmp_path, tls)
    done = subprocess.run(
        [*made.command("--port", "0"), *options], capture_output=True, text=True, timeout=20, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr
    assert "Traceback" not in done.stderr
