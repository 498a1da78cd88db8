"""The JSON Schema of the endpoint document says what the API says."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from pydantic import ValidationError
from ruamel.yaml import YAML

from api.client import Api, run, spec
from stoker.api.schema import MEDIA_TYPE, document
from stoker.api.wire.spec import SpecIn
from stoker.domain.errors import Invalid

ROOT = Path(__file__).parents[2]
SCHEMA = document()
VALIDATOR = Draft202012Validator(SCHEMA)
EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))


def whole() -> dict[str, Any]:
    """A document in which every number may be changed on its own."""
    return {
        "name": "e",
        "launch": {"image": "registry/name:tag", "command": ["serve"], "port": 80, "ports": [81], "env": {"A": "b"}},
        "pools": [
            {
                "name": "main",
                "provider": "fake",
                "hardware": {
                    "gpu_family": ["h100", "a100"],
                    "gpu_count": 1,
                    "vram_gib_min": 40,
                    "vcpu": 2,
                    "ram_gib": 2,
                    "disk_gib": 5,
                    "region": "local",
                    "price_max": 2.5,
                },
                "bounds": {"min": 0, "max": 1000, "cold": 0},
            }
        ],
        "slots": 4,
        "scaling": {"target": 2, "scale_down_delay_s": 60, "idle_timeout_s": 300},
        "probes": {
            "startup": {
                "path": "/health",
                "initial_delay_s": 1,
                "period_s": 5,
                "timeout_s": 5,
                "failures_max": 3,
                "successes_min": 1,
                "start_timeout_s": 900,
            }
        },
        "waiting": {"requests_max": 10, "wait_s_max": 5},
        "routing": {"balance": "pack", "session": "soft", "session_idle_s": 10},
        "timeouts": {"connect_s": 5, "first_byte_s": 600, "idle_s": 300, "total_s": 10},
        "rollout": {"surge": 1, "drain_timeout_s": 600, "grace_s": 10},
        "logging": {"retention_s": 10, "bytes_max": 10},
        "volumes": [{"volume": "data", "path": "/data", "read_only": True}],
        "labels": {"team": "research"},
        "annotations": {},
    }


def api_takes(value: Any) -> bool:
    try:
        SpecIn.model_validate(value).to_spec()
    except (ValidationError, Invalid):
        return False
    return True


def changed(pointer: str, value: object) -> dict[str, Any]:
    """The whole document with another value at that place; a name that is not there is added."""
    made = whole()
    *path, last = pointer.strip("/").split("/")
    place: Any = made
    for part in path:
        place = place[int(part) if isinstance(place, list) else part]
    place[int(last) if isinstance(place, list) else last] = value
    return made


def without(pointer: str) -> dict[str, Any]:
    made = whole()
    *path, last = pointer.strip("/").split("/")
    place: Any = made
    for part in path:
        place = place[part]
    del place[last]
    return made


def numbers(value: Any, pointer: str = "") -> Iterator[str]:
    """Where numbers are in a document."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, below in items:
        if isinstance(below, int | float) and not isinstance(below, bool):
            yield f"{pointer}/{name}"
        yield from numbers(below, f"{pointer}/{name}")


def test_the_schema_is_a_schema() -> None:
    Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_examples_are_accepted(path: Path) -> None:
    found = list(YAML(typ="safe", pure=True).load_all(path.read_text()))
    assert found
    for each in found:
        VALIDATOR.validate(each)


def test_a_whole_document_and_what_the_api_shows_of_it_are_accepted() -> None:
    VALIDATOR.validate(whole())
    shown = SpecIn.of(SpecIn.model_validate(whole()).to_spec()).model_dump(mode="json")
    VALIDATOR.validate(shown)


WRONG: dict[str, dict[str, Any]] = {
    "no name": without("/name"),
    "an empty name": changed("/name", ""),
    "a blank name": changed("/name", "  "),
    "a long name": changed("/name", "x" * 256),
    "no launch": without("/launch"),
    "an unknown field": changed("/replicas", 3),
    "an unknown field of a pool": changed("/pools/0/replicas", 3),
    "nothing to run": changed("/launch", {}),
    "a model and an image": changed("/launch/model", "m"),
    "a model and a command": changed("/launch", {"model": "m", "command": ["x"]}),
    "parameters without a model": changed("/launch/parameters", ["--x"]),
    "a credential without an image": changed("/launch", {"command": ["x"], "credential": "c"}),
    "further ports without a port": changed("/launch", {"image": "i", "ports": [80]}),
    "a port twice": changed("/launch/ports", [81, 81]),
    "too many ports": changed("/launch/ports", list(range(100, 116))),
    "a variable with no name": changed("/launch/env", {"A B": "c"}),
    "a variable that is a number": changed("/launch/env", {"A": 5}),
    "a reference to no secret": changed("/launch/env", {"A": {"secret": ""}}),
    "a variable that is too long": changed("/launch/env", {"A": "x" * 32_769}),
    "too many variables": changed("/launch/env", {f"A{i}": "" for i in range(257)}),
    "an argument with NUL": changed("/launch/command", ["a\0b"]),
    "too many arguments": changed("/launch/command", ["a"] * 257),
    "no pools": changed("/pools", []),
    "too many pools": changed("/pools", [{"name": f"p{i}"} for i in range(17)]),
    "a pool with a strange name": changed("/pools/0/name", "a b"),
    "a number that is text": changed("/slots", "4"),
    "a number that is true": changed("/slots", True),
    "half a worker": changed("/pools/0/bounds/max", 1.5),
    "vcpu said twice": changed("/pools/0/hardware/vcpu_per_gpu", 1),
    "memory said twice": changed("/pools/0/hardware/ram_gib_per_gpu", 1),
    "too many families": changed("/pools/0/hardware/gpu_family", ["h100"] * 17),
    "an unknown access": changed("/access", "public"),
    "an unknown balance": changed("/routing/balance", "random"),
    "a probe of no path": changed("/probes/startup/path", "health"),
    "a probe of a path with a space": changed("/probes/startup/path", "/a b"),
    "null where there is no nothing": changed("/probes", None),
    "a volume with a strange name": changed("/volumes/0/volume", "A"),
    "a volume at the root": changed("/volumes/0/path", "/"),
    "a volume that is read_only by a word": changed("/volumes/0/read_only", "yes"),
    "too many volumes": changed("/volumes", [{"volume": f"v{i}"} for i in range(17)]),
    "a label that is a number": changed("/labels", {"a": 1}),
    "too many labels": changed("/labels", {f"a{i}": "" for i in range(65)}),
    "a label that is too long": changed("/labels", {"a": "x" * 4_097}),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_the_api_refuses_the_schema_refuses(what: str) -> None:
    assert not api_takes(WRONG[what])
    assert not VALIDATOR.is_valid(WRONG[what])


# Of these the API says more than a schema can: how they stand to each other.
TOGETHER = ("/pools/0/bounds/min", "/pools/0/bounds/max", "/pools/0/bounds/cold", "/pools/0/hardware/gpu_count")
PLACES = sorted(numbers(whole()))


def bounds_of(pointer: str) -> tuple[float, float, bool]:
    """The lowest and highest number that the schema takes there, and whether the lowest is just not taken."""
    found = [error.schema for error in VALIDATOR.iter_errors(changed(pointer, -1e18)) for error in _leaves(error)]
    [words] = [words for words in found if isinstance(words, dict) and "maximum" in words]
    return words["minimum" if "minimum" in words else "exclusiveMinimum"], words["maximum"], "exclusiveMinimum" in words


def _leaves(error: Any) -> list[Any]:
    return [leaf for each in error.context for leaf in _leaves(each)] if error.context else [error]


@pytest.mark.parametrize("pointer", PLACES)
def test_bounds_of_numbers_are_the_apis(pointer: str) -> None:
    low, high, open_ = bounds_of(pointer)
    step = 1 if isinstance(low, int) and isinstance(high, int) else 0.001
    beyond = {low - step, high + step, *({low} if open_ else set())}
    within = {high, low + step if open_ else low}
    for value in beyond:
        assert not api_takes(changed(pointer, value)), value
        assert not VALIDATOR.is_valid(changed(pointer, value)), value
    for value in within:
        assert VALIDATOR.is_valid(changed(pointer, value)), value
        assert api_takes(changed(pointer, value)) or pointer in TOGETHER, value


@given(
    st.sampled_from(PLACES),
    st.one_of(st.integers(), st.integers(-2, 70_000), st.none(), st.text(max_size=3), st.booleans(), st.just([])),
)
def test_one_value_changed_is_judged_alike(pointer: str, value: object) -> None:
    made = changed(pointer, value)
    if pointer in TOGETHER:
        assert VALIDATOR.is_valid(made) or not api_takes(made)
    else:
        assert VALIDATOR.is_valid(made) == api_takes(made)


def _part(draw: Callable[[Any], Any], value: Any) -> Any:
    """Some of what there is, at random with something else in its place."""
    if draw(st.integers(0, 15)) == 0:
        return draw(st.one_of(st.none(), st.integers(-2, 300), st.text(max_size=4), st.lists(st.text(max_size=4))))
    if isinstance(value, dict):
        return {name: _part(draw, below) for name, below in value.items() if draw(st.integers(0, 9)) > 2}
    if isinstance(value, list):
        return [_part(draw, below) for below in value]
    return value


@given(st.data())
def test_whatever_the_api_takes_the_schema_takes(data: st.DataObject) -> None:
    made = _part(data.draw, whole())
    if isinstance(made, dict):
        made = {"name": "e", "launch": {"command": ["x"]}} | made
    if api_takes(made):
        VALIDATOR.validate(made)


@pytest.mark.parametrize(
    "over",
    [
        pytest.param({"name": "e"}, id="nothing else need be said"),
        pytest.param({"name": "e", "probes": None, "slots": None}, id="null takes a field out"),
        pytest.param({"name": "e", "launch": {"parameters": ["--x"], "model": None}}, id="part of what is run"),
        pytest.param({"name": "e", "launch": {"env": {"A": None, "B": {"secret": "s"}}}}, id="a variable less"),
        pytest.param({"name": "e", "probes": {"startup": {"path": None, "period_s": None}}}, id="deep inside"),
    ],
)
def test_a_document_over_a_template_is_a_patch(over: dict[str, Any]) -> None:
    VALIDATOR.validate({"template": "t@1"} | over)
    assert not VALIDATOR.is_valid(over)


@pytest.mark.parametrize("over", [{"replicas": 1}, {"slots": 0}, {"launch": {"env": {"A": 1}}}, {"pools": [{"x": 1}]}])
def test_a_patch_is_checked_as_far_as_it_goes(over: dict[str, Any]) -> None:
    assert not VALIDATOR.is_valid({"name": "e", "template": "t"} | over)


def test_the_api_serves_the_schema_and_takes_what_it_accepts() -> None:
    async def body(api: Api) -> None:
        answer = await api.call("GET", "/schema")
        assert answer.status == 200
        assert answer.headers["content-type"] == MEDIA_TYPE
        assert answer.json == SCHEMA
        made = await api.create()
        VALIDATOR.validate(made["spec"])
        for what, wrong in WRONG.items():
            assert (await api.call("POST", "/endpoints", wrong)).status == 422, what
        assert (await api.call("POST", "/endpoints", deepcopy(spec("second")))).status == 201

    run(body)


def test_the_committed_schema_is_this_one() -> None:
    assert json.loads((ROOT / "docs" / "reference" / "endpoint.schema.json").read_text()) == SCHEMA
