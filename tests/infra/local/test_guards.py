"""What is in the way is said in one sentence, before anything is started."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from infra.local.guards import CannotStart, check_config, check_ports, check_room, holder, only_one
from infra.local.places import ROOT, Ports, read_ports
from scaler.errors import BadSetting
from tests.infra.local.trivial import free_port

TEMPLATE = """
location: westeurope
properties:
  containers:
  - name: iris
    properties:
      image: registry/iris:1
      ports: [{port: 8000}]
      resources: {requests: {cpu: 1.0, memoryInGB: 1.5}}
  ipAddress: {ports: [{port: 8000}], type: Public}
  osType: Linux
"""


def free_ports() -> Ports:
    return Ports(**{door: free_port() for door in Ports.__struct_fields__})


def test_free_ports_are_taken_as_they_are() -> None:
    check_ports(free_ports())


def test_a_port_in_use_is_named_with_its_holder_and_its_variable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ports = read_ports({"ENVOY_ADMIN_PORT": str(port)})
        with pytest.raises(CannotStart) as refused:
            check_ports(Ports(**{d: getattr(free_ports(), d) for d in Ports.__struct_fields__} | {"envoy_admin": port}))
    assert ports.envoy_admin == port
    said = str(refused.value)
    assert said.startswith(f"port {port} (envoy admin) is in use by ")
    assert f"(process {os.getpid()})" in said
    assert "ENVOY_ADMIN_PORT=…" in said


def test_a_port_taken_on_every_address_is_in_use_too() -> None:
    with socket.create_server(("0.0.0.0", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(CannotStart, match=f"port {port} .front. is in use"):
            check_ports(Ports(**{d: getattr(free_ports(), d) for d in Ports.__struct_fields__} | {"front": port}))


def test_the_second_start_says_who_was_first(tmp_path: Path) -> None:
    file = tmp_path / "run" / "lock"
    assert holder(file) is None
    with only_one(file, "make up"):
        assert holder(file) == os.getpid()
        with pytest.raises(CannotStart, match=rf"runs already \(`make up`, process {os.getpid()}, since .*`make down`"):
            only_one(file, "make demo").__enter__()
    assert holder(file) is None


def test_the_lock_of_a_killed_holder_is_free(tmp_path: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path; from infra.local.guards import only_one\n"
        "with only_one(Path(sys.argv[1]), 'make up'): print('held', flush=True); time.sleep(600)"
    )
    held = subprocess.Popen([sys.executable, "-c", program, str(tmp_path / "lock")], stdout=subprocess.PIPE, cwd=ROOT)
    assert held.stdout is not None
    held.stdout.readline()
    assert holder(tmp_path / "lock") == held.pid
    held.send_signal(signal.SIGKILL)
    held.wait(10)
    held.stdout.close()
    with only_one(tmp_path / "lock", "make demo"):
        assert holder(tmp_path / "lock") == os.getpid()


def test_a_disk_without_room_is_refused(tmp_path: Path) -> None:
    check_room(tmp_path)
    with pytest.raises(CannotStart, match=r"MB free on the disk of .* MB are needed; make room there"):
        check_room(tmp_path, least_bytes=10**18)


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CannotStart, match=r"file/below cannot be written: Not a directory"):
        check_room(tmp_path / "file" / "below")


@pytest.mark.parametrize(
    ("service", "sentence"),
    [
        (
            "{template: replica.yaml, replicas: {min: 3, max: 1}}",
            "autoscaler.yaml: services.iris.replicas: min 3 is above max 1",
        ),
        ("{template: replica.yaml, colour: red}", "autoscaler.yaml: services.iris.colour: unknown key"),
        (
            "{template: replica.yaml, schedule: {timezone: Mars/Base}}",
            "autoscaler.yaml: services.iris.schedule.timezone: 'Mars/Base' is no time zone",
        ),
        ("{template: other.yaml}", "other.yaml: cannot be read: No such file"),
        ("{}", "autoscaler.yaml: services.iris.template: missing"),
        ("[", "autoscaler.yaml:1: not readable as YAML"),
    ],
)
def test_wrong_settings_are_refused_with_file_and_path(tmp_path: Path, service: str, sentence: str) -> None:
    (tmp_path / "replica.yaml").write_text(TEMPLATE)
    file = tmp_path / "autoscaler.yaml"
    file.write_text(f"services: {{iris: {service}}}")
    with pytest.raises(BadSetting) as refused:
        check_config(file)
    assert sentence in str(refused.value)


def test_a_template_without_containers_is_refused(tmp_path: Path) -> None:
    (tmp_path / "replica.yaml").write_text("location: westeurope\nproperties: {}\n")
    (tmp_path / "autoscaler.yaml").write_text("services: {iris: {template: replica.yaml}}")
    with pytest.raises(BadSetting, match=r"replica.yaml: .*containers"):
        check_config(tmp_path / "autoscaler.yaml")


def test_settings_that_are_not_there_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadSetting, match=r"none.yaml: no such file; CONFIG names"):
        check_config(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("arguments", "variables", "sentence"),
    [
        (["up"], {"FRONT_PORT": "http"}, "up: FRONT_PORT='http' is no usable port"),
        (["up", "--config", "nowhere.yaml"], {}, "up: nowhere.yaml: no such file; CONFIG names"),
        (["demo", "--trace", "nowhere.csv"], {}, "demo: nowhere.csv: No such file or directory"),
    ],
)
def test_what_cannot_start_ends_with_code_2_and_one_sentence(
    arguments: list[str], variables: dict[str, str], sentence: str
) -> None:
    command = [sys.executable, "-m", "infra.local", *arguments]
    ended = subprocess.run(
        command, env={**os.environ, **variables}, cwd=ROOT, capture_output=True, text=True, timeout=50, check=False
    )
    assert ended.returncode == 2
    assert ended.stderr.startswith(sentence)
    assert len(ended.stderr.splitlines()) == 1
