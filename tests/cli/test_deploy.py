"""`stoker deploy`."""

from __future__ import annotations

import json

import pytest

from cli.fake_stoker import Command, FakeStoker, event, operation, page, problem
from stoker.cli import specs
from stoker.cli.errors import CliError


def test_a_model_needs_no_more_than_its_name(stoker: Command, fake: FakeStoker) -> None:
    ran = stoker("deploy", "smollm2")
    assert ran.code == 0
    body = fake.of("POST")[0].body
    assert body == {
        "name": "smollm2",
        "launch": {"model": "smollm2"},
        "pools": [{"provider": "process", "hardware": {}, "bounds": {"min": 0, "max": 1}}],
        "scaling": {},
        "access": "project",
    }
    assert ran.out.splitlines()[0] == (
        "smollm2 is idle; it starts at its first request (llamacpp, 0 to 1 worker, 4 requests at once each)"
    )
    assert ran.out.splitlines()[1] == (
        'curl http://stoker/v1/chat/completions -H "Authorization: Bearer $STOKER_KEY" '
        "-H 'Content-Type: application/json' "
        """-d '{"model": "smollm2", "messages": [{"role": "user", "content": "Hello"}]}'"""
    )


def test_everything_can_be_said(stoker: Command, fake: FakeStoker) -> None:
    options = (
        *("--name", "My Chat", "--min", "1", "--max", "3", "--engine", "vllm", "--engine-version", "0.12.0"),
        *("--param", "max-model-len=4096", "--param", "--enforce-eager", "--env", "HF_HOME=/c=d", "--gpu", "h100:2"),
        *("--vcpu", "8", "--ram", "64", "--slots", "16", "--idle-timeout", "10m", "--access", "open"),
        *("--provider", "docker", "--no-wait"),
    )
    assert stoker("deploy", "meta-llama/Llama-3.1-8B", *options).code == 0
    assert fake.of("POST")[0].body == {
        "name": "My Chat",
        "launch": {
            "model": "meta-llama/Llama-3.1-8B",
            "engine": "vllm",
            "engine_version": "0.12.0",
            "parameters": ["--max-model-len=4096", "--enforce-eager"],
            "env": {"HF_HOME": "/c=d"},
        },
        "pools": [
            {
                "provider": "docker",
                "hardware": {"gpu_family": "h100", "gpu_count": 2, "vcpu": 8.0, "ram_gib": 64.0},
                "bounds": {"min": 1, "max": 3},
            }
        ],
        "scaling": {"idle_timeout_s": 600.0},
        "access": "open",
        "slots": 16,
    }


def test_what_lateness_costs_and_when_it_begins_are_parameters_of_auto(stoker: Command, fake: FakeStoker) -> None:
    assert stoker("deploy", "smollm2", "--late-cost", "20", "--wait-target", "1m").code == 0
    scaling = fake.of("POST")[0].body["scaling"]
    assert scaling == {"triggers": [{"type": "auto", "late_cost": 20.0, "wait_target_s": 60.0}]}


def test_a_command_stands_behind_two_dashes(stoker: Command, fake: FakeStoker) -> None:
    ran = stoker("deploy", "--name", "web", "--", "python", "-m", "http.server", "--bind", "{host}", "{port}", "--json")
    assert ran.code == 0
    launch = fake.of("POST")[0].body["launch"]
    assert launch == {"command": ["python", "-m", "http.server", "--bind", "{host}", "{port}", "--json"]}


def test_an_image_may_have_a_command_and_a_port(stoker: Command, fake: FakeStoker) -> None:
    assert stoker("deploy", "--image", "registry:5000/team/nginx:1.27", "--port", "80", "--", "nginx").code == 0
    body = fake.of("POST")[0].body
    assert body["name"] == "nginx"
    assert body["launch"] == {"image": "registry:5000/team/nginx:1.27", "command": ["nginx"], "port": 80}


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param((), id="nothing to run"),
        pytest.param(("smollm2", "--image", "nginx"), id="two things to run"),
        pytest.param(("smollm2", "--", "serve"), id="a model and a command"),
        pytest.param(("smollm2", "--gpu", "h100:many"), id="no number of cards"),
        pytest.param(("smollm2", "--gpu", "h100:0"), id="no cards"),
        pytest.param(("smollm2", "--env", "NAME"), id="variable without a value"),
        pytest.param(("smollm2", "--idle-timeout", "later"), id="no span of time"),
        pytest.param(("smollm2", "--min", "-1"), id="less than none"),
        pytest.param(("smollm2", "--no-such-option"), id="unknown option"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_asked(
    stoker: Command, fake: FakeStoker, arguments: tuple[str, ...]
) -> None:
    ran = stoker("deploy", *arguments)
    assert (ran.code, ran.out) == (2, "")
    assert fake.asked == []


def test_events_are_shown_while_it_waits(stoker: Command, fake: FakeStoker) -> None:
    seen = {None: [event(3, "worker 1 starts")], "3": [event(4, "worker 1 is ready after 1.2 s")]}
    fake.on("GET", "/endpoints/0190-1/events", lambda asked: page(seen.get(asked.query.get("after"), [])))
    steps = iter([operation("create", ended=False), operation("create")])
    fake.on("GET", "/operations/create", lambda _: next(steps))
    ran = stoker("deploy", "smollm2", "--min", "1")
    assert ran.code == 0
    lines = [line.split("s  ", 1)[1] for line in ran.err.splitlines()]
    assert lines == ["worker 1 starts", "worker 1 is ready after 1.2 s"]


def test_json_is_all_that_is_on_stdout_when_asked_for(stoker: Command, fake: FakeStoker) -> None:
    ran = stoker("deploy", "smollm2", "--json")
    assert json.loads(ran.out)["name"] == "smollm2"
    assert ran.err == ""


def test_what_was_not_applied_is_said(stoker: Command, fake: FakeStoker) -> None:
    made = fake.add("chat")
    made["launch"]["notes"] = ["--enforce-eager was not applied"]
    fake.on("POST", "/endpoints", (201, {"endpoint": made, "operation": operation("create")}))
    assert "note: --enforce-eager was not applied" in stoker("deploy", "smollm2").err


def test_a_refusal_is_told_with_its_reason(stoker: Command, fake: FakeStoker) -> None:
    text = "no model 'smol'; did you mean smollm2?"
    fake.on("POST", "/endpoints", (422, problem(422, text, ("/launch/model", text))))
    ran = stoker("deploy", "smol")
    assert (ran.code, ran.err) == (1, f"error: {text}\n")


@pytest.mark.parametrize(
    ("texts", "arguments"),
    [
        pytest.param(["max-model-len=4096"], ["--max-model-len=4096"], id="without dashes"),
        pytest.param(["enforce-eager"], ["--enforce-eager"], id="boolean without dashes"),
        pytest.param(["--max-model-len 4096"], ["--max-model-len", "4096"], id="flag and value in one"),
        pytest.param(["--max-model-len", "4096", "-tp", "2"], ["--max-model-len", "4096", "-tp", "2"], id="one by one"),
        pytest.param(['hf-overrides={"a": "b c"}'], ['--hf-overrides={"a": "b c"}'], id="JSON stays whole"),
        pytest.param(['--hf-overrides {"a": 1}'], ["--hf-overrides", '{"a": 1}'], id="JSON behind its flag"),
        pytest.param(["--a=b c", "d"], ["--a=b c", "--d"], id="an attached value ends its flag"),
    ],
)
def test_parameters_may_be_written_in_several_ways(texts: list[str], arguments: list[str]) -> None:
    assert specs.parameters(texts) == arguments


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (None, {}),
        ("h100", {"gpu_family": "h100", "gpu_count": 1}),
        ("h100:8", {"gpu_family": "h100", "gpu_count": 8}),
        (":2", {"gpu_count": 2}),
    ],
)
def test_cards_are_a_family_and_a_count(text: str | None, found: dict[str, object]) -> None:
    assert specs.hardware(text, None, None) == found


def test_variables_need_a_name() -> None:
    with pytest.raises(CliError, match="NAME=VALUE"):
        specs.variables(["=x"])


@pytest.mark.parametrize(
    ("model", "image", "command", "name"),
    [
        ("HuggingFaceTB/SmolLM2", None, (), "smollm2"),
        ("/models/Tiny Model.gguf", None, (), "tiny-model"),
        (None, "ghcr.io/org/app@sha256:00", (), "app"),
        (None, None, ("/usr/bin/python3", "x.py"), "python3"),
        ("...", None, (), "endpoint"),
    ],
)
def test_a_name_comes_from_what_runs(model: str | None, image: str | None, command: tuple[str, ...], name: str) -> None:
    assert specs.name_of(model, image, command) == name
