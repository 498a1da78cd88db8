"""Turn a model into a command. An engine is pure: it returns a `Launch` and touches nothing.

An engine is a module of this package, or an entry point of the group `stoker.engines`, that has an `ENGINE`.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from typing import Protocol

from stoker import engines
from stoker.domain.errors import Invalid
from stoker.domain.hardware import HardwareRequest
from stoker.domain.launch import Launch, LaunchSpec
from stoker.domain.weights import VideoMemory

ENTRY_POINTS = "stoker.engines"


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A model that was found: its canonical name, other names it answers to, and where its weights lie (`None`: the
    engine fetches it by name). `is_gguf`: whether they are one GGUF file (`None`: their path tells).
    """

    name: str
    aliases: tuple[str, ...] = ()
    path: str | None = None
    is_gguf: bool | None = None

    @property
    def gguf(self) -> bool:
        """Are the weights one GGUF file, which is what llama.cpp loads?"""
        if self.is_gguf is not None:
            return self.is_gguf
        return self.path is not None and self.path.endswith(".gguf")


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One option that an engine's server takes. `type` is integer, number, boolean, string, json or enum.

    `allowed` is empty when any value of `type` will do; without `closed` it only lists the usual ones. `nargs` is
    that of `argparse`: `+` for one or more values, `?` for an optional one, `None` for one (a boolean: none).
    """

    name: str
    flags: tuple[str, ...]
    type: str
    default: str | None
    allowed: tuple[str, ...]
    section: str
    description: str
    nargs: str | None = None
    closed: bool = False


@dataclass(frozen=True, slots=True)
class Metric:
    """Where a number is on an engine's Prometheus page: under the first of these names that is there. Several of them,
    with different labels, are summed up, or the `highest` counts.
    """

    names: tuple[str, ...]
    highest: bool = False


class Engine(Protocol):
    """A program that serves models. `metrics`: what its page at /metrics says, in words that are the same for all
    engines (see `stoker.domain.measurements.EngineMetrics`); empty when it has none. `image`: the one that its makers
    publish, with `{version}` for its version (`None`: there is none); `version` is the default one (`None`: there is
    but one).
    """

    name: str
    image: str | None
    version: str | None
    metrics: Mapping[str, Metric]

    def launch(
        self,
        spec: LaunchSpec,
        model: ModelFile,
        hardware: HardwareRequest,
        *,
        names: tuple[str, ...],
        slots: int | None,
    ) -> Launch:
        """The launch for `model`, answering to `names` besides the model's own. `slots` is the endpoint's wish.

        Raises `Invalid` at `/launch/parameters/{i}` for a parameter the engine does not know, with the nearest one it
        does.
        """

    def video_memory(self, spec: LaunchSpec, hardware: HardwareRequest, *, card_gib: float) -> VideoMemory | None:
        """What a worker on cards of `card_gib` has for one copy of the weights; `None` where that cannot be said, or
        they need not all lie on cards. Raises as `launch` does.
        """

    def parameters(self, version: str | None) -> tuple[Parameter, ...]:
        """What its server takes in that version (`None`: the default one). Raises `Invalid` for a version not known."""


@cache
def _modules() -> Mapping[str, str]:
    """Engine name → the module that holds it. What ships with Stoker wins over an entry point of the same name."""
    found = {point.name: point.value for point in entry_points(group=ENTRY_POINTS)}
    for info in pkgutil.iter_modules(engines.__path__, engines.__name__ + "."):
        if hasattr(importlib.import_module(info.name), "ENGINE"):
            found[info.name.rpartition(".")[2]] = info.name
    return dict(sorted(found.items()))


def names() -> tuple[str, ...]:
    """The engines there are, in alphabetical order."""
    return tuple(_modules())


def load(name: str) -> Engine:
    """The engine of that name; raises `Invalid` naming those that exist."""
    module = _modules().get(name)
    if module is None:
        raise Invalid.at("/launch/engine", f"no engine {name[:64]!r}; there are {', '.join(('auto', *names()))}")
    engine: Engine = importlib.import_module(module).ENGINE
    return engine
