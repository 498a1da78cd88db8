"""Who goes, who waits and who is refused, for one endpoint: workers with slots and a waiting room.

Pure: time is an argument, nothing is read or written. `gateway.exchange` holds a `Turn` for every request; the table's
entries and the sweep of waiting requests come from `gateway.proxy`.
"""

from __future__ import annotations

from bisect import insort
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from stoker.link.messages import EndpointEntry, EndpointReport, WorkerEntry

# A worker that cut a request may be dying: its sockets close one after the other, and what is sent to it in between is
# lost. A new connection after this long is either taken by a living worker or refused.
REST_S = 0.05


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request is not served now. `reason` is a stable word; `retry_after_s` is `None` when nobody can tell."""

    reason: str
    text: str
    retry_after_s: float | None = None


class Worker:
    """One worker as admission sees it. `down`: it refused a connection, and the table has not mentioned it since.

    `gone`: no longer in the table, kept until its last request has ended. `rests_until`: it gets nothing before.
    """

    __slots__ = ("down", "draining", "gone", "host", "id", "in_flight", "order", "port", "rests_until", "slots")

    def __init__(self, entry: WorkerEntry) -> None:
        self.id = entry.id
        self.in_flight = 0
        self.gone = False
        self.rests_until = 0.0
        self.take(entry)

    def take(self, entry: WorkerEntry) -> None:
        """Adopt what the table says now."""
        self.host = entry.host
        self.port = entry.port
        self.slots = entry.slots
        self.order = entry.order
        self.draining = entry.draining
        self.down = False

    @property
    def open(self) -> bool:
        """May it get new requests, slots allowing?"""
        return not (self.draining or self.down or self.gone)


class Applicant(Protocol):
    """Whoever a turn belongs to; told how its wait ended. May enter or leave other turns from within."""

    def admitted(self, worker: Worker) -> None: ...

    def refused(self, refusal: Refusal) -> None: ...


class Turn:
    """One request's claim on a slot: waiting, holding one (`worker`), or neither.

    `hold_s` bounds its wait; 0 asks for a slot now or never. `pin` is the only worker that will do.
    """

    __slots__ = ("applicant", "deadline", "entered_at", "hold_s", "number", "pin", "waiting", "worker")

    def __init__(self, applicant: Applicant, *, hold_s: float | None = None, pin: str | None = None) -> None:
        self.applicant = applicant
        self.hold_s = hold_s
        self.pin = pin
        self.worker: Worker | None = None
        self.waiting = False
        self.number = 0
        self.entered_at = 0.0
        self.deadline = 0.0


class Admission:
    """Workers, slots and waiting room of one endpoint, and the numbers that reports are made of.

    `on_touched` is called when something changed since the last report; `on_wait` when a request begins to wait.
    Invariant: while a request waits, no slot is free that it could take.
    """

    __slots__ = (
        "_at",
        "_busy_s",
        "_completions",
        "_errors",
        "_numbers",
        "_on_touched",
        "_on_wait",
        "_pinned",
        "_queue",
        "_refusals",
        "_wait_s",
        "_workers",
        "arrivals",
        "entry",
        "in_flight",
        "touched",
        "waiting",
        "woken",
        "workers",
    )

    def __init__(
        self,
        entry: EndpointEntry,
        now: float,
        *,
        on_touched: Callable[[Admission], None],
        on_wait: Callable[[Admission], None],
    ) -> None:
        self.entry = entry
        self.workers: list[Worker] = []
        self.in_flight = 0
        self.waiting = 0
        self.arrivals = 0
        self.touched = False
        self.woken = False
        self._on_touched = on_touched
        self._on_wait = on_wait
        self._workers: dict[str, Worker] = {}
        self._queue: deque[Turn] = deque()
        self._pinned = 0
        self._numbers = 0
        self._completions = 0
        self._errors = 0
        self._refusals = 0
        self._busy_s = 0.0
        self._wait_s = 0.0
        self._at = now
        self.update(entry, now)

    # --- requests ---

    def enter(self, turn: Turn, now: float) -> Worker | Refusal | None:
        """A request arrives: the worker whose slot it now holds, a refusal, or `None`: it waits and will be told."""
        self._accrue(now)
        self.arrivals += 1
        self._numbers += 1
        turn.number = self._numbers
        turn.entered_at = now
        wait_s = self.entry.wait_s_max
        hold_s = wait_s if turn.hold_s is None or turn.hold_s > wait_s else turn.hold_s
        turn.deadline = now + hold_s
        outcome = self._seat(turn, hold_s)
        if outcome is None:
            if self.waiting >= self.entry.waiting_max:
                outcome = Refusal("waiting_room_full", "as many requests wait as may wait for this endpoint")
            else:
                self._queue.append(turn)
                self._waits(turn)
                return None
        if isinstance(outcome, Refusal):
            self._refusals += 1
        return outcome

    def retry(self, turn: Turn, now: float) -> Worker | Refusal | None:
        """Its worker could not be reached: give the slot back and go on from where the request stood in the queue.

        As `enter`, but it keeps its place and its deadline, and no limit on the waiting room holds it up.
        """
        self._accrue(now)
        self._vacate(turn)
        outcome = self._seat(turn, max(0.0, turn.deadline - now))
        if outcome is None:
            self._queue_again(turn)
            self._waits(turn)
            return None
        if isinstance(outcome, Refusal):
            self._refusals += 1
        if self.waiting:
            # It went elsewhere: the slot that it gave back may be what a pinned request waits for.
            self._pump()
        return outcome

    def leave(self, turn: Turn, now: float) -> None:
        """Its client has gone while it waited. Nothing happens to a turn that does not wait."""
        if turn.waiting:
            self._accrue(now)
            self._forget_waiting(turn)

    def release(self, turn: Turn, now: float, *, failed: bool) -> None:
        """The exchange is over; the slot goes to the oldest request waiting. The second call for a turn does nothing.

        `failed`: the worker did not answer completely, for whatever reason but the client's leaving.
        """
        if turn.worker is None:
            return
        self._accrue(now)
        if failed:
            self._errors += 1
        else:
            self._completions += 1
        self._vacate(turn)
        if self.waiting:
            self._pump()

    def mark_down(self, worker: Worker) -> bool:
        """It refused a connection: nothing more for it until the table mentions it. False if that was known already."""
        known = worker.down
        worker.down = True
        return not known

    def rest(self, turn: Turn, now: float) -> None:
        """The worker has cut this turn's request: nothing new for it for `REST_S`; then `rested` is due."""
        if turn.worker is not None:
            turn.worker.rests_until = now + REST_S

    def rested(self, now: float) -> None:
        """Some worker's rest may be over: its slots go to those who wait."""
        self._accrue(now, touch=False)
        if self.waiting:
            self._pump()

    def expire(self, now: float) -> None:
        """Refuse the requests whose wait has lasted long enough."""
        if not self.waiting:
            return
        expired = [turn for turn in self._queue if turn.waiting and turn.deadline <= now]
        if expired:
            self._refuse(expired, Refusal("wait_expired", "no worker had a free slot in time", 1.0), now)

    # --- the table ---

    def update(self, entry: EndpointEntry, now: float) -> None:
        """The table says this of the endpoint. Requests in flight go on; those that wait may go, or be refused."""
        self._accrue(now)
        self.entry = entry
        listed = {worker.id for worker in entry.workers}
        for worker in self._workers.values():
            worker.gone = worker.id not in listed
        for item in entry.workers:
            known = self._workers.get(item.id)
            if known is None:
                self._workers[item.id] = Worker(item)
            else:
                known.take(item)
        self._drop_idle_gone()
        if entry.refusal is not None:
            self._refuse(self._all_waiting(), _refusal_of(entry), now)
        else:
            self._pump()

    def close(self, now: float) -> None:
        """The endpoint is gone from the table: nobody waits for it any more."""
        for worker in self._workers.values():
            worker.gone = True
        self._drop_idle_gone()
        self._refuse(self._all_waiting(), Refusal("endpoint_gone", "the endpoint has been deleted"), now)

    def report(self, now: float) -> EndpointReport:
        """The numbers up to `now`; from here on nothing has been touched."""
        self._accrue(now, touch=False)
        self.touched = self.woken = False
        while self._queue and not self._queue[0].waiting:
            self._queue.popleft()
        return EndpointReport(
            id=self.entry.id,
            in_flight=self.in_flight,
            waiting=self.waiting,
            oldest_wait_s=now - self._queue[0].entered_at if self._queue else 0.0,
            arrivals=self.arrivals,
            completions=self._completions,
            errors=self._errors,
            refusals=self._refusals,
            busy_s=self._busy_s,
            wait_s=self._wait_s,
            workers={worker.id: worker.in_flight for worker in self._workers.values()},
        )

    def waiting_turns(self) -> list[Turn]:
        """Those that wait, oldest first."""
        return self._all_waiting()

    # --- inside ---

    def _seat(self, turn: Turn, hold_s: float) -> Worker | Refusal | None:
        entry = self.entry
        if entry.refusal is not None:
            return _refusal_of(entry)
        worker = self._free_worker(turn.pin)
        if worker is not None:
            turn.worker = worker
            worker.in_flight += 1
            self.in_flight += 1
            return worker
        if hold_s <= 0:
            return Refusal("busy", "no worker has a free slot now", 1.0)
        return None

    def _free_worker(self, pin: str | None) -> Worker | None:
        best: Worker | None = None
        for worker in self.workers:
            load = worker.in_flight
            if load < worker.slots and not worker.down and (pin is None or worker.id == pin):
                if worker.rests_until > self._at:
                    continue
                if load == 0:
                    # Workers are in the order of their age: nothing further on can be better than an idle one.
                    return worker
                if best is None or load < best.in_flight:
                    best = worker
        return best

    def _waits(self, turn: Turn) -> None:
        turn.waiting = True
        self.waiting += 1
        if turn.pin is not None:
            self._pinned += 1
        if not self.woken:
            self.woken = True
            self._on_wait(self)

    def _queue_again(self, turn: Turn) -> None:
        # The queue is in the order of arrival, and whoever comes back arrived before nearly all of it.
        for place, other in enumerate(self._queue):
            if other is turn:
                return
            if other.number > turn.number:
                self._queue.insert(place, turn)
                return
        self._queue.append(turn)

    def _forget_waiting(self, turn: Turn) -> None:
        # It stays in the queue as a blank: removing it from the middle would cost a walk through the queue.
        turn.waiting = False
        self.waiting -= 1
        if turn.pin is not None:
            self._pinned -= 1
        if len(self._queue) > 64 and self.waiting * 2 < len(self._queue):
            self._queue = deque(other for other in self._queue if other.waiting)

    def _vacate(self, turn: Turn) -> None:
        worker, turn.worker = turn.worker, None
        if worker is None:
            return
        worker.in_flight -= 1
        self.in_flight -= 1
        if worker.gone:
            self._drop_idle_gone()

    def _pump(self) -> None:
        while self.waiting:
            turn = self._next_turn()
            if turn is None:
                return
            worker = self._free_worker(turn.pin)
            assert worker is not None
            self._forget_waiting(turn)
            turn.worker = worker
            worker.in_flight += 1
            self.in_flight += 1
            turn.applicant.admitted(worker)

    def _next_turn(self) -> Turn | None:
        queue = self._queue
        while queue and not queue[0].waiting:
            queue.popleft()
        if not self._pinned:
            if self._free_worker(None) is None:
                return None
            return queue.popleft()
        for turn in queue:
            if turn.waiting and self._free_worker(turn.pin) is not None:
                return turn
        return None

    def _all_waiting(self) -> list[Turn]:
        return [turn for turn in self._queue if turn.waiting]

    def _refuse(self, turns: list[Turn], refusal: Refusal, now: float) -> None:
        self._accrue(now)
        for turn in turns:
            # One that was refused may, on its way out, have made another leave.
            if turn.waiting:
                self._forget_waiting(turn)
                self._refusals += 1
                turn.applicant.refused(refusal)

    def _drop_idle_gone(self) -> None:
        for worker in [w for w in self._workers.values() if w.gone and not w.in_flight]:
            del self._workers[worker.id]
        open_workers: list[Worker] = []
        for worker in self._workers.values():
            if not (worker.gone or worker.draining):
                insort(open_workers, worker, key=lambda w: w.order)
        self.workers = open_workers

    def _accrue(self, now: float, *, touch: bool = True) -> None:
        elapsed = now - self._at
        if elapsed > 0:
            self._busy_s += self.in_flight * elapsed
            self._wait_s += self.waiting * elapsed
            self._at = now
        if touch and not self.touched:
            self.touched = True
            self._on_touched(self)


def _refusal_of(entry: EndpointEntry) -> Refusal:
    assert entry.refusal is not None
    return Refusal(entry.refusal, entry.refusal_text or entry.refusal, entry.retry_after_s)
