"""Where workers run: a provider is a few idempotent verbs. One file each, loaded by name through `connect`.

Every verb may be repeated after a crash of the caller; none of them waits for a worker to become ready.
"""

from __future__ import annotations

import importlib
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from stoker.domain.errors import Unsupported
from stoker.domain.hardware import Offer
from stoker.domain.measurements import Taken
from stoker.domain.worker import Observed, WorkerId, WorkerSpec


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line of a worker's output. `at` is seconds since the epoch, and grows with every line of one worker;
    `stream` is stdout or stderr.
    """

    at: float
    stream: str
    text: str


@dataclass(frozen=True, slots=True)
class KeptOutput:
    """What is kept of an ended worker's output: so many bytes, the last of them written then."""

    worker: WorkerId
    bytes: int
    at: float


@runtime_checkable
class KeepsOutput(Protocol):
    """A provider whose ended workers leave output behind, until it is discarded."""

    async def kept(self) -> tuple[KeptOutput, ...]:
        """All that is kept of workers that are no longer listed."""

    async def discard(self, worker: WorkerId) -> None:
        """Delete what is kept of this worker; unknown ones change nothing. Never touches one that is listed."""


@runtime_checkable
class Measures(Protocol):
    """A provider that knows what its workers take of their machines."""

    async def measure(self, workers: Mapping[WorkerId, tuple[str, ...]]) -> Mapping[WorkerId, Taken]:
        """What these workers take, given the ids of the cards that each has. Those that do not run are left out. Raises
        `Unavailable`.
        """


@runtime_checkable
class HoldsVolumes(Protocol):
    """A provider that keeps volumes by itself, and mounts them in workers by their ids."""

    async def make_volume(self, volume: str, *, size_gib: float) -> None:
        """Have an empty one, or one that is there be at least so large. Raises `Unavailable` when it may be tried
        again, `Invalid` when it cannot be.
        """

    async def remove_volume(self, volume: str) -> None:
        """Have it gone with all that is in it; an unknown one is success. Raises `Unavailable`."""

    async def volumes(self) -> frozenset[str]:
        """Those that this installation has here. Raises `Unavailable`."""


@runtime_checkable
class KeepsModels(Protocol):
    """A provider that may have a cache of models of its own, which a step before each worker fills."""

    # Where workers see what `WorkerSpec.fetch` has brought; `None` where the settings name no cache.
    models_at: str | None


@runtime_checkable
class Tells(Protocol):
    """A provider that tells by itself what has happened, so that nobody has to ask as often."""

    def attach(self, *, changed: Callable[[], None], said: Callable[[WorkerId, str], None]) -> None:
        """From now on: `changed` when `list` may answer differently, `said` with what there is to say of a start that
        takes its time. Called once, within the running loop; ends with `close`.
        """


class Provider(Protocol):
    """Implementations hold no records of their own: what they started can be found again by `list`."""

    # Can it hold workers still, so that they cost no CPU while they keep their memory?
    pauses: bool
    # Can it run container images? Where it cannot, the settings may say what runs instead.
    images: bool
    # Have workers a network of their own, so that they listen on all its addresses, at the port that they always use?
    own_network: bool

    def image_of(self, engine: str) -> str | None:
        """The image that the options say this engine's workers run in, in which `{version}` stands for the engine's;
        `None` where they say none, or where images are not run.
        """

    async def start(self, spec: WorkerSpec) -> None:
        """Ask for the worker named `spec.id`. Asking again for an id that runs changes nothing; one that was paused
        goes on.

        Returns once it is certain that `list` shows the worker, even one that ended at once. Raises `Unavailable` when
        it may be tried again, `Invalid` when this spec can never start.
        """

    async def stop(self, worker: WorkerId, *, grace_s: float) -> None:
        """Ask for its end: SIGTERM, and SIGKILL after `grace_s`. An unknown id is success, and so is one that has
        ended, which is then no longer listed. The caller repeats it until `list` does not show the worker.
        """

    async def pause(self, worker: WorkerId) -> None:
        """Hold it still until `start` or `stop`; an unknown or ended id is success. Only called where `pauses`. Raises
        `Unavailable` when it may be tried again.
        """

    async def list(self) -> tuple[Observed, ...]:
        """All that this installation started here, forgotten ones included. Raises `Unavailable` rather than answer
        in part.
        """

    async def listens(self, worker: WorkerId, port: int) -> bool:
        """Does the listener on this port belong to this worker? False also while nothing listens."""

    async def execute(self, worker: WorkerId, command: tuple[str, ...], timeout_s: float) -> int:
        """Run a command beside the worker, in its environment, and wait for its exit code. Its output is dropped.
        Raises `Unavailable` when it did not end in time, which ends it, or could not be run.
        """

    async def offers(self) -> tuple[Offer, ...]:
        """The hosts, whole."""

    def logs(self, worker: WorkerId, *, tail: int, follow: bool) -> AsyncIterator[LogLine]:
        """The last `tail` lines, oldest first; with `follow` further ones as they come, until the worker has ended.
        Also for ended workers, as long as their output is kept. Unknown: no lines.
        """

    async def close(self) -> None:
        """Let go of connections and files. Workers go on."""


@dataclass(frozen=True, slots=True)
class ProviderOptions:
    """What every provider is connected with: the data folder, its part of the settings, and its name, where several
    of a kind have names of their own.
    """

    data_dir: Path
    options: Mapping[str, object]
    name: str | None = None


def load(name: str, options: ProviderOptions) -> Provider:
    """The provider of that kind. Raises `Unsupported` when there is none or its library is not installed."""
    try:
        module = importlib.import_module(f"stoker.providers.{name}")
    except ModuleNotFoundError as exc:
        if exc.name == f"stoker.providers.{name}":
            raise Unsupported(f"there is no provider {name!r}") from exc
        remedy = f"uv pip install 'stoker[{name}]'"
        raise Unsupported(f"the provider {name!r} needs {exc.name!r}, which is not installed: {remedy}") from exc
    provider: Provider = module.connect(options)
    return provider
