"""From what a user wants to run to what is run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from stoker.control import launches
from stoker.domain.endpoint import EndpointSpec, PoolSpec
from stoker.domain.errors import Invalid
from stoker.domain.hardware import HardwareRequest, Placement
from stoker.domain.images import ImageRule
from stoker.domain.launch import Launch, LaunchSpec
from stoker.domain.models import WeightsKey
from stoker.domain.weights import WeightsSize
from stoker.engines.base import ModelFile

EMPTY = launches.Shelf(named={})


def wanted(launch: LaunchSpec, *, slots: int | None = None, gpus: int = 0) -> EndpointSpec:
    pool = PoolSpec(hardware=HardwareRequest(gpu_count=gpus))
    return EndpointSpec(name="My Chat", launch=launch, pools=(pool,), slots=slots)


def test_a_command_is_run_as_it_is_with_one_request_at_a_time_which_is_said_aloud() -> None:
    launch = launches.resolve(wanted(LaunchSpec(command=("serve", "{port}"), env={"A": "1"})), "my-chat", shelf=EMPTY)[
        "default"
    ]
    assert (launch.engine, launch.command, dict(launch.env)) == (None, ("serve", "{port}"), {"A": "1"})
    assert (launch.slots, launch.probe.path) == (1, None)
    assert "set slots" in launch.notes[0]
    assert launches.resolve(wanted(LaunchSpec(command=("x",)), slots=8), "my-chat", shelf=EMPTY)["default"].notes == ()


def test_a_model_is_resolved_by_an_engine_and_answers_to_the_endpoints_names(tmp_path: Path) -> None:
    weights = tmp_path / "tiny.gguf"
    weights.touch()
    launch = launches.resolve(
        wanted(LaunchSpec(model="tiny")),
        "my-chat",
        shelf=launches.Shelf(named={"tiny": str(weights)}),
        grounds={"default": launches.Ground(images=())},
    )["default"]
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
        launches.resolve(wanted(launch), "my-chat", shelf=EMPTY)
    assert [problem.pointer for problem in caught.value.problems] == [pointer]


def test_a_pool_runs_what_it_says_itself_with_its_own_slots_and_the_others_what_the_endpoint_says() -> None:
    own = PoolSpec(name="own", launch=LaunchSpec(command=("other",), port=81, ports=(82,)), slots=7)
    spec = replace(wanted(LaunchSpec(command=("serve",), port=80), slots=2), pools=(PoolSpec(), own))
    found = launches.resolve(spec, "my-chat", shelf=EMPTY)
    assert (found["default"].command, found["default"].port) == (("serve",), 80)
    assert (found["own"].command, found["own"].port, found["own"].ports) == (("other",), 81, (82,))
    assert found["own"].notes == (), "its slots are said"
    assert [place for place, _ in spec.launch_specs] == ["/launch", "/pools/1/launch"]
    assert [spec.slots_of(pool) for pool in spec.pools] == [2, 7]
    broken = replace(own, launch=LaunchSpec(model="no-such-model"))
    with pytest.raises(Invalid) as caught:
        launches.resolve(replace(spec, pools=(PoolSpec(), broken)), "my-chat", shelf=EMPTY)
    assert [problem.pointer for problem in caught.value.problems] == ["/pools/1/launch/model"]


RULES = (
    ImageRule(pattern="vllm/*", model="tiny", parameters=("--slots=2",)),
    ImageRule(pattern="nginx", command=("serve", "{port}")),
)


def instead(launch: LaunchSpec, tmp_path: Path, *, gpus: int = 0, cards: str | None = None) -> Launch:
    weights = tmp_path / "tiny.gguf"
    weights.touch()
    ground = launches.Ground(images=RULES, cards=cards)
    spec = wanted(launch, gpus=gpus)
    return launches.resolve(
        spec, "my-chat", shelf=launches.Shelf(named={"tiny": str(weights)}), grounds={"default": ground}
    )["default"]


def test_a_model_stands_in_for_an_image_with_its_engines_probe_and_the_images_names(tmp_path: Path) -> None:
    command = ("--model", "org/Big-7B", "--served-model-name", "big", "large", "--max-model-len", "512")
    more = ("--gpu-memory-utilization=0.9", "--port", "8000", "--api-key", "secret")
    found = instead(LaunchSpec(image="vllm/vllm-openai:v0.15.1", command=command + more, port=8000), tmp_path)
    assert (found.engine, found.image, found.probe.path, found.port) == ("llamacpp", None, "/health", 8000)
    assert {"org/Big-7B", "big", "large", "My Chat", "my-chat", "tiny"} <= set(found.models)
    assert found.command[found.command.index("--ctx-size-per-slot") + 1] == "512"
    assert found.slots == 2, "the rule's own parameters count"
    notes = "\n".join(found.notes)
    assert "vllm/vllm-openai:v0.15.1 is not run: the model tiny runs instead" in notes
    assert "--gpu-memory-utilization=0.9 was not applied" in notes
    assert "--port was not applied" in notes
    assert "--api-key was not applied" in notes
    assert "secret" not in notes
    assert "vLLM 0.15.1 was asked for, llama.cpp runs" in notes


@pytest.mark.parametrize(
    ("command", "names"),
    [
        (("vllm", "serve", "org/m", "--max-model-len=64"), {"org/m"}),
        (("python3", "-m", "vllm.entrypoints.openai.api_server", "--model=org/m", "--max-model-len=64"), {"org/m"}),
    ],
)
def test_the_servers_own_name_in_front_of_its_arguments_is_known(
    command: tuple[str, ...], names: set[str], tmp_path: Path
) -> None:
    found = instead(LaunchSpec(image="vllm/vllm-openai", command=command), tmp_path)
    assert names <= set(found.models)
    assert "64" in found.command


@pytest.mark.parametrize(
    ("image", "command", "note"),
    [
        ("vllm/vllm-openai", ("sh", "-c", "pip install x"), "'pip install x' was not applied: it is no list of vLLM's"),
        ("vllm/vllm-openai", ("--no-such-thing",), "was not applied: vLLM 0.12.0 has no parameter"),
        ("nginx:1.27", ("nginx", "-g", "daemon off;"), "was not applied: another command runs instead"),
    ],
)
def test_a_command_that_cannot_be_taken_over_is_noted(
    image: str, command: tuple[str, ...], note: str, tmp_path: Path
) -> None:
    found = instead(LaunchSpec(image=image, command=command), tmp_path)
    assert any(note in text for text in found.notes), found.notes
    assert not set(command) & set(found.command)


def test_a_command_stands_in_for_an_image_with_the_ports_that_were_declared(tmp_path: Path) -> None:
    found = instead(LaunchSpec(image="nginx", port=80, ports=(443, 9000)), tmp_path)
    assert (found.command, found.image, found.engine, found.probe.path) == (("serve", "{port}"), None, None, None)
    assert found.ports_wanted == 3
    placement = Placement(host="h", port=20_000, ports=(20_001, 20_002))
    assert found.mapped(placement) == {80: 20_000, 443: 20_001, 9000: 20_002}


@pytest.mark.parametrize("image", ["vllm/vllm-openai:v0.15.1", "nginx:1"])
def test_what_stands_in_for_an_image_needs_no_log_in_which_is_said(image: str, tmp_path: Path) -> None:
    found = instead(LaunchSpec(image=image, credential="hub"), tmp_path)
    assert found.credential is None
    assert "the registry credential 'hub' is not used" in "\n".join(found.notes)


def test_an_image_that_nothing_stands_in_for_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match=r"nothing stands in for 'redis'; .* has vllm/\*, nginx"):
        instead(LaunchSpec(image="redis"), tmp_path)


def test_where_images_run_they_are_run() -> None:
    found = launches.resolve(wanted(LaunchSpec(image="nginx", port=80)), "s", shelf=EMPTY)["default"]
    assert (found.image, found.port) == ("nginx", 80)


def test_on_virtual_cards_a_model_runs_without_any_and_says_so(tmp_path: Path) -> None:
    found = instead(LaunchSpec(model="tiny"), tmp_path, gpus=2, cards="virtual")
    assert (found.engine, found.cards) == ("llamacpp", "virtual")
    assert "--n-gpu-layers=0" in found.command
    assert "virtual" in found.notes[-1]
    real = instead(LaunchSpec(model="tiny"), tmp_path, gpus=2, cards="real")
    assert (real.cards, "--n-gpu-layers=-1" in real.command) == ("real", True)


def test_weights_that_need_a_card_get_vllm_on_real_ones_and_are_refused_on_virtual_ones(tmp_path: Path) -> None:
    assert instead(LaunchSpec(model="org/m"), tmp_path, gpus=1, cards="real").engine == "vllm"
    with pytest.raises(Invalid, match="GPUs are virtual"):
        instead(LaunchSpec(model="org/m"), tmp_path, gpus=1, cards="virtual")


def test_weights_that_cannot_fit_the_cards_are_refused_with_the_numbers() -> None:
    spec = wanted(LaunchSpec(model="smollm2"), gpus=1)
    small = launches.Ground(images=(), cards="real", card_gib=0.05)
    with pytest.raises(Invalid, match=r"the weights take 0\.1 GiB, and cannot fit a card with 0\.05 GiB") as caught:
        launches.resolve(spec, "s", shelf=EMPTY, grounds={"default": small})
    assert [problem.pointer for problem in caught.value.problems] == ["/pools/0/hardware/vram_gib_min"]
    found = launches.resolve(spec, "s", shelf=EMPTY, grounds={"default": replace(small, card_gib=8)})["default"]
    assert found.video_memory is not None
    assert found.video_memory.card_gib == 8
    virtual = replace(small, cards="virtual")
    assert launches.resolve(spec, "s", shelf=EMPTY, grounds={"default": virtual})["default"].video_memory is None


def test_weights_of_the_catalogue_are_refused_when_their_size_is_known() -> None:
    spec = wanted(LaunchSpec(model="big", engine="vllm", parameters=("--gpu-memory-utilization=0.5",)), gpus=2)
    ground = {"default": launches.Ground(images=(), cards="real", card_gib=24)}
    file = ModelFile("big", path="{weights}", is_gguf=False)
    for size, fits in ((None, True), (WeightsSize(total=24 * 2**30), True), (WeightsSize(total=25 * 2**30), False)):
        shelf = launches.Shelf(named={}, found={"big": launches.Found(file=file, key=WeightsKey("k"), size=size)})
        if fits:
            assert launches.resolve(spec, "s", shelf=shelf, grounds=ground)["default"].weights == "k"
            continue
        with pytest.raises(Invalid, match=r"25\.0 GiB, and cannot fit 2 cards with 24 GiB.*vram_gib_min 25 each"):
            launches.resolve(spec, "s", shelf=shelf, grounds=ground)


IN_IMAGES = launches.Ground(image_of={"llamacpp": "registry.local/llama:{version}"}.get, provider="docker")


@pytest.mark.parametrize(("version", "image"), [(None, "v0.12.0"), ("0.15.1", "v0.15.1")])
def test_where_images_run_an_engine_runs_in_the_one_of_its_version(version: str | None, image: str) -> None:
    spec = wanted(LaunchSpec(model="org/m", engine="vllm", engine_version=version))
    found = launches.resolve(spec, "s", shelf=EMPTY, grounds={"default": IN_IMAGES})["default"]
    assert (found.image, found.base, found.files) == (None, f"vllm/vllm-openai:{image}", ())
    named = replace(IN_IMAGES, image_of=lambda engine: "my/vllm")
    assert launches.resolve(spec, "s", shelf=EMPTY, grounds={"default": named})["default"].base == "my/vllm"


def test_where_images_run_a_file_of_this_host_is_to_be_seen_in_them(tmp_path: Path) -> None:
    for name in ("m-00001-of-00002.gguf", "m-00002-of-00002.gguf"):
        (tmp_path / name).touch()
    found = launches.resolve(
        wanted(LaunchSpec(model=str(tmp_path / "m-00001-of-00002.gguf"))),
        "s",
        shelf=EMPTY,
        grounds={"default": IN_IMAGES},
    )["default"]
    assert found.files == (str(tmp_path),), "all parts of it"
    assert found.base == "registry.local/llama:latest"
    assert "{python}" in found.command


def test_an_engine_without_an_image_is_refused_where_images_run() -> None:
    with pytest.raises(Invalid, match="the docker provider runs images, and nobody publishes one for llamacpp"):
        launches.resolve(
            wanted(LaunchSpec(model="smollm2")),
            "s",
            shelf=EMPTY,
            grounds={"default": launches.Ground(provider="docker")},
        )
