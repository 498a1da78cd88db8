"""Engines are found, not listed."""

from __future__ import annotations

import pytest

from stoker.domain.errors import Invalid
from stoker.engines.base import load, names


def test_the_engines_that_ship_are_found() -> None:
    assert names() == ("llamacpp", "vllm")


@pytest.mark.parametrize("name", names())
def test_an_engine_answers_to_the_name_of_its_module(name: str) -> None:
    assert load(name).name == name


def test_an_unknown_engine_is_refused_naming_those_there_are() -> None:
    with pytest.raises(Invalid, match="no engine 'triton'; there are auto, llamacpp, vllm") as caught:
        load("triton")
    assert caught.value.problems[0].pointer == "/launch/engine"


@pytest.mark.parametrize("name", ["base", "parameters", "catalogue", "llamacpp_server"])
def test_a_module_without_an_engine_is_none(name: str) -> None:
    with pytest.raises(Invalid):
        load(name)
