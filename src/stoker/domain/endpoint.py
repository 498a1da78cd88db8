"""What a user asks for: an endpoint, its pools of workers, and how it is scaled, updated and reached; and its record.

Frozen values that refuse to exist when they make no sense: `Invalid` carries a JSON pointer to the place.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NewType

from stoker.domain.errors import Invalid
from stoker.domain.hardware import HardwareRequest
from stoker.domain.launch import Launch, LaunchSpec
from stoker.domain.limits import within
from stoker.domain.logging import Logging
from stoker.domain.probe import Probes
from stoker.domain.queueing import Mode, QueueSpec, WebhooksSpec
from stoker.domain.routing import Routing
from stoker.domain.scaling import WORKERS_MAX as WORKERS_MAX
from stoker.domain.scaling import Cpu, GpuMemory, GpuUtilization, Memory
from stoker.domain.scaling import ScalingPolicy as ScalingPolicy
from stoker.domain.volumes import VolumeMount, check_mounts

EndpointId = NewType("EndpointId", str)
ProjectId = NewType("ProjectId", int)
# There from the beginning; its name is `default`.
FIRST_PROJECT = ProjectId(1)

NAME_CHARS_MAX = 255
LABELS_MAX = 64
POOLS_MAX = 16
SLOTS_MAX = 100_000
_POOL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}\Z")


class Access(StrEnum):
    """Who may call the endpoint's inference address."""

    PROJECT = "project"
    ATTACHED = "attached"
    OPEN = "open"


class Phase(StrEnum):
    """What the owner wants of the whole endpoint."""

    ACTIVE = "active"
    STOPPED = "stopped"
    DELETING = "deleting"


@dataclass(frozen=True, slots=True, kw_only=True)
class ScaleBounds:
    """How many workers a pool may have. `cold` is the floor of ready plus cold workers."""

    min: int = 0
    max: int = 1
    cold: int = 0

    def __post_init__(self) -> None:
        within("/min", self.min, 0, WORKERS_MAX)
        within("/max", self.max, 0, WORKERS_MAX)
        if self.min > self.max:
            raise Invalid.at("/min", f"min ({self.min}) is above max ({self.max})")
        if not 0 <= self.cold <= self.max:
            raise Invalid.at("/cold", f"cold must be between 0 and max ({self.max})")


class PlacementStrategy(StrEnum):
    """Which of several hosts with room takes the next worker of a pool. PACK: the cheapest, then the fullest. SPREAD:
    the one with fewest workers of the pool, then as PACK.
    """

    PACK = "pack"
    SPREAD = "spread"


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolSpec:
    """One homogeneous group of workers. Of an endpoint's pools the first that has room takes the next worker. `launch`
    is what its workers run where that is not what the endpoint says, `slots` what one of them takes at once then.
    """

    name: str = "default"
    provider: str = "process"
    hardware: HardwareRequest = field(default_factory=HardwareRequest)
    bounds: ScaleBounds = field(default_factory=ScaleBounds)
    placement: PlacementStrategy = PlacementStrategy.PACK
    launch: LaunchSpec | None = None
    slots: int | None = None

    def __post_init__(self) -> None:
        if self.slots is not None:
            within("/slots", self.slots, 1, SLOTS_MAX)
            if self.launch is None:
                raise Invalid.at("/slots", "what its workers take at once belongs to a launch of its own")
        if not _POOL_NAME.match(self.name):
            raise Invalid.at("/name", "a pool's name has up to 63 letters, digits, dots, dashes and underscores")


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """Limits on one exchange with a worker, in seconds; `None` is no limit. `idle_s` is the longest silence in it."""

    connect_s: float = 5.0
    first_byte_s: float | None = 600.0
    idle_s: float | None = 300.0
    total_s: float | None = None

    def __post_init__(self) -> None:
        for name in ("connect_s", "first_byte_s", "idle_s", "total_s"):
            value = getattr(self, name)
            if value is not None:
                within(f"/timeouts/{name}", value, 0.1, 604_800)


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingRoom:
    """How many requests may wait for a slot, and for how long."""

    requests_max: int = 1_000
    wait_s_max: float = 600.0

    def __post_init__(self) -> None:
        within("/waiting/requests_max", self.requests_max, 0, 100_000)
        within("/waiting/wait_s_max", self.wait_s_max, 0, 86_400)


class Strategy(StrEnum):
    """How new workers get room during an update. SURGE: beside the old ones, waiting for room where there is none.
    RECREATE: when all old ones are gone. AUTO: beside them where that fits, else in the place of one after the other.
    """

    AUTO = "auto"
    SURGE = "surge"
    RECREATE = "recreate"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """How a new revision replaces the old one: up to `surge` workers above the wanted number while it does.
    A draining worker is given `drain_timeout_s` to finish its requests, then `grace_s` between SIGTERM and SIGKILL.
    """

    strategy: Strategy = Strategy.AUTO
    surge: int = 1
    drain_timeout_s: float = 600.0
    grace_s: float = 10.0

    def __post_init__(self) -> None:
        within("/rollout/surge", self.surge, 1, WORKERS_MAX)
        within("/rollout/drain_timeout_s", self.drain_timeout_s, 0, 86_400)
        within("/rollout/grace_s", self.grace_s, 0, 600)


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointSpec:
    """Everything that its owner says about an endpoint. `slots` overrides what the engine says of one worker.
    `template` names the version that the rest was completed from.
    """

    name: str
    launch: LaunchSpec
    pools: tuple[PoolSpec, ...] = (PoolSpec(),)
    probes: Probes = field(default_factory=Probes)
    scaling: ScalingPolicy = field(default_factory=ScalingPolicy)
    access: Access = Access.PROJECT
    timeouts: Timeouts = field(default_factory=Timeouts)
    waiting: WaitingRoom = field(default_factory=WaitingRoom)
    routing: Routing = field(default_factory=Routing)
    rollout: Rollout = field(default_factory=Rollout)
    mode: Mode = Mode.HTTP
    queue: QueueSpec = field(default_factory=QueueSpec)
    webhooks: WebhooksSpec = field(default_factory=WebhooksSpec)
    logging: Logging = field(default_factory=Logging)
    slots: int | None = None
    template: str | None = None
    volumes: tuple[VolumeMount, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.name.strip() or len(self.name) > NAME_CHARS_MAX:
            raise Invalid.at("/name", f"a name has between 1 and {NAME_CHARS_MAX} characters")
        if any(not c.isprintable() for c in self.name):
            raise Invalid.at("/name", "a name has no control characters")
        if not 1 <= len(self.pools) <= POOLS_MAX:
            raise Invalid.at("/pools", f"an endpoint has between 1 and {POOLS_MAX} pools")
        for index, pool in enumerate(self.pools):
            if any(other.name == pool.name for other in self.pools[:index]):
                raise Invalid.at(f"/pools/{index}/name", f"there are two pools called {pool.name!r}")
        if sum(pool.bounds.max for pool in self.pools) > WORKERS_MAX:
            raise Invalid.at("/pools", f"all pools together may have at most {WORKERS_MAX} workers")
        self._check_measured()
        check_mounts(self.volumes)
        if self.queue.pull:
            self._check_pull()
        if self.slots is not None:
            within("/slots", self.slots, 1, SLOTS_MAX)
        for name, texts in (("labels", self.labels), ("annotations", self.annotations)):
            if len(texts) > LABELS_MAX or any(len(k) > 255 or len(v) > 4096 for k, v in texts.items()):
                raise Invalid.at(f"/{name}", f"at most {LABELS_MAX} {name}, keys to 255 and values to 4096 characters")

    def _check_pull(self) -> None:
        if self.mode is not Mode.QUEUE:
            raise Invalid.at("/queue/pull", "workers that ask for tasks take no requests: set mode to queue")
        if any(launch.model is not None for _, launch in self.launch_specs):
            raise Invalid.at("/queue/pull", "an engine waits for requests: workers that ask for tasks are a command")
        if self.probes != Probes():
            raise Invalid.at("/probes", "workers that ask for tasks are known by their pings, not by probes")

    @property
    def secrets(self) -> frozenset[str]:
        """Names of all secrets that it refers to."""
        signing = frozenset() if self.webhooks.secret is None else frozenset({self.webhooks.secret})
        launched = frozenset[str]().union(*(launch.secrets for _, launch in self.launch_specs))
        return launched | signing | {queue.secret for _, queue in self.scaling.queues}

    @property
    def credentials(self) -> frozenset[str]:
        """Names of the registry credentials that it refers to."""
        return frozenset(launch.credential for _, launch in self.launch_specs if launch.credential is not None)

    @property
    def launch_specs(self) -> tuple[tuple[str, LaunchSpec], ...]:
        """Everything that it says to run, with its place: its own launch, and those of pools."""
        own = ((f"/pools/{i}/launch", pool.launch) for i, pool in enumerate(self.pools) if pool.launch is not None)
        return (("/launch", self.launch), *own)

    def launch_of(self, pool: PoolSpec) -> LaunchSpec:
        """What workers of this pool run."""
        return self.launch if pool.launch is None else pool.launch

    def slots_of(self, pool: PoolSpec) -> int | None:
        """Requests that one worker of this pool takes at once, where that is said."""
        return self.slots if pool.launch is None else pool.slots

    def _check_measured(self) -> None:
        """A share needs a whole: triggers that look at one must have it in every pool."""
        for index, trigger in enumerate(self.scaling.triggers):
            for pool in self.pools:
                hardware, lacks = pool.hardware, ""
                if isinstance(trigger, Cpu) and hardware.vcpu_all is None:
                    lacks = "vcpu"
                elif isinstance(trigger, Memory) and hardware.ram_gib_all is None:
                    lacks = "ram_gib"
                elif isinstance(trigger, GpuUtilization | GpuMemory) and not hardware.gpu_count:
                    lacks = "gpu_count"
                if lacks:
                    where = f"the hardware of pool {pool.name!r} says no {lacks}"
                    raise Invalid.at(f"/scaling/triggers/{index}", f"{trigger.type} needs {lacks}: {where}")

    def pool(self, name: str) -> PoolSpec | None:
        """The pool of that name."""
        return next((pool for pool in self.pools if pool.name == name), None)

    @property
    def initial(self) -> int:
        """How many workers there are to be at the beginning."""
        return min(max(self.bounds.min, self.scaling.initial or 0), self.bounds.max)

    @property
    def bounds(self) -> ScaleBounds:
        """How many workers all pools together may have."""
        bounds = [pool.bounds for pool in self.pools]
        return ScaleBounds(
            min=sum(b.min for b in bounds), max=sum(b.max for b in bounds), cold=sum(b.cold for b in bounds)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Override:
    """A number of workers set by hand; holds instead of the scaling policy until `until` (`None`: until undone)."""

    workers: int
    until: float | None = None

    def holds(self, now: float) -> bool:
        """Is it in force at `now`?"""
        return self.until is None or now < self.until


@dataclass(frozen=True, slots=True, kw_only=True)
class Failures:
    """Workers of the present revision of one pool that ended before they were ready, in a row. One that is ready and
    stays so ends it.
    """

    count: int = 0
    last_at: float | None = None
    last_reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Revision:
    """An endpoint's spec as it was from `created_at` on, and the launch of each pool that it was resolved to."""

    endpoint: EndpointId
    number: int
    spec: EndpointSpec
    launches: Mapping[str, Launch]
    created_at: float

    def launch_of(self, pool: str) -> Launch | None:
        """What workers of this pool run; `None` for a pool that it did not have."""
        return self.launches.get(pool)

    def probes_of(self, pool: str) -> Probes | None:
        """How workers of this pool are probed: as the owner says, else as the engine says."""
        launch = self.launches.get(pool)
        return None if launch is None else self.spec.probes.over(launch.probe)


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A recorded endpoint. Times are seconds since the epoch.

    `revision` counts the changes of its spec; `launched` is the last one that changed what workers of some pool run.
    `alike` has, for each pool, the revisions whose workers run what they should run now; others are replaced.
    `desired` is the number of workers that the last decision asked for.
    """

    id: EndpointId
    number: int
    project: ProjectId
    slug: str
    spec: EndpointSpec
    launches: Mapping[str, Launch]
    revision: int
    launched: int
    alike: Mapping[str, tuple[int, ...]]
    phase: Phase
    desired: int
    created_at: float
    updated_at: float
    override: Override | None = None
    failures: Mapping[str, Failures] = field(default_factory=dict)

    def as_revision(self) -> Revision:
        """The present revision."""
        return Revision(
            endpoint=self.id,
            number=self.revision,
            spec=self.spec,
            launches=self.launches,
            created_at=self.updated_at,
        )

    def slots_of(self, pool: str) -> int:
        """Requests that one worker of this pool takes at once."""
        known = self.spec.pool(pool)
        said = self.spec.slots if known is None else self.spec.slots_of(known)
        return self.launches[pool].slots if said is None else said

    @property
    def slots(self) -> int:
        """Requests that one worker takes at once, in the pool that takes the next one first."""
        return self.slots_of(self.spec.pools[0].name)

    @property
    def launch(self) -> Launch:
        """What workers of the first pool run."""
        return self.launches[self.spec.pools[0].name]

    @property
    def models(self) -> tuple[str, ...]:
        """All names that some worker answers to."""
        return tuple(dict.fromkeys(name for launch in self.launches.values() for name in launch.models))

    def runs(self, pool: str, revision: int) -> bool:
        """Does a worker of this pool and revision run what it should run now?"""
        return revision in self.alike.get(pool, ())


_NOT_LABEL = re.compile(r"[^a-z0-9]+")
SLUG_CHARS_MAX = 63


def slug_of(name: str) -> str | None:
    """The DNS label that a name suggests, or `None` when nothing is left of it.

    >>> slug_of("My Chat (v2)")
    'my-chat-v2'
    """
    return _NOT_LABEL.sub("-", name.lower())[:SLUG_CHARS_MAX].strip("-") or None
