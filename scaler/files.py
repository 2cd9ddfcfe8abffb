"""The operator's files, from disk: ``autoscaler.yaml`` and the replica templates that it names."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from scaler.config import Config, Service, load
from scaler.decide import policy_of
from scaler.errors import BadSetting
from scaler.shadow import shadow_of
from scaler.template import Template
from scaler.tick.managed import Managed

LARGEST_FILE_BYTES = 4 * 1024 * 1024

log = logging.getLogger("scaler.files")


def read_services(config_file: str, values: Mapping[str, str] | None = None) -> tuple[Config, list[Managed]]:
    """The configuration, and each service with what its settings compile to. A template is found beside the
    configuration; ``values`` are what its ``${NAME}`` stand for, None leaves them as they are. Raises ``BadSetting``:
    one sentence with the file, the place in it and what to do."""
    file = Path(config_file)
    config = load(_text(file, "set AUTOSCALER_CONFIG to where it is"), file.name)
    return config, [_managed(name, service, file, values) for name, service in config.services.items()]


def _managed(name: str, service: Service, file: Path, values: Mapping[str, str] | None) -> Managed:
    template = None
    if service.template is not None:
        beside = file.parent / service.template
        named = f"{file.name}, services.{name}.template, names it"
        template = Template.read(_text(beside, named), service.template, values)
        for warning in template.warnings:
            log.warning(warning)
    size = template.size if template else None
    return Managed(
        name=name,
        service=service,
        policy=policy_of(service, name, file.name, size=size),
        template=template,
        shadow=shadow_of(service, name, file.name, size=size),
    )


def _text(file: Path, hint: str) -> bytes:
    try:
        with file.open("rb") as opened:
            text = opened.read(LARGEST_FILE_BYTES + 1)
    except OSError as error:
        raise BadSetting(f"{file}: cannot be read: {error.strerror}; {hint}") from error
    if len(text) > LARGEST_FILE_BYTES:
        raise BadSetting(f"{file}: larger than {LARGEST_FILE_BYTES >> 20} MiB, so it is not what was meant; {hint}")
    return text
