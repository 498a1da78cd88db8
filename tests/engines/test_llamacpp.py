"""What a worker that runs llama.cpp is started with."""

from __future__ import annotations

import pytest

from stoker.domain.errors import Invalid
from stoker.domain.hardware import HardwareRequest
from stoker.domain.launch import Launch, LaunchSpec
from stoker.engines import llamacpp_server
from stoker.engines.base import ModelFile
from stoker.engines.llamacpp import ENGINE, EQUIVALENT, TABLE
from stoker.engines.vllm import table

MODEL = ModelFile("smollm2", path="/models/smol.gguf")
CPU = HardwareRequest()


def _launch(
    *parameters: str, hardware: HardwareRequest = CPU, slots: int | None = None, version: str | None = None
) -> Launch:
    spec = LaunchSpec(model="smollm2", engine_version=version, parameters=parameters)
    return ENGINE.launch(spec, MODEL, hardware, names=("My Chat", "my-chat"), slots=slots)


def test_the_command_starts_stokers_own_server() -> None:
    launch = _launch()
    assert launch.command == (
        *("{python}", "-m", "stoker.engines.llamacpp_server", "--model", "/models/smol.gguf"),
        *("--host", "{host}", "--port", "{port}", "--alias=smollm2", "--alias=My Chat", "--alias=my-chat"),
        *("--slots", "4", "--ctx-size-per-slot", "2048", "--n-gpu-layers=0"),
    )
    assert launch.models == ("smollm2", "My Chat", "my-chat")
    assert (launch.slots, launch.notes, launch.probe.path) == (4, (), "/health")


@pytest.mark.parametrize(
    ("parameters", "wish", "slots", "context"),
    [
        pytest.param((), None, 4, 2048, id="default"),
        pytest.param((), 2, 2, 2048, id="the endpoint's wish"),
        pytest.param(("--parallel", "8"), 2, 8, 2048, id="a parameter wins over the wish"),
        pytest.param(("--ctx-size", "8192", "-np", "2"), None, 2, 4096, id="context of all slots is divided"),
        pytest.param(("--ctx-size-per-slot", "512"), None, 4, 512, id="context of one slot"),
        pytest.param(("--max-model-len", "4k", "--max-num-seqs", "3"), None, 3, 4000, id="as vLLM says it"),
    ],
)
def test_slots_and_context(parameters: tuple[str, ...], wish: int | None, slots: int, context: int) -> None:
    launch = _launch(*parameters, slots=wish)
    start = launch.command.index("--slots")
    assert launch.command[start : start + 4] == ("--slots", str(slots), "--ctx-size-per-slot", str(context))
    assert launch.slots == slots
    assert launch.notes == ()


@pytest.mark.parametrize(
    ("hardware", "parameters", "expected"),
    [
        pytest.param(HardwareRequest(vcpu=1.5), (), ("--threads", "1", "--n-gpu-layers=0"), id="whole CPUs asked for"),
        pytest.param(HardwareRequest(vcpu=0.5), (), ("--threads", "1", "--n-gpu-layers=0"), id="at least one thread"),
        pytest.param(HardwareRequest(vcpu=4), ("-t", "2"), ("--threads", "2", "--n-gpu-layers=0"), id="as said"),
        pytest.param(HardwareRequest(gpu_count=1), (), ("--n-gpu-layers=-1",), id="a GPU is used"),
        pytest.param(HardwareRequest(gpu_count=1), ("-ngl", "10"), ("--n-gpu-layers=10",), id="layers as said"),
    ],
)
def test_threads_and_layers_follow_the_hardware(
    hardware: HardwareRequest, parameters: tuple[str, ...], expected: tuple[str, ...]
) -> None:
    assert _launch(*parameters, hardware=hardware).command[-len(expected) :] == expected


def test_own_parameters_are_handed_on() -> None:
    command = _launch("--cache-type-k", "q8_0", "-fa", "on", "--seed=-1", "--no-warmup", "--temp", "0").command
    assert command[-5:] == ("--cache-type-k=q8_0", "--flash-attn=on", "--seed=-1", "--no-warmup", "--temp=0")


def test_parameters_of_vllm_are_translated_or_noted() -> None:
    launch = _launch(
        *("--seed", "7", "--no-enable-prefix-caching", "--max-num-batched-tokens", "1K"),
        *("--gpu-memory-utilization", "0.9", "--enforce-eager"),
    )
    assert launch.command[-3:] == ("--seed=7", "--no-cache-prompt", "--batch-size=1024")
    assert launch.notes == (
        "--gpu-memory-utilization 0.9 was not applied: llama.cpp has nothing like it",
        "--enforce-eager was not applied: llama.cpp has nothing like it",
    )


def test_a_version_of_vllm_is_noted_and_decides_about_its_parameters() -> None:
    launch = _launch("--attention-config", "{}", version="0.15.1")
    assert launch.notes[0] == "vLLM 0.15.1 was asked for, llama.cpp runs"
    with pytest.raises(Invalid, match="no table for vLLM '1'"):
        _launch(version="1")


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        pytest.param(("--cache-type-q", "q8_0"), "did you mean --cache-type-[kv]?", id="unknown to both"),
        pytest.param(("--max-num-seq", "1"), "did you mean --max-num-seqs?", id="nearly vLLM's"),
        pytest.param(("--slots", "0"), "--slots must be at least 1", id="no slots"),
        pytest.param(("--slots", "257"), "at most 256 requests at once", id="too many slots"),
        pytest.param(("--ctx-size", "16"), "too little for 4 slots", id="hardly any context"),
        pytest.param(("--max-model-len", "0"), "must be at least 8", id="no context"),
        pytest.param(("--alias", "x"), "not yours to set", id="owned"),
        pytest.param(("--api-key", "x"), "not yours to set", id="vLLM's, owned"),
        pytest.param(("--dtype", "complex"), "expected one of", id="vLLM's, wrong value"),
    ],
)
def test_what_neither_takes_is_refused(parameters: tuple[str, ...], message: str) -> None:
    with pytest.raises(Invalid, match=message) as caught:
        _launch(*parameters)
    assert caught.value.problems[0].pointer == "/launch/parameters/0"


def test_too_many_slots_wished_for_are_refused_at_the_wish() -> None:
    with pytest.raises(Invalid) as caught:
        _launch(slots=1000)
    assert caught.value.problems[0].pointer == "/slots"


@pytest.mark.parametrize("path", [None, "/models/folder"])
def test_only_gguf_files_are_loaded(path: str | None) -> None:
    with pytest.raises(Invalid, match="loads GGUF files") as caught:
        ENGINE.launch(LaunchSpec(model="x"), ModelFile("x", path=path), CPU, names=(), slots=None)
    assert caught.value.problems[0].pointer == "/launch/model"


def test_the_server_understands_every_parameter_of_the_table() -> None:
    arguments: list[str] = []
    for parameter in ENGINE.parameters(None):
        value = parameter.allowed[0] if parameter.allowed else "128"
        arguments += [parameter.flags[0]] if parameter.type == "boolean" else [parameter.flags[0], value]
    command = [argument.replace("{port}", "1") for argument in _launch(*arguments).command]
    options = llamacpp_server.parser().parse_args(command[3:])
    assert (options.slots, options.ctx_size_per_slot, options.seed, options.embeddings) == (128, 128, 128, True)


def test_every_translation_leads_from_vllms_table_to_ours() -> None:
    assert set(EQUIVALENT) <= {parameter.name for parameter in table("0.12.0")}
    assert set(EQUIVALENT.values()) <= {parameter.name for parameter in TABLE}


def test_stokers_own_flags_are_not_offered() -> None:
    assert {parameter.name for parameter in ENGINE.parameters(None)}.isdisjoint({"host", "port", "model", "alias"})
    with pytest.raises(Invalid, match="one version"):
        ENGINE.parameters("1")


def test_all_layers_go_to_the_cards_unless_it_is_said_how_many() -> None:
    hardware = HardwareRequest(gpu_count=2)
    found = ENGINE.video_memory(LaunchSpec(model="smollm2"), hardware, card_gib=24)
    assert found is not None
    assert (found.cards, found.card_gib, found.share, found.halves) == (2, 24, 1.0, False)
    split = LaunchSpec(model="smollm2", parameters=("-ngl", "10"))
    assert ENGINE.video_memory(split, hardware, card_gib=24) is None
