"""What workers run: as the user said it (`LaunchSpec`), and as an engine resolved it (`Launch`).

Frozen values that refuse to exist when they make no sense: `Invalid` carries a JSON pointer to the place.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from stoker.domain.errors import Invalid
from stoker.domain.hardware import Placement
from stoker.domain.limits import check_arguments, within
from stoker.domain.probe import Probe
from stoker.domain.volumes import VolumeMount
from stoker.domain.weights import VideoMemory

ENV_ENTRIES_MAX = 256
ENV_VALUE_CHARS_MAX = 32_768
PORTS_MAX = 16
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


@dataclass(frozen=True, slots=True)
class SecretRef:
    """In place of a value: the secret of the project with that name, looked up whenever a worker is started."""

    secret: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchSpec:
    """What to run, as the user said it: exactly one of a model, an image or a command. `credential` names the registry
    credential that the image is fetched with. `port` is the container's port that requests go to, `ports` are further
    ones.
    """

    model: str | None = None
    engine: str = "auto"
    engine_version: str | None = None
    parameters: tuple[str, ...] = ()
    image: str | None = None
    command: tuple[str, ...] = ()
    credential: str | None = None
    env: Mapping[str, str | SecretRef] = field(default_factory=dict)
    port: int | None = None
    ports: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.model is not None and (self.image is not None or self.command):
            raise Invalid.at("/launch", "say what to run once: a model, or an image, or a command")
        if self.model is None and self.image is None and not self.command:
            raise Invalid.at("/launch", "say what to run: a model, an image or a command")
        if self.model is None and self.parameters:
            raise Invalid.at("/launch/parameters", "parameters are an engine's and need a model")
        if self.image is None and self.credential is not None:
            raise Invalid.at("/launch/credential", "a registry credential is for an image")
        check_arguments("/launch/command", self.command)
        check_arguments("/launch/parameters", self.parameters)
        if len(self.env) > ENV_ENTRIES_MAX:
            raise Invalid.at("/launch/env", f"at most {ENV_ENTRIES_MAX} environment variables")
        for name, value in self.env.items():
            if not _ENV_NAME.match(name):
                raise Invalid.at("/launch/env", f"{name[:64]!r} is not a name for an environment variable")
            if isinstance(value, str) and (len(value) > ENV_VALUE_CHARS_MAX or "\0" in value):
                raise Invalid.at(
                    f"/launch/env/{name}", f"at most {ENV_VALUE_CHARS_MAX} characters and no NUL in a variable's value"
                )
        if self.port is not None:
            within("/launch/port", self.port, 1, 65_535)
        self._check_ports()

    @property
    def declared(self) -> tuple[int, ...]:
        """All ports that are declared, the main one first."""
        return () if self.port is None else (self.port, *self.ports)

    def _check_ports(self) -> None:
        if self.ports and self.port is None:
            raise Invalid.at("/launch/ports", "further ports need a port that requests go to")
        if len(self.ports) > PORTS_MAX - 1:
            raise Invalid.at("/launch/ports", f"at most {PORTS_MAX} ports")
        for index, port in enumerate(self.ports):
            within(f"/launch/ports/{index}", port, 1, 65_535)
            if port in (self.port, *self.ports[:index]):
                raise Invalid.at(f"/launch/ports/{index}", f"the port {port} is there twice")

    @property
    def references(self) -> Mapping[str, str]:
        """Names of secrets, by the variable that refers to them."""
        return {variable: value.secret for variable, value in self.env.items() if isinstance(value, SecretRef)}

    @property
    def secrets(self) -> frozenset[str]:
        """Names of the secrets that it refers to."""
        return frozenset(self.references.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Sleep:
    """How an engine lets go of what it holds and takes it back: POSTs to these paths of the worker. `frees` is what
    others may use meanwhile (`vram`).
    """

    sleep_path: str
    wake_path: str
    frees: tuple[str, ...] = ("vram",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """A launch resolved by an engine: all that a provider needs to start a worker. Stored with the endpoint, so that a
    later engine upgrade does not change what already runs.

    In `command`, `{host}` and `{port}` stand for the worker's own address. `ports` are the container's ports beside
    `port`. `cards` says whether this is made for `real` or for `virtual` GPUs; `None`: it is all the same. `models` are
    the names that the worker answers to. `weights` is the key of those that must be on the host first, at `{weights}`
    in `command`; `volumes` are at `{volume:NAME}`. `slots` is how many requests one worker takes at once. `sleep` is
    how its engine keeps a worker cold. `notes` says what was asked for and not applied. `lists_models`: its workers
    tell at /v1/models what they serve, and are ready only when the first model is there. `ping_s`: its workers are sent
    nothing; they ask for tasks, and say so often that they are there. `base` is the image that an engine's command runs
    in where workers are containers, `files` what it reads of the host then, `video_memory` what it has for weights.
    """

    engine: str | None
    command: tuple[str, ...]
    image: str | None = None
    credential: str | None = None
    env: Mapping[str, str | SecretRef] = field(default_factory=dict)
    port: int | None = None
    probe: Probe = field(default_factory=Probe)
    models: tuple[str, ...] = ()
    weights: str | None = None
    volumes: tuple[VolumeMount, ...] = ()
    slots: int = 1
    sleep: Sleep | None = None
    notes: tuple[str, ...] = ()
    lists_models: bool = False
    ports: tuple[int, ...] = ()
    cards: str | None = None
    ping_s: int | None = None
    base: str | None = None
    files: tuple[str, ...] = ()
    video_memory: VideoMemory | None = None

    @property
    def ports_wanted(self) -> int:
        """How many ports a worker needs."""
        return 1 + len(self.ports)

    def mapped(self, placement: Placement) -> dict[int, int]:
        """The worker's own port for each port of the container that was declared."""
        if self.port is None or placement.port is None:
            return {}
        return dict(zip((self.port, *self.ports), (placement.port, *placement.ports), strict=False))
