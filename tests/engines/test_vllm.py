"""What a worker that runs vLLM is started with."""

from __future__ import annotations

import pytest

from stoker.domain.errors import Invalid
from stoker.domain.hardware import HardwareRequest
from stoker.domain.launch import Launch, LaunchSpec
from stoker.domain.weights import VideoMemory
from stoker.engines.base import ModelFile
from stoker.engines.vllm import ENGINE, OWNED, SLOTS, VERSIONS

MODEL = ModelFile("meta-llama/Llama-3.1-8B-Instruct")


def _launch(
    *parameters: str,
    gpus: int = 1,
    slots: int | None = None,
    version: str | None = None,
    model: ModelFile = MODEL,
    names: tuple[str, ...] = ("My Chat", "my-chat"),
) -> Launch:
    spec = LaunchSpec(model=model.name, engine_version=version, parameters=parameters, env={"HF_HOME": "/cache"})
    return ENGINE.launch(spec, model, HardwareRequest(gpu_count=gpus), names=names, slots=slots)


def test_the_command_says_what_to_serve_where_and_under_which_names() -> None:
    launch = _launch("--max-model-len", "4096", "--enable-prefix-caching")
    assert launch.command == (
        *("vllm", "serve", "meta-llama/Llama-3.1-8B-Instruct", "--host", "{host}", "--port", "{port}"),
        *("--served-model-name", "meta-llama/Llama-3.1-8B-Instruct", "My Chat", "my-chat"),
        *("--max-model-len", "4096", "--enable-prefix-caching"),
    )
    assert launch.models == ("meta-llama/Llama-3.1-8B-Instruct", "My Chat", "my-chat")
    assert (launch.env, launch.slots, launch.notes) == ({"HF_HOME": "/cache"}, SLOTS, ())
    assert (launch.probe.path, launch.probe.start_timeout_s) == ("/health", 1800)


def test_braces_of_the_user_survive_the_substitution_of_the_address() -> None:
    config = '{"method": "ngram", "num_speculative_tokens": {"x": 3}}'
    command = _launch("--speculative-config", config).command
    placed = [argument.replace("{host}", "127.0.0.1").replace("{port}", "20001") for argument in command]
    assert placed[-1] == config
    assert placed[3:7] == ["--host", "127.0.0.1", "--port", "20001"]


def test_weights_on_disk_are_served_by_path_under_the_models_name() -> None:
    launch = _launch(model=ModelFile("mine", path="/models/mine"), names=("mine",))
    assert launch.command[2] == "/models/mine"
    assert launch.models == ("mine",)


def test_a_name_that_looks_like_a_parameter_is_noted_and_left_out() -> None:
    launch = _launch(names=("-x", "x"))
    assert launch.models == (MODEL.name, "x")
    assert "'-x'" in launch.notes[0]


@pytest.mark.parametrize(
    ("parameters", "wish", "slots"),
    [
        pytest.param((), None, 256, id="default"),
        pytest.param(("--max-num-seqs", "32"), None, 32, id="as vLLM is told"),
        pytest.param(("--max-num-seqs=32", "-dp", "2"), None, 64, id="for every data-parallel rank"),
        pytest.param((), 8, 8, id="as the endpoint wishes"),
    ],
)
def test_slots(parameters: tuple[str, ...], wish: int | None, slots: int) -> None:
    assert _launch(*parameters, slots=wish, gpus=2).slots == slots


def test_vllm_is_told_the_endpoints_wish_for_slots() -> None:
    command = _launch(slots=8).command
    assert command[command.index("--max-num-seqs") + 1] == "8"


@pytest.mark.parametrize(
    ("gpus", "parameters", "expected"),
    [
        pytest.param(4, (), True, id="several cards are used"),
        pytest.param(1, (), False, id="one card"),
        pytest.param(0, (), False, id="no card"),
        pytest.param(4, ("-pp", "4"), False, id="the user has said how"),
    ],
)
def test_the_model_is_split_over_the_cards_of_the_pool(gpus: int, parameters: tuple[str, ...], expected: bool) -> None:
    command = _launch(*parameters, gpus=gpus).command
    assert ("--tensor-parallel-size" in command) is expected


def test_parallelism_beyond_the_hardware_is_refused() -> None:
    with pytest.raises(Invalid, match="need 4 GPUs, and its hardware has 2") as caught:
        _launch("--tensor-parallel-size", "2", "-pp", "2", gpus=2)
    assert caught.value.problems[0].pointer == "/launch/parameters/2"


@pytest.mark.parametrize("flag", ["--max-num-seqs", "-tp"])
def test_counts_are_at_least_one(flag: str) -> None:
    with pytest.raises(Invalid, match="must be at least 1"):
        _launch(flag, "0")


@pytest.mark.parametrize("name", sorted(OWNED))
def test_what_stoker_sets_is_refused_with_the_reason(name: str) -> None:
    with pytest.raises(Invalid, match="not yours to set"):
        _launch(f"--{name}", "1", version="0.15.1")


def test_parameters_are_those_of_the_version() -> None:
    assert _launch("--attention-config", "{}", version="0.15.1").engine == "vllm"
    with pytest.raises(Invalid, match=r"vLLM 0\.12\.0 has no parameter '--attention-config'"):
        _launch("--attention-config", "{}")


def test_an_unknown_version_is_refused_naming_both() -> None:
    for attempt in (lambda: _launch(version="0.11.0"), lambda: ENGINE.parameters("0.11.0")):
        with pytest.raises(Invalid, match=r"there are 0\.12\.0 and 0\.15\.1") as caught:
            attempt()
        assert caught.value.problems[0].pointer == "/launch/engine_version"


@pytest.mark.parametrize("version", VERSIONS)
def test_every_default_passes_its_own_check(version: str) -> None:
    for parameter in ENGINE.parameters(version):
        plain = parameter.type != "boolean" and parameter.name not in OWNED
        if plain and parameter.default not in (None, "None"):
            _launch(parameter.flags[0], parameter.default or "", version=version, gpus=0)


def test_the_default_version_is_the_first() -> None:
    assert ENGINE.parameters(None) == ENGINE.parameters("0.12.0")
    assert {item.type for item in ENGINE.parameters(None)} == {"boolean", "string", "integer", "number", "enum", "json"}


def test_sleep_mode_lets_cold_workers_give_back_their_memory() -> None:
    launch = _launch("--enable-sleep-mode")
    assert launch.sleep is not None
    assert (launch.sleep.sleep_path, launch.sleep.frees) == ("/sleep?level=1", ("vram",))
    assert launch.env["VLLM_SERVER_DEV_MODE"] == "1"
    for parameters in ((), ("--no-enable-sleep-mode",)):
        plain = _launch(*parameters)
        assert (plain.sleep, "VLLM_SERVER_DEV_MODE" in plain.env) == (None, False)


def _memory(*parameters: str, gpus: int = 1) -> VideoMemory | None:
    return ENGINE.video_memory(
        LaunchSpec(model="org/m", parameters=parameters), HardwareRequest(gpu_count=gpus), card_gib=80
    )


@pytest.mark.parametrize(
    ("parameters", "gpus", "cards", "share", "halves"),
    [
        ((), 1, 1, 0.9, True),
        ((), 4, 4, 0.9, True),
        (("--gpu-memory-utilization", "0.5"), 1, 1, 0.5, True),
        (("--tensor-parallel-size", "2", "--data-parallel-size", "2"), 4, 2, 0.9, True),
        (("--data-parallel-size", "4"), 4, 1, 0.9, True),
        (("--pipeline-parallel-size=2", "-tp=2"), 4, 4, 0.9, True),
        (("--dtype", "float32"), 1, 1, 0.9, False),
    ],
)
def test_one_copy_of_the_weights_has_its_share_of_the_cards_it_is_split_over(
    parameters: tuple[str, ...], gpus: int, cards: int, share: float, halves: bool
) -> None:
    found = _memory(*parameters, gpus=gpus)
    assert found == VideoMemory(cards=cards, card_gib=80, share=share, halves=halves)


@pytest.mark.parametrize(
    "parameter", ["--quantization=bitsandbytes", "--cpu-offload-gb=20", "--load-format=dummy", "--nnodes=2"]
)
def test_where_weights_shrink_or_lie_elsewhere_nothing_is_said_of_their_memory(parameter: str) -> None:
    assert _memory(parameter) is None
