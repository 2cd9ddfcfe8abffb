"""Ports and the variables that move them."""

import pytest

from infra.local.places import Ports, read_ports
from scaler.errors import BadSetting


def test_without_a_variable_every_door_has_its_usual_port() -> None:
    assert read_ports({}) == Ports()


def test_one_variable_moves_one_port() -> None:
    assert read_ports({"FRONT_PORT": "18080"}) == Ports(front=18080)


def test_port_base_moves_all_and_single_ones_still_count() -> None:
    ports = read_ports({"PORT_BASE": "20000", "ARM_PORT": "9000"})
    assert (ports.front, ports.discovery, ports.table, ports.arm) == (20000, 20001, 20008, 9000)


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        ({"FRONT_PORT": "eighty"}, "FRONT_PORT='eighty' is no usable port; expected a number from 1024 to 65535"),
        ({"FRONT_PORT": "80"}, "FRONT_PORT='80' is no usable port; expected a number from 1024 to 65535"),
        ({"PORT_BASE": "65535"}, "PORT_BASE='65535' is no usable port; expected a number from 1024 to 65526"),
        ({"FRONT_PORT": "8081"}, "FRONT_PORT and DISCOVERY_PORT are both 8081; give each part a port of its own"),
    ],
)
def test_a_bad_port_is_refused_by_name(variables: dict[str, str], sentence: str) -> None:
    with pytest.raises(BadSetting) as refused:
        read_ports(variables)
    assert str(refused.value) == sentence
