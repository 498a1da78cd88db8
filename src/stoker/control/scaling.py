"""Decides how many workers endpoints should have: gathers what was measured, asks the policy, remembers its answers.

Changes nothing: passes carry decisions out. Used by `Gateway`, for every report, wake and pass, and for explanations.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from stoker.control.agenda import Agenda
from stoker.control.fleet import Fleet
from stoker.domain.endpoint import Endpoint, EndpointId, EndpointSpec, ScaleBounds
from stoker.domain.hardware import HardwareRequest
from stoker.domain.launch import Launch
from stoker.domain.measurements import Measured
from stoker.domain.operation import Decision
from stoker.domain.scaling import (
    Auto,
    Concurrency,
    Cpu,
    Custom,
    GpuMemory,
    GpuUtilization,
    Load,
    Memory,
    ScalingPolicy,
    SqsQueue,
)
from stoker.domain.task import QueueDemand
from stoker.domain.worker import Worker, WorkerId, WorkerState
from stoker.policy import memory as memories
from stoker.policy.auto.decision import START_S, Sample
from stoker.policy.auto.estimates import Setting, rounded
from stoker.policy.replay import Given, of_recorded, recorded
from stoker.policy.scaling import decide, told
from stoker.policy.signals import Learned, Reading, Signals, WorkerSignals, fresh, of_worker
from stoker.store import journal
from stoker.telemetry.traffic import WINDOW_S, TrafficMeter

# Of an endpoint that nothing is heard of a decision is made so often at least.
QUIET_S_MAX = 3_600.0
# What starts took holds for weeks.
_START_AGE_S_MAX = 30 * 86_400.0
# Limits that no time ends.
_LASTING = ("at least", "at most", "a request is there", "never to zero")
_OF_WORKERS = Cpu | Memory | GpuUtilization | GpuMemory | Custom


@dataclass(frozen=True, slots=True, kw_only=True)
class Depths:
    """Messages in the queues elsewhere that an endpoint looks at, and when one of them last had work for it."""

    messages: Mapping[SqsQueue, Reading]
    busy_at: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """Where signals come from besides the gateway's reports. All are asked at a moment and none waits."""

    tasks: Callable[[EndpointId, float], QueueDemand]
    measured: Callable[[WorkerId], Measured]
    custom: Callable[[WorkerId, float], Mapping[str, Reading]]
    # Names of `Signals` of what was learned of the endpoint's launches.
    learned: Callable[[Endpoint, float], Mapping[str, Reading]]
    depths: Callable[[Endpoint, float], Depths]
    # The same of what requests and workers said of its load.
    announced: Callable[[Endpoint], Mapping[str, Reading]]
    # What was learned of its traffic, this sample included; which, unless the last is true, nobody remembers.
    auto: Callable[[EndpointId, Setting, Sample, bool], Learned]
    # For how many seconds that stays as it is if nothing happens.
    holds: Callable[[EndpointId, float], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rules:
    """What of an endpoint decides: looked up once for each spec rather than in each of some decisions a second.

    `learns`: how `auto` is set, if it is among the triggers; `windows` those of averages. `load`, `of_workers`,
    `queues`: has it triggers that look at these?
    """

    spec: EndpointSpec
    launches: Mapping[str, Launch]
    bounds: ScaleBounds
    slots: int
    learns: Setting | None
    windows: frozenset[float]
    load: bool
    of_workers: bool
    queues: bool

    @classmethod
    def of(cls, endpoint: Endpoint) -> _Rules:
        """Those of this endpoint."""
        spec, policy, learns = endpoint.spec, endpoint.spec.scaling, None
        if (trigger := policy.auto) is not None:
            learns = Setting(
                slots=endpoint.slots,
                workers_max=max(1, spec.bounds.max),
                late_cost_s=rounded(trigger.late_cost),
                wait_target_s=rounded(trigger.wait_target_s),
                cold_cost=rounded(trigger.cold_cost),
            )
        return cls(
            spec=spec,
            launches=endpoint.launches,
            bounds=spec.bounds,
            slots=endpoint.slots,
            learns=learns,
            windows=policy.windows,
            load=any(isinstance(trigger, Load) for trigger in policy.triggers),
            of_workers=any(isinstance(trigger, _OF_WORKERS) for trigger in policy.triggers),
            queues=bool(policy.queues),
        )


class Scaling:
    """See the module."""

    def __init__(self, fleet: Fleet, traffic: TrafficMeter, sources: Sources) -> None:
        self._fleet = fleet
        self._traffic = traffic
        self._sources = sources
        self._rules: dict[EndpointId, _Rules] = {}
        # A policy that was changed begins anew.
        self._memories: dict[EndpointId, tuple[ScalingPolicy, memories.Memory]] = {}
        # What was last recorded of those that only advise.
        self._advised: dict[EndpointId, int] = {}
        # How many were to be ready or cold at the last pass.
        self._held: dict[EndpointId, int] = {}
        # When time alone may change a decision.
        self._agenda = Agenda()

    async def load(self, *, now: float) -> None:
        """Remember the last changes of endpoints whose steps or cooldowns go by them."""
        for endpoint in self._fleet.endpoints():
            policy = endpoint.spec.scaling
            if not memories.kept_s(policy):
                continue
            last = await self._fleet.store.read(lambda tx, id=endpoint.id: journal.newest_decisions(tx, id, limit=1))  # type: ignore[misc]
            if last and last[0].given is not None and not last[0].advisory:
                memory = memories.resumed(of_recorded(last[0].given).memory, policy, last[0], endpoint.desired, now=now)
                self._memories[endpoint.id] = (policy, memory)

    def decide(self, endpoint: Endpoint, *, now: float) -> Decision:
        """How many workers it should have. The next decision remembers this one."""
        signals = self._learned(endpoint, self.signals(endpoint, now=now), now, learn=True)
        memory = self._memory(endpoint)
        decision = self._decided(endpoint, signals, now)
        if not self.news(endpoint, decision):
            # Nobody will read what it was made from.
            return decision
        spec = endpoint.spec
        given = Given(
            policy=spec.scaling,
            bounds=spec.bounds,
            slots=endpoint.slots,
            signals=signals,
            override=endpoint.override,
            memory=memory,
        )
        return replace(told(decision, signals), given=recorded(given))

    def _decided(self, endpoint: Endpoint, signals: Signals | None, now: float) -> Decision:
        decision = self._asked(endpoint, signals, now)
        policy = endpoint.spec.scaling
        self._memories[endpoint.id] = (policy, memories.remembered(self._memory(endpoint), policy, decision))
        return decision

    def wants_change(self, endpoint: Endpoint, *, now: float) -> bool:
        """Is the next decision another one than the last that was recorded?"""
        signals = self._learned(endpoint, self.signals(endpoint, now=now), now, learn=True)
        decision = self._decided(endpoint, signals, now)
        wants = self.news(endpoint, decision) or decision.held != self._held.get(endpoint.id, 0)
        quiet_s = 0.0 if wants else self._quiet_for(endpoint, signals, decision, now)
        self._agenda.put(endpoint.id, now + min(quiet_s, QUIET_S_MAX))
        return wants

    def due(self, *, now: float) -> list[EndpointId]:
        """Those of which the next decision may be another one though nothing has happened. Asked once for each."""
        return self._agenda.due(now)

    def sleeps(self, endpoint: EndpointId, *, now: float) -> bool:
        """Is its next decision the same as the last if nothing has happened?"""
        at = self._agenda.at(endpoint)
        return at is not None and at > now

    def news(self, endpoint: Endpoint, decision: Decision) -> bool:
        """Is there anything in it to record?"""
        known = self._advised.get(endpoint.id, endpoint.desired) if decision.advisory else endpoint.desired
        return decision.workers != known or (decision.advisory and not within(endpoint))

    def passed(self, endpoint: EndpointId, decision: Decision, decisions: Iterable[Decision]) -> None:
        """A pass has carried out the decision; these are in the journal now."""
        self._held[endpoint] = decision.held
        self._agenda.put(endpoint, decision.at)
        for decision in decisions:
            if decision.advisory:
                self._advised[endpoint] = decision.workers

    def look(self, endpoint: Endpoint, *, now: float) -> tuple[Decision, tuple[WorkerSignals, ...]]:
        """The same with everything that is known as its inputs, and remembered by nobody; and what is known of its
        workers.
        """
        signals = self._learned(endpoint, self.signals(endpoint, now=now, everything=True), now, learn=False)
        decision = told(self._asked(endpoint, signals, now), signals, everything=True)
        return decision, self.workers(endpoint, now)

    def _rules_of(self, endpoint: Endpoint) -> _Rules:
        known = self._rules.get(endpoint.id)
        if known is None or known.spec is not endpoint.spec or known.launches is not endpoint.launches:
            known = self._rules[endpoint.id] = _Rules.of(endpoint)
        return known

    def windows(self, endpoint: Endpoint) -> frozenset[float]:
        """Over how many seconds its triggers take averages."""
        return self._rules_of(endpoint).windows

    def _asked(self, endpoint: Endpoint, signals: Signals | None, now: float) -> Decision:
        rules = self._rules_of(endpoint)
        return decide(
            endpoint.spec.scaling,
            rules.bounds,
            signals,
            slots=rules.slots,
            current=endpoint.desired,
            now=now,
            override=endpoint.override,
            memory=self._memory(endpoint),
        )

    def _memory(self, endpoint: Endpoint) -> memories.Memory | None:
        policy, memory = self._memories.get(endpoint.id, (None, None))
        return memory if policy is endpoint.spec.scaling or policy == endpoint.spec.scaling else None

    def forget(self, endpoint: EndpointId) -> None:
        """It is deleted."""
        self._rules.pop(endpoint, None)
        self._memories.pop(endpoint, None)
        self._advised.pop(endpoint, None)
        self._held.pop(endpoint, None)
        self._agenda.drop(endpoint)

    def signals(self, endpoint: Endpoint, *, now: float, everything: bool = False) -> Signals | None:
        """What its triggers look at, or everything there is; `None` when the gateway is silent."""
        rules = self._rules_of(endpoint)
        windows = rules.windows | {WINDOW_S} if everything else rules.windows
        signals = self._traffic.signals(endpoint.id, now=now, windows=windows)
        if signals is None:
            return None
        _add_tasks(signals, self.tasks(endpoint.id, now), now, pull=endpoint.spec.queue.pull)
        if rules.queues:
            depths = self._sources.depths(endpoint, now)
            signals.messages, signals.busy_at = depths.messages, max(signals.busy_at, depths.busy_at or signals.busy_at)
        if everything or rules.load:
            learned = {**self._sources.learned(endpoint, now), **self._sources.announced(endpoint)}
            for name, reading in learned.items():
                setattr(signals, name, reading)
            if "trial" in learned:
                # Who is to measure is at work.
                signals.busy_at = now
        if everything or rules.of_workers:
            signals.workers = self.workers(endpoint, now)
        return signals

    def _learned(self, endpoint: Endpoint, signals: Signals | None, now: float, *, learn: bool) -> Signals | None:
        """With what was learned of its traffic, if anybody wants to know."""
        setting = self._rules_of(endpoint).learns
        if signals is None or setting is None:
            return signals
        live = self._fleet.live(endpoint.id)
        ready = [w for w in live if w.state is WorkerState.READY]
        begun = [w for w in live if w.state in (WorkerState.PENDING, WorkerState.STARTING)]
        loads = self._traffic.loads(endpoint.id)
        learned = self._sources.learned(endpoint, now)
        start_s, resume_s = learned.get("start_s"), learned.get("resume_s")
        resuming = [w.started_at or w.created_at for w in begun if w.from_cold]
        sample = Sample(
            now=now,
            arrived=signals.arrived,
            ended=signals.ended,
            in_flight=signals.serving,
            waiting=signals.held_up,
            ready=len(ready) + len(resuming),
            active=endpoint.desired,
            busy=sum(1 for worker in ready if loads.get(worker.id)),
            cold=sum(1 for worker in live if worker.state is WorkerState.COLD or worker.chilling),
            loading_since=min((w.started_at or w.created_at for w in begun if not w.from_cold), default=None),
            start_s=fresh(start_s, age_s_max=_START_AGE_S_MAX) or START_S,
            resuming=len(resuming),
            resuming_since=min(resuming, default=None),
            resume_s=fresh(resume_s, age_s_max=_START_AGE_S_MAX),
        )
        signals.start_s, signals.auto = start_s, self._sources.auto(endpoint.id, setting, sample, learn)
        if setting.cold_cost:
            signals.resume_s = resume_s
        return signals

    def _quiet_for(self, endpoint: Endpoint, signals: Signals | None, decision: Decision, now: float) -> float:
        """For how many seconds the decision stays as it is if nothing happens; 0 where that is not known."""
        if endpoint.override is not None:
            # Its end is on the reconciler's agenda.
            return math.inf
        if signals is None:
            # When a gateway speaks again that was silent it tells of those alone that something has happened to.
            return 0.0
        [trigger, *others] = endpoint.spec.scaling.effective
        if signals.running or (signals.tasks_queued is not None and signals.tasks_queued.value):
            return 0.0
        if others or decision.advisory or not all(limit.startswith(_LASTING) for limit in decision.limits):
            return 0.0
        if isinstance(trigger, Auto):
            return self._sources.holds(endpoint.id, now)
        return math.inf if isinstance(trigger, Concurrency) and not trigger.window_s else 0.0

    def tasks(self, endpoint: EndpointId, now: float) -> QueueDemand:
        """What its queue wants."""
        return self._sources.tasks(endpoint, now)

    def workers(self, endpoint: Endpoint, now: float) -> tuple[WorkerSignals, ...]:
        """What is known of its ready workers."""
        ready = [w for w in self._fleet.live(endpoint.id) if w.state is WorkerState.READY]
        return tuple(self._worker(endpoint, worker, now) for worker in ready)

    def _worker(self, endpoint: Endpoint, worker: Worker, now: float) -> WorkerSignals:
        pool = endpoint.spec.pool(worker.pool)
        hardware = HardwareRequest() if pool is None else pool.hardware
        custom = self._sources.custom(worker.id, now)
        return of_worker(worker.number, self._sources.measured(worker.id), hardware, custom, now=now)


def _add_tasks(signals: Signals, tasks: QueueDemand, now: float, *, pull: bool) -> None:
    """`pull`: workers ask for them, so that the gateway counts none; else it has counted those that began."""
    if not (tasks.queued or tasks.running or tasks.came):
        return
    signals.arrived += tasks.came - (0 if pull else tasks.begun)
    signals.ended += tasks.stopped if pull else 0
    signals.queued, signals.running = tasks.ready, tasks.running
    if tasks.ready or tasks.running:
        # What waits for its next attempt keeps no worker.
        signals.busy_at = now
    signals.tasks_queued = Reading(float(tasks.queued), 0.0)
    signals.oldest_task_s = None if tasks.oldest_age_s is None else Reading(tasks.oldest_age_s, 0.0)
    signals.tasks_per_s = Reading(tasks.arrivals_per_s, 0.0)


def within(endpoint: Endpoint) -> bool:
    """Is the number wanted within the bounds, which hold for advice as well?"""
    return endpoint.spec.bounds.min <= endpoint.desired <= endpoint.spec.bounds.max
