"""From what a user wants to run to what is run."""

from __future__ import annotations

from pathlib import Path

import pytest

from stoker.control import launches
from stoker.domain.endpoint import EndpointSpec, LaunchSpec, PoolSpec
from stoker.domain.errors import Invalid
from stoker.domain.hardware import HardwareRequest


def wanted(launch: LaunchSpec, *, slots: int | None = None, gpus: int = 0) -> EndpointSpec:
    pool = PoolSpec(hardware=HardwareRequest(gpu_count=gpus))
    return EndpointSpec(name="My Chat", launch=launch, pools=(pool,), slots=slots)


def test_a_command_is_run_as_it_is_with_one_request_at_a_time_which_is_said_aloud() -> None:
    launch = launches.resolve(wanted(LaunchSpec(command=("serve", "{port}"), env={"A": "1"})), "my-chat", models={})[
        "default"
    ]
    assert (launch.engine, launch.command, dict(launch.env)) == (None, ("serve", "{port}"), {"A": "1"})
    assert (launch.slots, launch.probe.path) == (1, None)
    assert "set slots" in launch.notes[0]
    assert launches.resolve(wanted(LaunchSpec(command=("x",)), slots=8), "my-chat", models={})["default"].notes == ()


def test_a_model_is_resolved_by_an_engine_and_answers_to_the_endpoints_names(tmp_path: Path) -> None:
    weights = tmp_path / "tiny.gguf"
    weights.touch()
    launch = launches.resolve(wanted(LaunchSpec(model="tiny")), "my-chat", models={"tiny": str(weights)})["default"]
    assert launch.engine == "llamacpp"
    assert {"tiny", "My Chat", "my-chat"} <= set(launch.models)
    assert str(weights) in launch.command


@pytest.mark.parametrize(
    ("launch", "pointer"),
    [
        pytest.param(LaunchSpec(model="no-such-model"), "/launch/model", id="unknown model"),
        pytest.param(LaunchSpec(model="/" + "x" * 300), "/launch/model", id="a path that cannot be"),
        pytest.param(LaunchSpec(model="/nothing/here.gguf"), "/launch/model", id="nothing there"),
        pytest.param(LaunchSpec(model="o/m", engine="nothing"), "/launch/engine", id="unknown engine"),
        pytest.param(
            LaunchSpec(model="o/m", engine="vllm", parameters=("--nothing",)), "/launch/parameters/0", id="parameter"
        ),
    ],
)
def test_what_cannot_be_resolved_is_refused_at_its_place(launch: LaunchSpec, pointer: str) -> None:
    with pytest.raises(Invalid) as caught:
        launches.resolve(wanted(launch), "my-chat", models={})
    assert [problem.pointer for problem in caught.value.problems] == [pointer]
