"""How many workers an endpoint should have: a pure function of policy, bounds, signals and time.

Called by control's autoscaler for every report and at once for a waiting request. The rule is Little's law taken by its
result: requests present (in flight or waiting) divided by what one worker should hold.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from stoker.domain.endpoint import Override, ScaleBounds, ScalingPolicy
from stoker.domain.operation import Decision


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What triggers ask for: `workers` now, for that reason, and at most `peak` within the policy's
    `scale_down_delay_s`. `busy_at` is when a queue last had work.
    """

    workers: int
    reason: str
    peak: int
    busy_at: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Signals:
    """What was measured of one endpoint.

    `in_flight` and `waiting` are requests now; `demand_peak` is the highest sum of both within the policy's
    `scale_down_delay_s`; `busy_at` is when there last was any, in the same seconds as `now`. `queued` are tasks that
    could go now; `running` are those that run, which the gateway counts among those in flight as soon as it reports.
    `asked` is what triggers ask for, `None` without any.
    """

    in_flight: int
    waiting: int
    demand_peak: float
    busy_at: float
    queued: int = 0
    running: int = 0
    asked: Asked | None = None

    @property
    def held_up(self) -> int:
        """What waits for a slot: requests, and tasks that could go now."""
        return self.waiting + self.queued


def decide(
    policy: ScalingPolicy,
    bounds: ScaleBounds,
    signals: Signals | None,
    *,
    slots: int,
    current: int,
    now: float,
    override: Override | None = None,
) -> Decision:
    """The number of workers wanted now, `current` being the number wanted before.

    Without signals nothing changes but for the bounds: a silent gateway must never look like an idle one.
    """
    if override is not None and override.holds(now):
        return Decision(at=now, current=current, workers=override.workers, reason="set by hand")
    if signals is None:
        workers, limit = bounded(current, bounds)
        return Decision(at=now, current=current, workers=workers, reason=f"no signal: keeping what is wanted{limit}")
    target = policy.target if policy.target is not None else float(slots)
    # Each unit of demand counts in one place: a task is queued, or in flight.
    demand = max(signals.in_flight, signals.running) + signals.waiting + signals.queued
    inputs = {
        "in_flight": signals.in_flight,
        "waiting": signals.waiting,
        "queued": signals.queued,
        "demand_peak": signals.demand_peak,
        "target": target,
        "idle_s": max(0.0, now - signals.busy_at),
    }
    if signals.asked is not None:
        inputs |= {"triggers": signals.asked.workers, "triggers_peak": signals.asked.peak}
    wanted, reason = _wanted(policy, signals, target=target, demand=demand, current=current, now=now)
    workers, limit = bounded(wanted, bounds)
    return Decision(at=now, current=current, workers=workers, reason=reason + limit, inputs=inputs)


def _wanted(
    policy: ScalingPolicy, signals: Signals, *, target: float, demand: int, current: int, now: float
) -> tuple[int, str]:
    needed, reason = math.ceil(demand / target), f"{demand} requests present, {target:g} for each worker"
    idle = needed == 0 and now - signals.busy_at >= policy.idle_timeout_s
    asked = None if idle else signals.asked
    if asked is not None and asked.workers > needed:
        needed, reason = asked.workers, asked.reason
    if needed >= current and needed > 0:
        return needed, reason
    if needed == 0 and (current == 0 or idle):
        return 0, f"idle for {policy.idle_timeout_s:g} s" if current > 0 else "no requests"
    held = min(current, math.ceil(max(signals.demand_peak, demand) / target))
    if asked is not None and min(current, asked.peak) > max(held, needed):
        peak = min(current, asked.peak)
        return peak, f"triggers asked for {asked.peak} workers within the last {policy.scale_down_delay_s:g} s"
    if held > needed:
        return held, f"peak of {signals.demand_peak:g} requests within the last {policy.scale_down_delay_s:g} s"
    if needed > 0:
        return needed, reason
    return 1, f"idle, but for less than {policy.idle_timeout_s:g} s"


def bounded(workers: int, bounds: ScaleBounds) -> tuple[int, str]:
    """`workers` within `bounds`, and what to add to the reason when a bound changed it.

    >>> bounded(7, ScaleBounds(min=0, max=2))
    (2, ' (at most 2)')
    """
    if workers > bounds.max:
        return bounds.max, f" (at most {bounds.max})"
    if workers < bounds.min:
        return bounds.min, f" (at least {bounds.min})"
    return workers, ""
