"""What a replica template leaves open: ``${NAME}`` stands for the setting TEMPLATE_NAME, ``$${`` for ``${``. Pure.

So the file in the repository holds no secret, no tag of an image and no id of a subscription. Only names with that
prefix can be read: nothing else of the environment ever gets into a replica.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from scaler.errors import BadSetting
from scaler.model import Json

PLACE = re.compile(r"\$\$\{|\$\{([^}]*)\}")
NAME = re.compile(r"[A-Z][A-Z0-9_]*")


def fill(raw: Json, file: str, values: Mapping[str, str] | None) -> tuple[Json, tuple[str, ...]]:
    """The template with its values in, and a warning that names those that are open: with ``values`` None all of them
    are. Raises ``BadSetting`` for a name that is none, and for one that ``values`` lacks."""
    filler = _Filler(file, values)
    filled = filler.value(raw, "")
    assert isinstance(filled, dict)
    if not filler.open:
        return filled, ()
    names = ", ".join(f"TEMPLATE_{name}" for name in sorted(filler.open))
    return filled, (f"{file}: filled in by settings of the function app: {names}",)


class _Filler:
    def __init__(self, file: str, values: Mapping[str, str] | None) -> None:
        self._file, self._values = file, values
        self.open: set[str] = set()

    def value(self, value: object, path: str) -> object:
        if isinstance(value, dict):
            return {self.text(k, path): self.value(v, f"{path}.{k}".lstrip(".")) for k, v in value.items()}
        if isinstance(value, list):
            return [self.value(v, f"{path}[{i}]") for i, v in enumerate(value)]
        return self.text(value, path) if isinstance(value, str) else value

    def text(self, text: str, path: str) -> str:
        return PLACE.sub(lambda found: self._one(found, path), text)

    def _one(self, found: re.Match[str], path: str) -> str:
        name = found[1]
        if name is None:
            return "${"
        if not NAME.fullmatch(name):
            raise BadSetting(
                f"{self._file}: {path}: {found[0]!r} names no setting: capitals, digits and _; write $${{ to mean ${{"
            )
        if self._values is None:
            self.open.add(name)
            return found[0]
        if name not in self._values:
            raise BadSetting(f"{self._file}: {path}: {found[0]} has no value; set TEMPLATE_{name} in the function app")
        return self._values[name]
