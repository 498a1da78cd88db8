"""`auto` in a simulation: the code of production, told of its own workers and requests alone."""

from __future__ import annotations

from statistics import median

from stoker.policy.auto.decision import LATE_COST_S, Auto, Sample
from stoker.simulate.run import View
from stoker.simulate.trace import Profile

# Until a start was seen.
START_S = 60.0


class AutoRule:
    """`late_cost`: seconds of a worker that sparing one late request is worth."""

    tick_s = 1.0
    eager = True

    def __init__(self, profile: Profile, *, late_cost: float = LATE_COST_S) -> None:
        self._auto = Auto(
            slots=profile.slots,
            workers_max=profile.workers_max,
            now=0.0,
            late_cost_s=late_cost,
            wait_target_s=profile.wait_target_s,
        )
        self._starts_seen = 0
        self._start_s = START_S

    def decide(self, view: View) -> int:
        """The number wanted."""
        machines = view.machines
        if machines.started != self._starts_seen:
            self._starts_seen = machines.started
            self._start_s = median(machines.took)
        sample = Sample(
            now=view.now,
            arrived=view.arrived,
            ended=len(view.ended),
            in_flight=view.in_flight,
            waiting=len(view.queue),
            ready=len(machines.serving),
            loading=[machine.since for machine in machines.loading],
            start_s=self._start_s,
        )
        return self._auto.decide(sample).workers
