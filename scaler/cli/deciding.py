"""``decide``: one observation in, one decision out, line by line; the door for simulators and notebooks."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import BinaryIO

import msgspec

from scaler.cli.pipes import stop_writing
from scaler.config import load
from scaler.decide import decide, initial_state, policy_of
from scaler.errors import BadSetting
from scaler.model import Observation

COUNTS = ("window_s", "ready", "starting", "draining", "arrivals", "completed", "in_flight", "queued")


def main(words: list[str]) -> int:
    """``decide`` without the framework of the other commands; gives the exit code."""
    parser = argparse.ArgumentParser(prog="python -m scaler decide", add_help=False)
    parser.add_argument("--config", "-c", type=Path, required=True)
    parser.add_argument("--service", "-s", required=True)
    given = parser.parse_args(words)
    try:
        decide_lines(given.config, given.service, sys.stdin.buffer, sys.stdout.buffer)
    except BadSetting as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        stop_writing()
    return 0


def read_config(file: Path) -> bytes:
    """The bytes of a file an operator names. Raises ``BadSetting``."""
    try:
        return file.read_bytes()
    except OSError as error:
        raise BadSetting(f"{file}: cannot be read: {error.strerror or error}") from error


def decide_lines(file: Path, service: str, lines: BinaryIO, out: BinaryIO) -> None:
    """Answers every line as soon as it is there. Raises ``BadSetting`` that names the line."""
    config = load(read_config(file), str(file))
    if service not in config.services:
        names = ", ".join(sorted(config.services))
        raise BadSetting(f"{file}: services.{service}: there is no such service; there is: {names}")
    policy = policy_of(config.services[service], service, str(file))
    state = initial_state(policy)
    decoder, encoder = msgspec.json.Decoder(Observation), msgspec.json.Encoder()
    last_at = float("-inf")
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        observation = _observation(decoder, line, number)
        if observation.at < last_at:
            raise BadSetting(f"line {number}: at: {observation.at} is before {last_at}; time does not run backwards")
        last_at = observation.at
        decision, state = decide(policy, state, observation)
        out.write(encoder.encode(decision) + b"\n")
        out.flush()


def _observation(decoder: msgspec.json.Decoder[Observation], line: bytes, number: int) -> Observation:
    try:
        observation = decoder.decode(line)
    except msgspec.MsgspecError as error:
        message, _, place = str(error).partition(" - at `$")
        where = place.rstrip("`").lstrip(".")
        raise BadSetting(f"line {number}: {where + ': ' if where else ''}{message[0].lower()}{message[1:]}") from error
    for name in COUNTS:
        value = getattr(observation, name)
        if value is not None and value < 0:
            raise BadSetting(f"line {number}: {name}: {value} is below 0; what is not known is null")
    return observation
