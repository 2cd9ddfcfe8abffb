"""The environment as typed settings, read once; every wrong value is one sentence and exit code 2."""

from __future__ import annotations

import math
import os
import re
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from inference.errors import BadSetting

MODELS = Path(__file__).resolve().parent / "models"
DEFAULT_MODEL = MODELS / "iris.safetensors"
SUFFIXES = (".safetensors", ".pt2", ".skops", ".joblib")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
DTYPES = ("float32", "bfloat16", "float16")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What an operator may set; the name in capitals is the variable."""

    host: str = "0.0.0.0"  # noqa: S104 - a container serves its network
    port: int = 8000
    replica: str = field(default_factory=socket.gethostname)
    replica_file: Path | None = None  # a group of a standby pool learns its name when it is claimed: from a config map
    token: str = field(default="", repr=False)
    certificate: str = field(default="", repr=False)  # PEM: key and certificate; empty: plain HTTP
    models: tuple[tuple[str, Path], ...] = (("iris", DEFAULT_MODEL),)  # name and file; the first answers /predict
    factory: str = ""
    device: str = "auto"
    dtype: str = "float32"
    threads: int = 0  # 0: one a core
    compile: bool = False
    tune_s: float = 20.0
    max_batch_size: int = 128
    max_queue: int = 1024
    max_wait_ms: float = 0.0
    linger: float = 0.06
    capacity: int = 0  # 0: max_batch_size
    service_time_ms: float = 0.0
    max_body_bytes: int = 10 * 2**20
    request_timeout_s: float = 30.0
    receive_timeout_s: float = 15.0
    keep_alive_s: float = 75.0
    drain_s: float = 25.0
    drain_quiet_s: float = 0.2
    workers: int = 1
    log_level: str = "info"
    connection_string: str = field(default="", repr=False)
    sampling: float = 0.1


def _whole(text: str, low: int, high: int) -> int:
    value = int(text)
    if not low <= value <= high:
        raise ValueError
    return value


def _real(text: str, low: float, high: float) -> float:
    value = float(text)
    if not low <= value <= high:
        raise ValueError
    return value


def _one_of(text: str, words: tuple[str, ...]) -> str:
    if text.lower() not in words:
        raise ValueError
    return text.lower()


def _device(text: str) -> str:
    if not re.fullmatch(r"auto|cpu|cuda(:\d{1,2})?", text):
        raise ValueError
    return text


def _pem(text: str) -> str:
    """Line breaks may be written as `\\n`: not everything on the way to a container keeps them."""
    text = text.replace("\\n", "\n")
    if "PRIVATE KEY-----" not in text or "-----BEGIN CERTIFICATE-----" not in text:
        raise ValueError
    return text


def _factory(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", text):
        raise ValueError
    return text


Reader = Callable[[str], object]
SWITCH = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}

# variable → (field, reader, what is expected)
READERS: dict[str, tuple[str, Reader, str]] = {
    "HOST": ("host", str, "an address to listen on"),
    "PORT": ("port", lambda t: _whole(t, 0, 65535), "a whole number from 0 to 65535 (0: any free port)"),
    "REPLICA": ("replica", str, "a name"),
    "REPLICA_FILE": ("replica_file", Path, "a file with the name, which may come later and change"),
    "REPLICA_TOKEN": ("token", str, "a secret"),
    "TLS_CERTIFICATE": ("certificate", _pem, "a PEM with a private key and its certificate"),
    "MODEL_FACTORY": ("factory", _factory, "module:function that returns (nn.Module, shape of one row)"),
    "DEVICE": ("device", _device, "auto, cpu, cuda or cuda:N"),
    "DTYPE": ("dtype", lambda t: _one_of(t, DTYPES), "one of " + ", ".join(DTYPES)),
    "THREADS": ("threads", lambda t: _whole(t, 0, 1024), "a whole number from 0 (one a core) to 1024"),
    "TORCH_COMPILE": ("compile", lambda t: SWITCH[t.lower()], "true or false"),
    "TUNE_S": ("tune_s", lambda t: _real(t, 0, 3600), "seconds from 0 to 3600"),
    "MAX_BATCH_SIZE": ("max_batch_size", lambda t: _whole(t, 1, 4096), "a whole number from 1 to 4096"),
    "MAX_QUEUE": ("max_queue", lambda t: _whole(t, 1, 1_000_000), "a whole number from 1 to 1000000"),
    "MAX_WAIT_MS": ("max_wait_ms", lambda t: _real(t, 0, 10_000), "milliseconds from 0 to 10000"),
    "LINGER": ("linger", lambda t: _real(t, 0, 1), "a share of the batch time from 0 to 1"),
    "CAPACITY": ("capacity", lambda t: _whole(t, 0, 1_000_000), "a whole number from 0 (the batch size) to 1000000"),
    "SERVICE_TIME_MS": ("service_time_ms", lambda t: _real(t, 0, 60_000), "milliseconds from 0 to 60000"),
    "MAX_BODY_BYTES": ("max_body_bytes", lambda t: _whole(t, 1, 2**31), "bytes from 1 to 2147483648"),
    "REQUEST_TIMEOUT_S": ("request_timeout_s", lambda t: _real(t, 0.001, 3600), "seconds from 0.001 to 3600"),
    "RECEIVE_TIMEOUT_S": ("receive_timeout_s", lambda t: _real(t, 0.1, 3600), "seconds from 0.1 to 3600"),
    "KEEP_ALIVE_S": ("keep_alive_s", lambda t: _real(t, 0.1, 86_400), "seconds from 0.1 to 86400"),
    "DRAIN_S": ("drain_s", lambda t: _real(t, 0, 3600), "seconds from 0 to 3600"),
    "DRAIN_QUIET_S": ("drain_quiet_s", lambda t: _real(t, 0, 60), "seconds from 0 to 60"),
    "WORKERS": ("workers", lambda t: _whole(t, 1, 256), "a whole number from 1 to 256"),
    "LOG_LEVEL": (
        "log_level",
        lambda t: _one_of(t, ("debug", "info", "warning", "error")),
        "debug, info, warning or error",
    ),
    "APPLICATIONINSIGHTS_CONNECTION_STRING": ("connection_string", str, "a connection string"),
    "TRACE_SAMPLING": ("sampling", lambda t: _real(t, 0, 1), "a share from 0 to 1"),
}
SECRETS = {"REPLICA_TOKEN", "TLS_CERTIFICATE", "APPLICATIONINSIGHTS_CONNECTION_STRING"}


def read(environment: Mapping[str, str] | None = None) -> Settings:
    """The settings of this process; raises BadSetting with the variable, its value and what was expected."""
    environment = os.environ if environment is None else environment
    found: dict[str, object] = {}
    for variable, (name, reader, expected) in READERS.items():
        text = environment.get(variable, "").strip()
        if not text:
            continue
        try:
            found[name] = reader(text)
        except (ValueError, KeyError, OverflowError):
            shown = "***" if variable in SECRETS else repr(text)
            raise BadSetting(f"{variable} is {shown}, but must be {expected}.") from None
    found["models"] = find_models(environment.get("MODEL_PATH", "").strip())
    return Settings(**found)  # type: ignore[arg-type]


def find_models(text: str) -> tuple[tuple[str, Path], ...]:
    """Name and file of each model in MODEL_PATH: a file, a folder of files, or name=file pairs between commas."""
    if not text:
        return _checked([(DEFAULT_MODEL.stem, DEFAULT_MODEL)])
    if "=" in text and not Path(text).exists():
        pairs = [part.partition("=") for part in text.split(",") if part.strip()]
        return _checked([(name.strip(), Path(file.strip())) for name, _, file in pairs])
    path = Path(text)
    if path.is_dir():
        files = sorted(p for p in path.iterdir() if p.suffix in SUFFIXES)
        if not files:
            raise BadSetting(f"MODEL_PATH is the folder {text}, which holds no {', '.join(SUFFIXES)} file.")
        return _checked([(p.stem, p) for p in files])
    return _checked([(path.stem, path)])


def _checked(models: list[tuple[str, Path]]) -> tuple[tuple[str, Path], ...]:
    names = [name for name, _ in models]
    for name, path in models:
        if not NAME.fullmatch(name):
            raise BadSetting(f"MODEL_PATH names a model {name!r}: use letters, digits, '.', '_' and '-' only.")
        if names.count(name) > 1:
            raise BadSetting(f"MODEL_PATH names two models {name!r}: give them different names (name=file,name=file).")
        if path.suffix not in SUFFIXES:
            raise BadSetting(f"MODEL_PATH is {path}, but a model file ends in {', '.join(SUFFIXES)}.")
        if not path.is_file():
            hint = "`python -m inference.train` writes the sample models" if path == DEFAULT_MODEL else "set MODEL_PATH"
            raise BadSetting(f"There is no model at {path}: {hint}.")
    return tuple(models)


def cores(quota: Path = Path("/sys/fs/cgroup/cpu.max")) -> int:
    """How many cores this process may use: those it may run on, or fewer where a container's quota is less."""
    allowed = len(os.sched_getaffinity(0))
    try:
        used_us, period_us = quota.read_text(encoding="ascii").split()
        return max(1, min(allowed, math.ceil(int(used_us) / int(period_us))))
    except (OSError, ValueError, ZeroDivisionError):  # no such file, or "max": no quota
        return allowed
