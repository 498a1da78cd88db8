"""Stoker's own decisions, as in production: `stoker.policy.scaling.decide`, fed with what its gateway would report."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import deque
from dataclasses import replace
from statistics import median

from stoker.domain.endpoint import ScaleBounds, ScalingPolicy
from stoker.domain.errors import Invalid
from stoker.domain.scaling import Auto as Trigger
from stoker.domain.scaling import Cpu, Custom, GpuMemory, GpuUtilization, Load, LoadUnit, Memory, SqsQueue
from stoker.policy.auto.decision import START_S, Auto, Sample
from stoker.policy.auto.estimates import Estimates, Setting
from stoker.policy.memory import Memory as Remembered
from stoker.policy.memory import remembered
from stoker.policy.scaling import decide
from stoker.policy.signals import Reading, Signals
from stoker.simulate.run import View
from stoker.simulate.trace import Profile

_MEASURED = Cpu | Memory | GpuUtilization | GpuMemory | Custom | SqsQueue


class Own:
    """Any policy of an endpoint, with its triggers and all that holds for them together."""

    tick_s = 1.0
    eager = True

    def __init__(
        self, profile: Profile, policy: ScalingPolicy, bounds: ScaleBounds | None = None, *, begin: float = 0.0
    ) -> None:
        """`begin` is when the trace begins, in seconds since the epoch: what schedules go by. Raises `Invalid` for
        triggers whose numbers no trace has.
        """
        for index, trigger in enumerate(policy.triggers):
            if isinstance(trigger, _MEASURED) or (isinstance(trigger, Load) and trigger.unit is LoadUnit.TOKENS):
                where = f"/scaling/triggers/{index}"
                raise Invalid.at(where, f"{trigger.type} cannot be simulated: a trace does not have its numbers")
        self._policy = policy
        self._bounds = bounds or ScaleBounds(max=profile.workers_max)
        self._memory: Remembered | None = None
        self._begin = self._busy_at = begin
        # (when, arrivals, integral of requests present), one of them older than all windows.
        self._counts: deque[tuple[float, int, float]] = deque()
        self._longest_s = max(policy.windows, default=0.0)
        self._ended, self._served_s = 0, 0.0
        self._current: int | None = None
        learning = policy.auto
        self._auto: Auto | None = None
        if learning is not None:
            setting = Setting(
                slots=profile.slots,
                workers_max=self._bounds.max,
                late_cost_s=learning.late_cost,
                wait_target_s=learning.wait_target_s,
                cold_cost=profile.cold_rate if profile.cold else 0.0,
            )
            self._auto = Auto(setting, now=0.0)
        self._starts_seen, self._start_s, self._held = 0, START_S, 0
        self._seen: Sample | None = None
        self._learned: Estimates | None = None

    def decide(self, view: View) -> int:
        """The number wanted."""
        now = self._begin + view.now
        if view.present:
            self._busy_at = now
        decision = decide(
            self._policy,
            self._bounds,
            self._signals(view),
            slots=view.profile.slots,
            current=view.machines.active if self._current is None else self._current,
            now=now,
            memory=self._memory,
        )
        self._memory = remembered(self._memory, self._policy, decision)
        self._current, self._held = decision.workers, decision.held
        return decision.workers

    def held(self) -> int:
        """The number wanted ready or cold."""
        return self._held

    def due(self) -> float:
        """When something may be wanted though nobody comes."""
        if self._auto is None or self._seen is None:
            return math.inf
        return self._seen.now + self._auto.holds_s(self._seen.now)

    def _signals(self, view: View) -> Signals:
        if len(self._policy.triggers) <= 1 and self._auto is not None:
            learned = self._look(view)
            return Signals(in_flight=view.in_flight, waiting=len(view.queue), busy_at=self._busy_at, auto=learned)
        if not self._policy.triggers:
            return Signals(in_flight=view.in_flight, waiting=len(view.queue), busy_at=self._busy_at)
        self._counts.append((view.now, view.arrived, view.area))
        while len(self._counts) > 1 and self._counts[1][0] <= view.now - self._longest_s:
            self._counts.popleft()
        self._learn(view)
        found = {window: self._averages(view, window) for window in self._policy.windows}
        known = {window: both for window, both in found.items() if both is not None}
        service = None if self._ended == 0 else self._served_s / self._ended
        return Signals(
            in_flight=view.in_flight,
            waiting=len(view.queue),
            busy_at=self._busy_at,
            oldest_wait_s=view.oldest_wait_s,
            arrivals={window: both[0] for window, both in known.items()},
            presence={window: both[1] for window, both in known.items()},
            auto=self._look(view),
            service_s=None if service is None else Reading(service, 0.0),
            # A worker that is full does as many at once as it has slots.
            requests_per_s=None if not service else Reading(view.profile.slots / service, 0.0),
        )

    def _look(self, view: View) -> tuple[Estimates, Setting] | None:
        """What was learned; it is looked at again once anything has changed, or time alone may have changed it."""
        auto = self._auto
        if auto is None:
            return None
        sample = self._sample(view)
        same = self._seen is not None and replace(sample, now=self._seen.now) == self._seen
        if self._learned is None or not same or auto.holds_s(view.now) <= 0:
            self._learned, self._seen = auto.look(sample), sample
        return self._learned, auto.setting

    def _sample(self, view: View) -> Sample:
        machines = view.machines
        if machines.started != self._starts_seen:
            self._starts_seen = machines.started
            self._start_s = median(machines.took)
        resuming = [machine.since for machine in machines.loading if machine.resuming]
        return Sample(
            now=view.now,
            arrived=view.arrived,
            ended=len(view.ended),
            in_flight=view.in_flight,
            waiting=len(view.queue),
            ready=len(machines.serving) + len(resuming),
            active=machines.active,
            busy=sum(machine.busy > 0 for machine in machines.serving),
            cold=len(machines.cold) + sum(machine.chilling for machine in machines.leaving),
            loading_since=min((m.since for m in machines.loading if not m.resuming), default=None),
            start_s=self._start_s,
            resuming=len(resuming),
            resuming_since=min(resuming, default=None),
            resume_s=view.profile.resume_s if view.profile.cold else None,
        )

    def _learn(self, view: View) -> None:
        while self._ended < len(view.ended):
            self._served_s += view.ended[self._ended][1]
            self._ended += 1

    def _averages(self, view: View, window_s: float) -> tuple[Reading, Reading] | None:
        """As the meter of production counts them."""
        at = bisect_right(self._counts, view.now - window_s, key=lambda count: count[0])
        then, arrived, area = self._counts[max(0, at - 1)]
        span_s = min(view.now - then, window_s)
        if span_s < 1.0:
            return None
        return Reading((view.arrived - arrived) / span_s, 0.0), Reading((view.area - area) / span_s, 0.0)


def concurrency(profile: Profile, *, utilisation: float = 1.0, memory_s: float = 60.0) -> Own:
    """Requests present over what a worker should hold; the highest of `memory_s` holds, `5 * memory_s` to zero."""
    policy = ScalingPolicy(target=profile.slots * utilisation, scale_down_delay_s=memory_s, idle_timeout_s=5 * memory_s)
    return Own(profile, policy)


def auto(profile: Profile, *, late_cost: float = 300.0) -> Own:
    """What an endpoint has of which nothing is said: the policy that learns."""
    trigger = Trigger(late_cost=late_cost, wait_target_s=profile.wait_target_s)
    return Own(profile, ScalingPolicy(triggers=(trigger,)))
