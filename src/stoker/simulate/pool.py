"""The workers of one simulated endpoint: dispatch, starts, drains and what they cost. Driven by `stoker.simulate.run`.

Who goes when fewer are wanted is decided by the policy of production (`stoker.policy.pools.victims`).
"""

from __future__ import annotations

from collections import deque

from stoker.domain.endpoint import EndpointId, PoolSpec, ScaleBounds
from stoker.domain.worker import Worker, WorkerId, WorkerState
from stoker.policy.pools import victims
from stoker.simulate.draws import StartTimes
from stoker.simulate.trace import Profile

FLAP_S = 300.0


class Machine:
    """One worker. `busy`: requests on it; `idle_since`: since when it has none, once it is ready; `since`: since when
    it costs what it does now; `ready_at`: when it will be. `chilling`: to be cold when it has drained.
    """

    __slots__ = (
        "busy",
        "chilling",
        "cold",
        "draining",
        "idle_since",
        "number",
        "ready",
        "ready_at",
        "resuming",
        "since",
    )

    def __init__(self, number: int, since: float, *, ready: bool) -> None:
        self.number, self.since, self.ready = number, since, ready
        self.busy = 0
        self.draining = self.chilling = self.cold = self.resuming = False
        self.ready_at = since
        self.idle_since = since


class Machines:
    """`serving`: the ready ones, the oldest first; `loading`: those that are to be; `leaving`: those that drain;
    `cold`: those that cost little and are back soon.

    `took`: what the last of those that have `started` took, in seconds.
    """

    def __init__(self, profile: Profile, times: StartTimes) -> None:
        self.profile = profile
        self.serving: list[Machine] = []
        self.loading: list[Machine] = []
        self.leaving: list[Machine] = []
        self.cold: list[Machine] = []
        self.gpu_s = 0.0
        self.starts = 0
        self.flaps = 0
        self.peak = 0
        self.steps: list[tuple[float, int]] = []
        self.took: deque[float] = deque(maxlen=50)
        self.started = 0
        self._times = times
        self._numbers = 0
        self._removed_at = -FLAP_S - 1
        self._pools = (PoolSpec(bounds=ScaleBounds(max=profile.workers_max)),)

    @property
    def active(self) -> int:
        """Those that serve, now or soon."""
        return len(self.serving) + len(self.loading)

    def begin(self, count: int, *, counted: bool = False) -> None:
        """What is there at the beginning, ready; as started only if `counted`."""
        self.starts += count if counted else 0
        for _ in range(count):
            self.serving.append(self._new(0.0, ready=True))
        self._note(0.0)

    def _new(self, now: float, *, ready: bool) -> Machine:
        self._numbers += 1
        return Machine(self._numbers, now, ready=ready)

    def start(self, now: float) -> tuple[float, Machine]:
        """Start one: when it will be ready."""
        machine = self._new(now, ready=False)
        took = self._times[self.starts]
        self.starts += 1
        if now - self._removed_at <= FLAP_S:
            self.flaps += 1
        self.loading.append(machine)
        machine.ready_at = now + took
        return machine.ready_at, machine

    def is_ready(self, machine: Machine, now: float) -> None:
        """It has started."""
        self.loading.remove(machine)
        machine.ready, machine.idle_since = True, now
        if machine.resuming:
            machine.resuming = False
        else:
            self.took.append(now - machine.since)
            self.started += 1
        at = len(self.serving)
        while at and self.serving[at - 1].number > machine.number:
            at -= 1
        self.serving.insert(at, machine)

    def scale(self, wanted: int, now: float, held: int = 0) -> list[tuple[float, Machine]]:
        """Bring the active ones to `wanted`, and those that are active or cold to `held`, if that is more. Those that
        will be ready, with the time of each.
        """
        # A cold one is back before one that loads, even if that has begun before.
        soon = len(self.serving) + sum(machine.resuming for machine in self.loading)
        begun = [self._resume(machine, now) for machine in self.cold[: max(0, wanted - soon)]]
        if wanted < self.active:
            self._shrink(wanted, now, held)
        room = self.profile.workers_max - len(self.leaving) - len(self.cold)
        lacking = max(wanted, held - len(self.cold) - sum(machine.chilling for machine in self.leaving))
        begun += [self.start(now) for _ in range(min(lacking, room) - self.active)]
        for machine in self.cold[max(0, held - self.active) :]:
            self.cold.remove(machine)
            self._removed_at = now
            self._gone(machine, now)
        self._note(now)
        return begun

    def _resume(self, machine: Machine, now: float) -> tuple[float, Machine]:
        self.cold.remove(machine)
        self._gone(machine, now)
        machine.since, machine.cold, machine.resuming = now, False, True
        machine.ready_at = now + self.profile.resume_s
        self.loading.append(machine)
        return machine.ready_at, machine

    def _chill(self, machine: Machine, now: float) -> None:
        self._gone(machine, now)
        machine.since, machine.cold, machine.ready, machine.resuming = now, True, False, False
        machine.draining = machine.chilling = False
        at = len(self.cold)
        while at and self.cold[at - 1].number > machine.number:
            at -= 1
        self.cold.insert(at, machine)

    def _shrink(self, wanted: int, now: float, held: int) -> None:
        machines = {WorkerId(str(m.number)): m for m in (*self.serving, *self.loading)}
        loads = {key: m.busy for key, m in machines.items()}
        workers = [_as_worker(m, self.profile.slots) for m in machines.values()]
        kept = self.active + len(self.cold) + sum(machine.chilling for machine in self.leaving)
        for worker in victims(workers, self._pools, wanted=wanted, loads=loads):
            if kept > held:
                kept -= 1
                self.remove(machines[worker.id], now)
            else:
                self._rest(machines[worker.id], now)

    def _rest(self, machine: Machine, now: float) -> None:
        """It is to be cold, as soon as it has been ready once."""
        if machine.resuming:
            self.loading.remove(machine)
            self._chill(machine, now)
        elif machine.ready:
            self.serving.remove(machine)
            if machine.busy:
                machine.draining = machine.chilling = True
                self.leaving.append(machine)
            else:
                self._chill(machine, now)

    def remove(self, machine: Machine, now: float) -> None:
        self._removed_at = now
        if not machine.ready:
            self.loading.remove(machine)
            self._gone(machine, now)
            return
        self.serving.remove(machine)
        if machine.busy:
            machine.draining = True
            self.leaving.append(machine)
        else:
            self._gone(machine, now)

    def drained(self, machine: Machine, now: float) -> None:
        """It has finished the last of its requests and goes, or is cold from now on."""
        self.leaving.remove(machine)
        if machine.chilling:
            self._chill(machine, now)
        else:
            self._gone(machine, now)
        self._note(now)

    def _gone(self, machine: Machine, now: float) -> None:
        self.gpu_s += (now - machine.since) * (self.profile.cold_rate if machine.cold else 1.0)

    def _note(self, now: float) -> None:
        count = self.active + len(self.leaving) + len(self.cold)
        self.peak = max(self.peak, count)
        if not self.steps or self.steps[-1][1] != count:
            self.steps.append((now, count))

    def end(self, now: float) -> None:
        """Nothing is simulated beyond now: what there is has cost what it has cost."""
        for machine in (*self.serving, *self.loading, *self.leaving, *self.cold):
            self._gone(machine, now)
        self.steps.append((now, 0))


def _as_worker(machine: Machine, slots: int) -> Worker:
    return Worker(
        id=WorkerId(str(machine.number)),
        number=machine.number,
        endpoint=EndpointId("simulated"),
        pool="default",
        revision=1,
        provider="simulated",
        state=WorkerState.READY if machine.ready else WorkerState.STARTING,
        slots=slots,
        created_at=machine.since,
        from_cold=machine.resuming,
    )
