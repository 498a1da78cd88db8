"""One policy over the requests of one endpoint, on virtual time: first come first served, the oldest worker first.

A policy sees what is past alone: `View`. It is asked at its ticks and, if it is eager, when a request has to wait.
"""

from __future__ import annotations

import heapq
import math
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from stoker.simulate.draws import StartTimes
from stoker.simulate.pool import Machine, Machines
from stoker.simulate.trace import Profile

_FIRST_S = 120.0
# A policy that leaves requests waiting for so long after the last arrival will never serve them.
_GIVEN_UP_S = 86_400.0
# Where there are cold workers alone, the policy is asked so often.
_COLD_LOOK_S = 60.0


class View:
    """What a policy may know at the moment: of requests so far, and of its own workers."""

    __slots__ = ("_area", "_arrivals", "_at", "arrived", "ended", "in_flight", "machines", "now", "profile", "queue")

    def __init__(self, arrivals: Sequence[float], profile: Profile, machines: Machines) -> None:
        self._arrivals = arrivals
        self.profile = profile
        self.machines = machines
        self.queue: deque[int] = deque()
        self.in_flight = 0
        self.arrived = 0
        # (when, service time) of requests that have ended.
        self.ended: list[tuple[float, float]] = []
        self.now = 0.0
        self._area = 0.0
        self._at = 0.0

    @property
    def present(self) -> int:
        """Requests in flight or waiting."""
        return self.in_flight + len(self.queue)

    def advance(self, now: float) -> None:
        """Let time pass, in which nothing has changed."""
        self._area += (now - self._at) * (self.in_flight + len(self.queue))
        self._at = self.now = now

    @property
    def area(self) -> float:
        """The integral of `present` up to now."""
        return self._area

    def waiting_longer_than(self, limit_s: float) -> int:
        """How many wait for so long by now."""
        count = 0
        for index in self.queue:
            if self.now - self._arrivals[index] <= limit_s:
                break
            count += 1
        return count

    @property
    def oldest_wait_s(self) -> float:
        """Of the first in the queue; 0 when nobody waits."""
        return self.now - self._arrivals[self.queue[0]] if self.queue else 0.0

    def arrived_since(self, then: float) -> int:
        """Requests that came after `then`."""
        return self.arrived - bisect_right(self._arrivals, then, 0, self.arrived)


class Rule(Protocol):
    """A policy. `tick_s`: how often it is asked. `eager`: also when a request has to wait.

    It may have `leaving(view)`, ready workers of its own choice that go before it is asked; `due()`, when it wants
    something though nobody has come; `initial`, with how many workers it begins.
    """

    tick_s: float
    eager: bool

    def decide(self, view: View) -> int:
        """The number of workers wanted now, starting ones included."""
        ...


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of one run: seconds each request waited, in the order of arrival; what it took. `steps`: workers over time."""

    waits: Sequence[float]
    gpu_s: float
    starts: int
    flaps: int
    peak: int
    steps: Sequence[tuple[float, int]] = field(repr=False)


def initial(arrivals: Sequence[float], services: Sequence[float], slots: int) -> int:
    """How many workers every run begins with: what the mean demand of the first two minutes needs."""
    demand = sum(min(s, _FIRST_S - a) for a, s in zip(arrivals, services, strict=True) if a < _FIRST_S) / _FIRST_S
    return round(demand / slots)


def _never() -> float:
    return math.inf


def _none() -> int:
    return 0


class Run:
    """`tail_s`: how long to go on after the last request has ended."""

    def __init__(
        self,
        arrivals: Sequence[float],
        services: Sequence[float],
        profile: Profile,
        rule: Rule,
        times: StartTimes,
        *,
        tail_s: float = 0.0,
        initial_workers: int | None = None,
    ) -> None:
        self._arrivals, self._services, self._profile, self._rule = arrivals, services, profile, rule
        self._tail_s = tail_s
        self._picks: Callable[[View], list[Machine]] | None = getattr(rule, "leaving", None)
        self._held: Callable[[], int] = getattr(rule, "held", _none)
        self._due: Callable[[], float] = getattr(rule, "due", _never)
        self._machines = Machines(profile, times)
        own: int | None = getattr(rule, "initial", None)
        begin = own if own is not None else initial_workers
        if begin is None:
            begin = initial(arrivals, services, profile.slots)
        self._machines.begin(min(begin, profile.workers_max), counted=own is not None)
        self._view = View(arrivals, profile, self._machines)
        self._waits = [0.0] * len(arrivals)
        # (when, order, worker, request that ends; -1: the worker is ready)
        self._events: list[tuple[float, int, Machine, int]] = []
        self._order = 0

    def whole(self, *, progress: Callable[[int], None] | None = None) -> Outcome:
        """All of it. `progress` is told of every thousand requests."""
        arrivals, events, view, tick_s = self._arrivals, self._events, self._view, self._rule.tick_s
        total, next_tick, last_end = len(arrivals), 0.0, 0.0
        arrive = self._arrive
        while True:
            at = arrivals[view.arrived] if view.arrived < total else math.inf
            event_at = events[0][0] if events else math.inf
            if at == math.inf and view.in_flight == 0 and not view.queue:
                end = last_end + self._tail_s
                if min(event_at, next_tick) > end:
                    break
            if event_at <= at and event_at <= next_tick:
                last_end = self._happen(last_end)
            elif at <= next_tick:
                arrive(at)
                if progress is not None and view.arrived % 1_000 == 0:
                    progress(1_000)
            elif self._hopeless(next_tick):
                last_end = self._give_up(next_tick)
            else:
                self._tick(next_tick)
                next_tick += tick_s
                if view.in_flight == 0 and not view.queue and not self._machines.active:
                    # Nothing happens until somebody comes.
                    nearest = min(at, self._due(), last_end + self._tail_s if at == math.inf else at)
                    if self._machines.cold:
                        nearest = min(nearest, next_tick + _COLD_LOOK_S)
                    next_tick = max(next_tick, math.ceil(nearest / tick_s) * tick_s)
        self._machines.end(last_end + self._tail_s)
        m = self._machines
        return Outcome(self._waits, m.gpu_s, m.starts, m.flaps, m.peak, m.steps)

    def _hopeless(self, now: float) -> bool:
        view = self._view
        waits = view.queue and not view.in_flight and not self._machines.active
        return bool(waits) and now > self._arrivals[-1] + _GIVEN_UP_S

    def _give_up(self, now: float) -> float:
        """Whoever still waits has waited until now."""
        self._view.advance(now)
        for index in self._view.queue:
            self._waits[index] = now - self._arrivals[index]
        self._view.queue.clear()
        return now

    def _arrive(self, at: float) -> None:
        view = self._view
        view.advance(at)
        index = view.arrived
        view.arrived += 1
        slots = self._profile.slots
        if not view.queue:
            for machine in self._machines.serving:
                if machine.busy < slots:
                    self._serve(machine, index, at)
                    return
        view.queue.append(index)
        if self._rule.eager:
            self._scale(at)

    def _serve(self, machine: Machine, index: int, now: float) -> None:
        machine.busy += 1
        self._view.in_flight += 1
        self._waits[index] = now - self._arrivals[index]
        self._order += 1
        heapq.heappush(self._events, (now + self._services[index], self._order, machine, index))

    def _happen(self, last_end: float) -> float:
        now, _, machine, index = heapq.heappop(self._events)
        view = self._view
        if index < 0:
            if machine.ready_at == now and not machine.draining and machine in self._machines.loading:
                view.advance(now)
                self._machines.is_ready(machine, now)
                self._feed(machine, now)
            return last_end
        view.advance(now)
        machine.busy -= 1
        view.in_flight -= 1
        view.ended.append((now, self._services[index]))
        if machine.draining:
            if not machine.busy:
                self._machines.drained(machine, now)
        else:
            if not machine.busy:
                machine.idle_since = now
            if view.queue:
                self._feed(machine, now)
        return now

    def _feed(self, machine: Machine, now: float) -> None:
        queue, slots = self._view.queue, self._profile.slots
        while queue and machine.busy < slots:
            self._serve(machine, queue.popleft(), now)

    def _tick(self, now: float) -> None:
        self._view.advance(now)
        self._scale(now)

    def _scale(self, now: float) -> None:
        if self._picks is not None:
            for machine in self._picks(self._view):
                self._machines.remove(machine, now)
        wanted = min(self._rule.decide(self._view), self._profile.workers_max)
        machines = self._machines
        held = max(wanted, self._held()) if self._profile.cold else 0
        if wanted != machines.active or (held and held != machines.active + len(machines.cold)):
            for ready_at, machine in machines.scale(wanted, now, held):
                self._order += 1
                heapq.heappush(self._events, (ready_at, self._order, machine, -1))
