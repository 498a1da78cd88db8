"""How many workers an endpoint's triggers ask for: a pure function of what was read. Called by `control.triggering`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from stoker.domain.triggers import Resource, Triggers

# A load this near to its target asks for no change: else a steady one would make workers come and go.
TOLERANCE = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Readings:
    """What was read of an endpoint: `ready` workers; the mean share of each resource over those that were measured;
    requests that arrived within the rate's window; messages in each queue. `None`, or absent, is unknown.
    """

    ready: int
    shares: Mapping[Resource, float] = field(default_factory=dict)
    arrivals: float | None = None
    messages: Sequence[int | None] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """How many workers the triggers ask for, which one asks for most, and whether a queue has work."""

    workers: int = 0
    reason: str = ""
    backlog: bool = False


def wanted(triggers: Triggers, readings: Readings, *, current: int) -> Wanted:
    """The largest number that a trigger asks for; 0 when none does, or nothing is known. `current` is the number wanted
    before: where it is 0, a queue must have its `activation` first.
    """
    asked = [(0, "")]
    for resource, target in triggers.utilization.items():
        share = readings.shares.get(resource)
        if share is not None and readings.ready:
            ratio = share / target
            needed = readings.ready if abs(ratio - 1) <= TOLERANCE else math.ceil(readings.ready * ratio)
            asked.append((needed, f"{resource} at {share:.0%}, {target:.0%} wanted"))
    rate = triggers.rate
    if rate is not None and readings.arrivals is not None:
        needed = math.ceil(readings.arrivals / rate.requests)
        asked.append(
            (needed, f"{readings.arrivals:g} requests in {rate.window_s:g} s, {rate.requests:g} for each worker")
        )
    backlog = False
    for queue, messages in zip(triggers.queues, readings.messages, strict=False):
        if messages and (current > 0 or messages >= queue.activation):
            backlog = True
            reason = f"{messages} messages in a queue, {queue.messages} for each worker"
            asked.append((math.ceil(messages / queue.messages), reason))
    workers, reason = max(asked, key=lambda pair: pair[0])
    return Wanted(workers=workers, reason=reason, backlog=backlog)
