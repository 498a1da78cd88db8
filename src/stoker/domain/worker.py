"""One running copy of an endpoint's launch: its states, and what a provider is asked to run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NewType

from stoker.domain.endpoint import FIRST_PROJECT, EndpointId, ProjectId
from stoker.domain.fetching import ModelFetch
from stoker.domain.hardware import Placement
from stoker.domain.probe import Probes
from stoker.domain.secrets import RegistryLogin
from stoker.domain.volumes import Mount

WorkerId = NewType("WorkerId", str)


class WorkerState(StrEnum):
    """PENDING: recorded, not placed yet. STARTING: placed, its start was or is being asked for. READY: takes requests.
    COLD: was ready, costs less now, takes none. DRAINING: takes no new ones. STOPPING: its end was asked for. STOPPED
    and FAILED: gone.
    """

    PENDING = "pending"
    STARTING = "starting"
    READY = "ready"
    COLD = "cold"
    DRAINING = "draining"
    STOPPING = "stopping"
    STOPPED = "stopped"
    FAILED = "failed"


S = WorkerState
TRANSITIONS: Mapping[WorkerState, frozenset[WorkerState]] = {
    S.PENDING: frozenset({S.STARTING, S.STOPPED}),
    S.STARTING: frozenset({S.READY, S.DRAINING, S.STOPPING, S.FAILED}),
    S.READY: frozenset({S.DRAINING, S.FAILED}),
    S.COLD: frozenset({S.STARTING, S.STOPPING, S.FAILED}),
    S.DRAINING: frozenset({S.COLD, S.STOPPING, S.FAILED}),
    S.STOPPING: frozenset({S.STOPPED}),
    S.STOPPED: frozenset(),
    S.FAILED: frozenset(),
}
GONE = frozenset({S.STOPPED, S.FAILED})
# States that count as capacity, present or soon.
ACTIVE = frozenset({S.PENDING, S.STARTING, S.READY})
# These, and those that are kept for later.
WANTED = ACTIVE | {S.COLD}


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where a worker listens."""

    host: str
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """A recorded worker. Times are seconds since the epoch. A pending one may still move to another pool.

    `slots`: requests it takes at once. `started_at`, `acknowledged_at` and `ready_at` are of its last start, cold
    workers being started again (`from_cold`); `acknowledged_at`: the provider confirmed it. `drain_deadline`: after
    this it is stopped even when busy. `chilling`: it drains to be kept cold. `unready`: why its readiness probe fails,
    so that it takes no new requests for now. `reason` is why it is as it is; of a starting one, what its program waits
    for.
    `released_at`: the gateway has acknowledged its removal, which starts the quarantine of its port.
    """

    id: WorkerId
    number: int
    endpoint: EndpointId
    pool: str
    revision: int
    provider: str
    state: WorkerState
    slots: int
    created_at: float
    placement: Placement | None = None
    address: Address | None = None
    started_at: float | None = None
    acknowledged_at: float | None = None
    ready_at: float | None = None
    drain_deadline: float | None = None
    chilling: bool = False
    from_cold: bool = False
    unready: str = ""
    ended_at: float | None = None
    released_at: float | None = None
    reason: str = ""
    exit_code: int | None = None

    @property
    def gone(self) -> bool:
        """It has ended for good."""
        return self.state in GONE


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSpec:
    """What a provider is asked to run. `command` has no placeholders left. `gpus` are device ids of the host,
    `virtual_gpus` numbers of cards that are only pretended. `ports` has the worker's own port for each port declared.
    `mounts` are volumes, for providers whose workers do not see the host's folders. `ping_s`: it asks for tasks, and is
    told right before the start where, and by which credential. Where workers have a network of their own, `listen` is
    the port that this one listens on in it. `vcpu` and `ram_gib` are the most that it may take. Without an `image`, its
    command is a whole program and runs in the image `base` (`None`: in the provider's own).

    `host` is where it was placed, for providers that have several. `probes`, `drain_s` (the longest that its requests
    may go on) and `grace_s` (between SIGTERM and SIGKILL) are for those whose hosts may end it by themselves.

    `secrets` (variable to name) and `credential` are what control looks up in `project` right before the start: the
    provider finds the values in `env` and `login`, which are never shown.

    `fetch` is what has to be in the provider's cache of models before it starts, for providers that keep one.
    """

    id: WorkerId
    endpoint: EndpointId
    name: str
    command: tuple[str, ...]
    image: str | None = None
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    project: ProjectId = FIRST_PROJECT
    secrets: Mapping[str, str] = field(default_factory=dict)
    credential: str | None = None
    login: RegistryLogin | None = None
    port: int | None = None
    gpus: tuple[str, ...] = ()
    virtual_gpus: tuple[int, ...] = ()
    ports: Mapping[int, int] = field(default_factory=dict)
    mounts: tuple[Mount, ...] = ()
    ping_s: int | None = None
    base: str | None = None
    listen: int | None = None
    vcpu: float | None = None
    ram_gib: float | None = None
    host: str | None = None
    probes: Probes | None = None
    drain_s: float | None = None
    grace_s: float | None = None
    fetch: ModelFetch | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Exit:
    """How a worker ended. `code` is negative for a signal, as in `subprocess`; `None` when nobody saw it end."""

    code: int | None
    at: float
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """What a provider last saw of one worker. `exit` is set once it has ended; it stays listed until it is stopped.
    `leaving`: why one that runs should serve no more: somebody else than control will end it soon, or holds it still (a
    cold one may say so too). `preparing`: what goes on before its program begins, for as long as that takes; of one
    that had to wait for that, `began_at` is when it began (seconds since the epoch, by the provider's clock).
    """

    id: WorkerId
    running: bool
    address: Address | None = None
    exit: Exit | None = None
    leaving: str = ""
    preparing: str = ""
    began_at: float | None = None
