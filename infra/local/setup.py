"""Set this checkout up with nothing but a bare Python 3.11: packages, Node and Azurite, sample models.

Run as a file, before there is anything to import: ``python3 infra/local/setup.py``. Each step leaves a stamp made of
what it was made from, so a second run takes well under a second, and a run killed half-way is finished by the next.
"""

from __future__ import annotations

import csv
import fcntl
import glob
import hashlib
import os
import platform
import queue
import re
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parents[2]
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
LOCAL = ROOT / ".local"
NODE = LOCAL / "node"
HERE = ROOT / "infra" / "local"
REQUIREMENTS = [
    ROOT / "requirements.txt",
    ROOT / "inference" / "requirements.txt",
    HERE / "requirements.txt",
    ROOT / "tests" / "requirements.txt",
]
CONSTRAINTS = HERE / "constraints.txt"
CONFORMANCE = ROOT / "tests" / "conformance.txt"
LEAST_PYTHON = (3, 11)
FREE_FOR_PACKAGES_GB = 3.0
FREE_FOR_NODE_GB = 0.5
TOP_LEVEL_NPM_PACKAGES = 300
PLAIN = bool(os.environ.get("CI")) or not sys.stdout.isatty()


class SetupFailed(Exception):
    """A sentence for the person at the keyboard: what went wrong, where, what to do. Exit code 2."""


class Progress:
    """One step on the screen: a bar that moves on a terminal, a line now and then where there is none."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.started_at = time.monotonic()
        self.shown_at = 0.0
        self.say(f"{title} …" if PLAIN else title)

    def say(self, text: str) -> None:
        """Write one line, or rewrite the moving one."""
        if PLAIN:
            print(text, flush=True)
        else:
            print(f"\r\x1b[2K{text[: shutil.get_terminal_size().columns - 1]}", end="", flush=True)

    def show(self, done: float, detail: str) -> None:
        """``done`` is the share 0..1 that is behind us."""
        now = time.monotonic()
        if now - self.shown_at < (10 if PLAIN else 0.2):
            return
        first, self.shown_at = self.shown_at == 0.0, now
        if PLAIN and first:
            return
        filled = round(20 * min(max(done, 0.0), 1.0))
        bar = "█" * filled + "·" * (20 - filled)
        self.say(f"{self.title} {bar} {int(100 * min(done, 1.0)):3d} %  {now - self.started_at:3.0f} s  {detail}")

    def close(self, detail: str) -> None:
        """The step is behind us; ``detail`` says what came of it."""
        self.say(f"{self.title}: {detail}, {time.monotonic() - self.started_at:.1f} s")
        if not PLAIN:
            print(flush=True)


def main() -> int:
    """Run every step whose stamp does not fit. Returns the exit code: 0, or 2 with a sentence on stderr."""
    try:
        check_python()
        os.chdir(ROOT)
        (LOCAL / "logs").mkdir(parents=True, exist_ok=True)
        with only_one():
            make_venv()
            install_packages()
            install_azurite()
            train_models()
    except SetupFailed as error:
        print(f"\nset-up: {error}" if not PLAIN else f"set-up: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(
            f"set-up: {error.filename or ROOT}: {error.strerror}; make room or mend the rights there", file=sys.stderr
        )
        return 2
    except KeyboardInterrupt:
        print("\nset-up: stopped; run it again and it goes on from here", file=sys.stderr)
        return 130
    return 0


def check_python() -> None:
    """Raises ``SetupFailed`` when this Python is too old or the machine is none the wheels exist for."""
    if sys.version_info[:2] < LEAST_PYTHON:
        raise SetupFailed(
            f"this is Python {platform.python_version()} ({sys.executable}), 3.11 is needed; install it "
            "(apt-get install python3.11 python3.11-venv) or name it: make demo PYTHON=/path/to/python3.11"
        )


class only_one:
    """A second set-up of the same checkout waits for the first, then finds its work done."""

    def __enter__(self) -> None:
        self.file = (LOCAL / "setup.lock").open("w")
        try:
            fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("set-up: another one is at work in this folder, waiting for it", flush=True)
            fcntl.flock(self.file, fcntl.LOCK_EX)

    def __exit__(self, *_: object) -> None:
        self.file.close()


def fingerprint(files: list[Path], *words: str) -> str:
    """What a stamp holds: changes when one of the files, or the Python, changes."""
    digest = hashlib.sha256("\0".join([*map(str, sys.version_info[:2]), platform.machine(), *words]).encode())
    for file in files:
        digest.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()


def is_stamped(stamp: Path, print_: str) -> bool:
    """Whether the step of this stamp was finished from the same things."""
    return stamp.is_file() and stamp.read_text() == print_


def write_stamp(stamp: Path, print_: str) -> None:
    """In one move: a stamp is either whole or absent."""
    half = stamp.with_suffix(".half")
    half.write_text(print_)
    half.replace(stamp)


def make_venv() -> None:
    """Create ``.venv``, or create it again where an earlier set-up did not get as far as pip."""
    if PYTHON.exists() and glob.glob(f"{VENV}/lib/python3*/site-packages/pip/__main__.py"):
        return
    progress = Progress("Python environment .venv")
    made = subprocess.run(
        [sys.executable, "-m", "venv", "--clear", str(VENV)],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if made.returncode:
        said = f"{made.stdout}{made.stderr}"
        if "ensurepip" in said or "python3-venv" in said:
            version = f"{sys.version_info[0]}.{sys.version_info[1]}"
            raise SetupFailed(
                "this Python cannot make environments; install that part: "
                f"apt-get install python3-venv (or python{version}-venv)"
            )
        raise SetupFailed(f".venv could not be made: {last_line(said)}")
    progress.close("made")


def install_packages() -> None:
    """Everything from PyPI, pinned, in one resolution; then the two packages whose declared Python is not the truth."""
    missing = [str(file.relative_to(ROOT)) for file in [*REQUIREMENTS, CONFORMANCE] if not file.is_file()]
    if missing:
        raise SetupFailed(f"{', '.join(missing)} is missing in this checkout; restore it: git checkout -- {missing[0]}")
    stamp, print_ = VENV / "packages.stamp", fingerprint([*REQUIREMENTS, CONSTRAINTS, CONFORMANCE])
    if is_stamped(stamp, print_):
        return
    has_torch = bool(glob.glob(f"{VENV}/lib/python3*/site-packages/torch-*.dist-info"))
    check_room(0.3 if has_torch else FREE_FOR_PACKAGES_GB)
    mend_half_installed()
    expected = sum(1 for line in CONSTRAINTS.read_text().splitlines() if "==" in line)
    progress = Progress(f"Python packages into .venv (about {expected}, 2 GB on disk, minutes the first time)")
    named = [word for file in REQUIREMENTS for word in ("-r", str(file))]
    # The constraints were written on 3.11; another Python may need other versions of what is below the pins.
    within = ["-c", str(CONSTRAINTS)] if sys.version_info[:2] == LEAST_PYTHON else []
    pip = [str(PYTHON), "-m", "pip", "--disable-pip-version-check", "--no-input", "install", "--progress-bar", "off"]
    run_pip([*pip, *named, *within], progress, expected)
    run_pip([*pip, "--no-deps", "--ignore-requires-python", "-r", str(CONFORMANCE)], progress, expected)
    write_stamp(stamp, print_)
    progress.close(f"{installed()} installed")


def run_pip(command: list[str], progress: Progress, expected: int) -> None:
    """Run pip with its words in a log; the bar: less than half for what is fetched, the rest for what is unpacked."""
    wanted: set[str] = set()
    before = installed()

    def tell(lines: list[str]) -> None:
        for line in lines:
            if found := re.match(r"\s*(?:Collecting|Requirement already satisfied:) ([A-Za-z0-9._-]+)", line):
                wanted.add(found[1].lower())
        unpacked = max(installed() - before, 0)
        share = 0.4 * len(wanted) / expected + 0.6 * unpacked / max(expected - before, 1)
        progress.show(
            min(share, 0.99), f"unpacking, {unpacked} done" if unpacked else f"fetching, {len(wanted)} looked at"
        )

    status, log = run_logged(command, "setup-packages", tell)
    if status:
        raise SetupFailed(why_failed("pip", log))


def installed() -> int:
    """How many packages ``.venv`` holds."""
    return len(glob.glob(f"{VENV}/lib/python3*/site-packages/*.dist-info"))


def mend_half_installed() -> None:
    """Forget every package whose files are not all there, so that pip installs it again: an earlier run was killed."""
    for info in map(Path, glob.glob(f"{VENV}/lib/python3*/site-packages/*.dist-info")):
        if not is_whole(info):
            print(f"set-up: {info.name.removesuffix('.dist-info')} was installed half-way; once more", flush=True)
            shutil.rmtree(info)


def is_whole(info: Path) -> bool:
    """Whether every file in the package's own record is there with its size."""
    record = info / "RECORD"
    if not record.is_file():
        return False
    with record.open(newline="") as file:
        for name, _, size in csv.reader(file):
            path = info.parent / name
            # A console script's size may change when pip writes its first line; being there is enough.
            if size and (not path.exists() or (name.endswith((".py", ".so")) and path.stat().st_size != int(size))):
                return False
    return True


def install_azurite() -> None:
    """Azurite by the npm that came with the Node wheel, from the lock file, into ``.local/node``."""
    wanted = [HERE / "azurite" / "package.json", HERE / "azurite" / "package-lock.json"]
    stamp, print_ = NODE / "azurite.stamp", fingerprint(wanted)
    if is_stamped(stamp, print_):
        return
    check_room(FREE_FOR_NODE_GB)
    progress = Progress("Azurite into .local/node (374 npm packages, 190 MB)")
    NODE.mkdir(parents=True, exist_ok=True)
    stamp.unlink(missing_ok=True)
    for file in wanted:
        shutil.copyfile(file, NODE / file.name)
    npm = [str(VENV / "bin" / "npm"), "--prefix", str(NODE), "ci", "--no-audit", "--no-fund", "--no-update-notifier"]

    def tell(_: list[str]) -> None:
        unpacked = len(glob.glob(f"{NODE}/node_modules/*/package.json"))
        progress.show(min(unpacked / TOP_LEVEL_NPM_PACKAGES, 0.99), f"{unpacked} unpacked")

    status, log = run_logged(npm, "setup-azurite", tell)
    if status:
        raise SetupFailed(why_failed("npm", log))
    write_stamp(stamp, print_)
    progress.close("installed")


def train_models() -> None:
    """The sample models, from data that comes with scikit-learn; again whenever the code that trains them changed."""
    sources = [ROOT / "inference" / f"{name}.py" for name in ("train", "model", "torch_model", "sklearn_model")]
    stamp, print_ = LOCAL / "models.stamp", fingerprint(sources)
    if is_stamped(stamp, print_) and (ROOT / "inference" / "models" / "iris.safetensors").is_file():
        return
    progress = Progress("Sample models (iris, with torch and with scikit-learn)")

    def tell(_: list[str]) -> None:
        progress.show(min((time.monotonic() - progress.started_at) / 15, 0.99), "")

    status, log = run_logged([str(PYTHON), "-m", "inference.train"], "setup-models", tell)
    if status:
        raise SetupFailed(f"training failed: {last_line(log.read_text(errors='replace'))} (all of it: {shown(log)})")
    write_stamp(stamp, print_)
    progress.close("trained")


def run_logged(command: list[str], name: str, tell: Callable[[list[str]], None]) -> tuple[int, Path]:
    """Run a command without stdin, its output in ``.local/logs/<name>.log``; ``tell`` gets its new lines at times."""
    log = LOCAL / "logs" / f"{name}.log"
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()
    with log.open("w") as file:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT
        )
        assert process.stdout is not None
        output = process.stdout

        def copy() -> None:
            for line in output:
                file.write(line)
                lines.put(line)

        reader = threading.Thread(target=copy, daemon=True)
        reader.start()
        try:
            while reader.is_alive():
                reader.join(0.25)
                tell([lines.get() for _ in range(lines.qsize())])
            status = process.wait()
        except BaseException:
            process.terminate()
            process.wait()
            raise
    return status, log


def why_failed(tool: str, log: Path) -> str:
    """One sentence for the ways an installation fails that a person can mend, else the tool's own last line."""
    text = log.read_text(errors="replace")
    if "No space left" in text or "ENOSPC" in text:
        return f"{tool} ran out of disk under {ROOT}; make room and run it again ({shown(log)})"
    if re.search(
        r"ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ETIMEDOUT|NewConnectionError|Temporary failure|Connection.*timed out", text
    ):
        return (
            f"{tool} could not reach its package index; check the network, or the proxy and index settings of {tool} "
            f"({shown(log)})"
        )
    if re.search(r"SELF_SIGNED_CERT|UNABLE_TO_(GET|VERIFY)|CERTIFICATE_VERIFY_FAILED", text):
        return (
            f"{tool} does not trust the certificate of its package index: something on the way signs its own. Name its "
            f"authority, in NODE_EXTRA_CA_CERTS for npm and PIP_CERT for pip ({shown(log)})"
        )
    return f"{tool} failed: {last_line(text, 'ERROR', 'npm error')} (all of it: {shown(log)})"


def last_line(text: str, *preferred: str) -> str:
    """The line of a tool's output that most likely says what was wrong."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    pointer = "A complete log of this run"  # npm's last line of all, whatever went wrong
    chosen = [line for line in lines if line.startswith(preferred) and pointer not in line] if preferred else lines
    return (chosen or lines or ["it said nothing"])[-1]


def shown(path: Path) -> str:
    """A path as a person at the checkout's root would type it."""
    return str(path.relative_to(ROOT))


def check_room(least_gb: float) -> None:
    """Raises ``SetupFailed`` when the disk of the checkout has less room than that."""
    free_gb = shutil.disk_usage(ROOT).free / 1e9
    if free_gb < least_gb:
        raise SetupFailed(
            f"{free_gb:.1f} GB free on the disk of {ROOT}, {least_gb:g} GB are needed; make room and run it again"
        )


if __name__ == "__main__":
    sys.exit(main())
