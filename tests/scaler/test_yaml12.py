import pytest

from scaler.errors import BadSetting
from scaler.yaml12 import read


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("off: true", {"off": True}),
        ("a: yes", {"a": "yes"}),
        ("from: 07:30", {"from": "07:30"}),
        ("dates: [2026-12-24]", {"dates": ["2026-12-24"]}),
        ("a: 010", {"a": 10}),
        ("a: 1e3", {"a": 1000.0}),
        ("a: -.5", {"a": -0.5}),
        ("a: ~", {"a": None}),
        ("a:", {"a": None}),
        ("a: 1_000", {"a": "1_000"}),
        ("a: .inf", {"a": float("inf")}),
        ('{"a": [1, 2.5, null, true]}', {"a": [1, 2.5, None, True]}),
        ("", None),
    ],
)
def test_values_are_what_people_mean(text: str, value: object) -> None:
    assert read(text, "f.yaml") == value


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: 1\na: 2", "f.yaml:2: not readable as YAML: the key 'a' is given twice"),
        ("a: [1\nb: 2", "f.yaml:2: not readable as YAML"),
        ("a: !!python/object:os.system x", "f.yaml:1: not readable as YAML"),
        (b"a: \xff", "f.yaml: not readable as YAML"),
        ("? [a, b]\n: 1", "f.yaml:1: not readable as YAML"),
        ("a: &p [*p]", "f.yaml:1: not readable as YAML"),
        ("a: \x00", "f.yaml: not readable as YAML"),
    ],
)
def test_what_cannot_be_read_is_said_with_its_line(text: str | bytes, says: str) -> None:
    with pytest.raises(BadSetting) as caught:
        read(text, "f.yaml")
    assert str(caught.value).startswith(says)
