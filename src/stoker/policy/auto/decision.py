"""How many workers an endpoint should have, by what was learned of its traffic. Called wherever `auto` decides.

It knows no clock and does nothing: each sample brings its time, and what comes back says why.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from stoker.policy.auto.backlog import Persistence, Waiting, worth_finishing, worth_starting
from stoker.policy.auto.levels import Lateness, Levels
from stoker.policy.auto.rises import Rises, rule_of_thumb
from stoker.policy.auto.service import Arrivals, ServiceTime, demand, levels

# Seconds of a worker that it is worth to spare one late request, and the wait that makes it late.
LATE_COST_S: Final = 300.0
WAIT_TARGET_S: Final = 5.0
# A rise that comes with this chance within one start time is prepared for.
_CHANCE: Final = 0.3


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """What is seen of an endpoint: requests since the beginning that `arrived` and `ended`, those `in_flight` and
    `waiting`; workers that are `ready`, and since when the others are `loading`. `start_s`: what a start takes.
    """

    now: float
    arrived: int
    ended: int
    in_flight: int
    waiting: int
    ready: int
    loading: Sequence[float]
    start_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Workers: those that demand `needs`, those prepared `ahead`, extra for a `backlog`, `kept` though not needed.

    `workers` is what all of this comes to. `demand` is in slots.
    """

    workers: int
    needs: int
    ahead: int
    backlog: int
    kept: int
    demand: float
    service_s: float

    @property
    def reason(self) -> str:
        """One sentence."""
        parts = [f"{self.needs} for a demand of {self.demand:.1f} slots ({self.service_s:.2g} s each)"]
        if self.ahead:
            parts.append(f"{self.ahead} for the rise that is likely while one starts")
        if self.backlog:
            parts.append(f"{self.backlog} to work off what waits")
        if self.kept:
            parts.append(f"{self.kept} kept because they will be needed again before a start would pay")
        return ", ".join(parts)


class Auto:
    """All that was learned of one endpoint. `slots`: of a worker; `workers_max`: never more than these."""

    def __init__(
        self,
        *,
        slots: int,
        workers_max: int,
        now: float,
        late_cost_s: float = LATE_COST_S,
        wait_target_s: float = WAIT_TARGET_S,
    ) -> None:
        self._slots, self._max = slots, workers_max
        self._late_cost_s, self._wait_target_s = late_cost_s, wait_target_s
        self._service = ServiceTime(now)
        self._arrivals = Arrivals()
        self._rises = Rises()
        self._levels = Levels(workers_max)
        self._persistence = Persistence()
        self._extra = 0

    def decide(self, sample: Sample) -> Wanted:
        """What to have now."""
        now, slots = sample.now, self._slots
        self._service.note(now, in_flight=sample.in_flight, ended=sample.ended)
        service_s = self._service.seconds(self._wait_target_s)
        self._arrivals.note(now, arrived=sample.arrived, window_s=service_s + self._wait_target_s)
        present = sample.in_flight + sample.waiting
        slots_needed = demand(self._arrivals.count, service_s=service_s, slack_s=self._wait_target_s)
        needs = min(self._max, max(levels(slots_needed, slots), 1 if present else 0))
        self._rises.note(now, needs, start_s=sample.start_s)
        ahead = 0
        if needs:
            thumb = rule_of_thumb(slots_needed, slots, needs)
            ahead = self._rises.likely(needs, chance=_CHANCE, otherwise=thumb)
        target = needs + ahead
        if service_s > self._wait_target_s and not sample.waiting:
            # Long requests have their slots for longer than the demand's window.
            target = max(target, levels(sample.in_flight, slots))
        target = min(self._max, target)
        late = Lateness(service_s, slots, sample.start_s, self._wait_target_s, self._late_cost_s)
        self._levels.note(now, target, arrived=sample.arrived, late=late)
        backlog = self._backlog(sample, slots_needed / service_s, service_s, target)
        active = sample.ready + len(sample.loading)
        kept = self._levels.kept(now, target, active, late)
        workers = min(self._max, max(target + backlog, kept))
        return Wanted(
            workers=workers,
            needs=needs,
            ahead=target - needs,
            backlog=min(backlog, workers - target),
            kept=max(0, workers - target - backlog),
            demand=slots_needed,
            service_s=service_s,
        )

    def _backlog(self, sample: Sample, rate: float, service_s: float, needed: int) -> int:
        """Extra workers for what waits; those that load for it go on as long as the rest of their start is worth it."""
        now, start_s = sample.now, sample.start_s
        self._persistence.look(now, rate, start_s=start_s)
        if not sample.waiting:
            self._extra = 0
            return 0
        left_s = max(1.0, start_s - (now - min(sample.loading))) if sample.loading else start_s
        it = Waiting(
            requests=sample.waiting,
            present=sample.waiting + sample.in_flight,
            rate=rate,
            service_s=service_s,
            slots=self._slots,
            ready=sample.ready,
            needed=needed,
            start_s=start_s,
            start_left_s=left_s,
        )
        share, cost_s = self._persistence.share, self._late_cost_s
        extra = 0
        # Requests of which none was seen to end may be short.
        if self._service.is_known:
            extra = worth_starting(it, wait_target_s=self._wait_target_s, late_cost_s=cost_s, persistence=share)
        if extra:
            self._persistence.begin(now, rate)
        if extra < self._extra and sample.loading:
            active = sample.ready + len(sample.loading)
            going = min(self._extra, active - needed, worth_finishing(it, late_cost_s=cost_s, persistence=share))
            extra = max(extra, going)
        self._extra = extra
        return extra
