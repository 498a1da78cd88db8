"""What options of providers are made of."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest

from stoker.domain.errors import Invalid
from stoker.domain.hardware import PortRange
from stoker.providers import parsing
from stoker.providers.docker import options as docker
from stoker.providers.kubernetes import options as kubernetes

PARSERS = {"name": parsing.text, "count": parsing.whole(1, 9), "models": parsing.text, "models_image": parsing.text}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"nothing": 1}, "the box provider has no option 'nothing'; there are count, models, models_image, name"),
        ({"count": 10}, "the option count of the box provider cannot be '10': expected a whole number between 1 and 9"),
        ({"count": True}, "the option count of the box provider cannot be 'True'"),
        ({"name": ""}, "the option name of the box provider cannot be '': expected text"),
        ({"models": "m"}, "the options models and models_image of the box provider belong together"),
    ],
)
def test_what_cannot_be_is_refused_by_its_name(given: dict[str, object], words: str) -> None:
    with pytest.raises(Invalid) as caught:
        parsing.read(given, PARSERS, provider="box")
    assert words in str(caught.value)


def test_what_can_be_is_read_and_what_is_not_said_is_left_out() -> None:
    assert parsing.read({"count": 3}, PARSERS, provider="box") == {"count": 3}


@pytest.mark.parametrize(
    ("parser", "value", "found"),
    [
        (parsing.ports, "30000-30009", PortRange(30_000, 30_009)),
        (parsing.capabilities, ["cap_chown", "SETUID"], ("CHOWN", "SETUID")),
        (parsing.number(0, 1), 1, 1.0),
        (parsing.switch, False, False),
        (parsing.images, {"vllm": "my/vllm"}, {"vllm": "my/vllm"}),
        (lambda value: parsing.cards(value, most=8), {"h100": 8}, {"h100": 8}),
    ],
)
def test_each_kind_is_read(parser: parsing.Parser, value: object, found: object) -> None:
    assert parser(value) == found


@pytest.mark.parametrize(
    ("parser", "value"),
    [
        (parsing.ports, "9-1"),
        (parsing.ports, "1-65536"),
        (parsing.capabilities, "CHOWN"),
        (parsing.number(0, 1), 1.5),
        (parsing.number(0, 1), True),
        (parsing.switch, "yes"),
        (parsing.images, ["vllm"]),
        (lambda value: parsing.cards(value, most=8), {"h100": 9}),
    ],
)
def test_what_is_none_of_its_kind_is_not_read(parser: parsing.Parser, value: object) -> None:
    with pytest.raises((TypeError, ValueError)):
        parser(value)


@pytest.mark.parametrize("module", [docker, kubernetes])
def test_every_option_has_a_parser(module: Any) -> None:
    kind = module.DockerOptions if module is docker else module.KubernetesOptions
    assert {each.name for each in fields(kind)} == set(module._PARSERS)
