"""Who goes, who waits and who is refused, for one endpoint: workers with slots and a waiting room.

Pure: time is an argument, nothing is read or written. `gateway.exchange` holds a `Turn` for every request; the table's
entries and the sweep of waiting requests come from `gateway.proxy`.
"""

from __future__ import annotations

from collections.abc import Callable

from stoker.gateway.sessions import Sessions
from stoker.gateway.turns import (
    BUSY,
    NO_CAPACITY,
    ROOM_FULL,
    SESSION_LOST,
    WORKER_UNAVAILABLE,
    Applicant,
    Refusal,
    Turn,
)
from stoker.gateway.waiting import WaitingRoom
from stoker.gateway.workers import REST_S, Worker, Workers
from stoker.link.messages import EndpointEntry, EndpointReport, ReservationEntry

__all__ = ["REST_S", "Admission", "Applicant", "Refusal", "Turn", "Worker"]


class Admission:
    """Workers, slots and waiting room of one endpoint, and the numbers that reports are made of.

    `on_touched` is called when something changed since the last report; `on_wait` when a request begins to wait, or
    finds no worker at all; `on_free` when a slot is free of an endpoint with a backlog of tasks.
    Invariant: while a request waits, no slot is free that it could take.
    """

    __slots__ = (
        "_at",
        "_busy_s",
        "_completions",
        "_errors",
        "_leaving",
        "_numbers",
        "_on_free",
        "_on_touched",
        "_on_wait",
        "_refusals",
        "_room",
        "_sessions",
        "_wait_s",
        "_workers",
        "arrivals",
        "entry",
        "in_flight",
        "touched",
        "woken",
    )

    def __init__(
        self,
        entry: EndpointEntry,
        now: float,
        *,
        on_touched: Callable[[Admission], None],
        on_wait: Callable[[Admission], None],
        on_free: Callable[[Admission], None],
    ) -> None:
        self.entry = entry
        self.in_flight = 0
        self.arrivals = 0
        self.touched = False
        self.woken = False
        self._on_touched = on_touched
        self._on_wait = on_wait
        self._on_free = on_free
        self._workers = Workers()
        self._sessions = Sessions()
        self._room = WaitingRoom()
        self._numbers = 0
        self._completions = 0
        self._errors = 0
        self._refusals = 0
        self._busy_s = 0.0
        self._wait_s = 0.0
        self._at = now
        self._leaving = False
        self.update(entry, now)

    @property
    def waiting(self) -> int:
        """How many requests wait."""
        return self._room.count

    @property
    def workers(self) -> list[Worker]:
        """Those that may get requests, the oldest first."""
        return self._workers.open

    # --- requests ---

    def enter(self, turn: Turn, now: float) -> Worker | Refusal | None:
        """A request arrives: the worker whose slot it now holds, a refusal, or `None`: it waits and will be told."""
        self._accrue(now)
        if self._room.count:
            # A rest may be over that nobody has noticed yet: whoever waits goes first.
            self._pump()
        if turn.task:
            return self._seat_task(turn, now)
        self.arrivals += 1
        self._numbers += 1
        turn.number = self._numbers
        turn.entered_at = now
        wait_s = self.entry.wait_s_max
        hold_s = wait_s if turn.hold_s is None or turn.hold_s > wait_s else turn.hold_s
        turn.deadline = now + hold_s
        outcome: Worker | Refusal | None = self._bind(turn) if turn.session is not None else None
        if outcome is None:
            outcome = self._seat(turn, hold_s)
        if outcome is None:
            if self._room.count >= self.entry.waiting_max:
                outcome = ROOM_FULL
            else:
                self._room.add(turn)
                self._wake()
                return None
        if isinstance(outcome, Refusal):
            self._refusals += 1
            if outcome is NO_CAPACITY:
                self._wake()
        return outcome

    def _seat_task(self, turn: Turn, now: float) -> Worker | Refusal:
        turn.entered_at = turn.deadline = now
        if self._room.count > self._room.pinned:
            return BUSY
        outcome = self._seat(turn, 0.0)
        assert outcome is not None
        if isinstance(outcome, Worker):
            self.arrivals += 1
        return outcome

    def retry(self, turn: Turn, now: float) -> Worker | Refusal | None:
        """Its worker could not be reached: give the slot back and go on from where the request stood in the queue.

        As `enter`, but it keeps its place and its deadline, and no limit on the waiting room holds it up.
        """
        self._accrue(now)
        self._vacate(turn)
        outcome = self._seat(turn, max(0.0, turn.deadline - now))
        if outcome is None:
            self._room.add_again(turn)
            self._wake()
            return None
        if isinstance(outcome, Refusal):
            self._refusals += 1
        # It went elsewhere: the slot that it gave back may be what a pinned request waits for.
        self._offer()
        return outcome

    def leave(self, turn: Turn, now: float) -> None:
        """Its client has gone while it waited. Nothing happens to a turn that does not wait."""
        if turn.waiting:
            self._accrue(now)
            self._room.forget(turn)

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
        self._offer()

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
        self._offer()

    def expire(self, now: float) -> None:
        """Refuse the requests whose wait has lasted long enough."""
        if not self.waiting:
            return
        expired = [turn for turn in self._room.turns() if turn.deadline <= now]
        if expired:
            self._refuse(expired, Refusal("wait_expired", "no worker had a free slot in time", 1.0), now)

    # --- the table ---

    def update(self, entry: EndpointEntry, now: float) -> None:
        """The table says this of the endpoint. Requests in flight go on; those that wait may go, or be refused."""
        self._accrue(now)
        self.entry = entry
        self._workers.pack, self._workers.fill = entry.pack, entry.fill
        self._workers.take(entry.workers, leaving=self._leaving)
        if self._room.pinned:
            self._release_pinned(now)
        if entry.refusal is not None:
            self._refuse(self._room.turns(), _refusal_of(entry), now)
        else:
            self._offer()

    def _release_pinned(self, now: float) -> None:
        lost = [turn for turn in self._room.turns() if turn.pin is not None and self._workers.leaves(turn.pin)]
        for strict in (False, True):
            turns = [turn for turn in lost if (turn.session is not None) is strict]
            self._refuse(turns, SESSION_LOST if strict else WORKER_UNAVAILABLE, now)
        for turn in lost:
            if turn.session is not None:
                self._sessions.forget(turn.session)

    def reserve(self, reservation: ReservationEntry) -> None:
        """A request may come with this ticket: its cost counts as load on its worker."""
        self._workers.reserve(reservation)

    def unreserve(self, reservation: str) -> None:
        """The request with this ticket has come, or will not."""
        self._workers.unreserve(reservation)

    def leave_to_successor(self) -> None:
        """Another gateway takes over: from now on, slots that are not needed here any more are given up."""
        self._leaving = True

    def close(self, now: float) -> None:
        """The endpoint is gone from the table: nobody waits for it any more."""
        self._workers.take((), leaving=False)
        self._refuse(self._room.turns(), Refusal("endpoint_gone", "the endpoint has been deleted"), now)

    def report(self, now: float, begun: int = 0) -> EndpointReport:
        """The numbers up to `now`; from here on nothing has been touched. A gateway that leaves keeps slots for those
        who wait and for `begun` more.
        """
        self._accrue(now, touch=False)
        self.touched = self.woken = False
        oldest = self._room.first()
        return EndpointReport(
            id=self.entry.id,
            in_flight=self.in_flight,
            waiting=self.waiting,
            oldest_wait_s=0.0 if oldest is None else now - oldest.entered_at,
            arrivals=self.arrivals,
            completions=self._completions,
            errors=self._errors,
            refusals=self._refusals,
            busy_s=self._busy_s,
            wait_s=self._wait_s,
            workers={worker.id: worker.in_flight for worker in self._workers.known.values()},
            kept=self._workers.keep_only(self.waiting + begun) if self._leaving else {},
        )

    def waiting_turns(self) -> list[Turn]:
        """Those that wait, oldest first."""
        return self._room.turns()

    # --- inside ---

    def _seat(self, turn: Turn, hold_s: float) -> Worker | Refusal | None:
        entry = self.entry
        if entry.refusal is not None:
            return _refusal_of(entry)
        pin = turn.pin
        if pin is not None and self._workers.leaves(pin):
            return WORKER_UNAVAILABLE
        worker = self._workers.free(self._at, pin=pin, prefer=turn.prefer)
        if worker is not None:
            self._take(turn, worker)
            return worker
        if hold_s <= 0:
            return BUSY if any(worker.open for worker in self._workers.open) else NO_CAPACITY
        return None

    def _take(self, turn: Turn, worker: Worker) -> None:
        turn.worker = worker
        worker.in_flight += 1
        self.in_flight += 1
        self._workers.start = worker.place + 1
        if turn.session is not None and self.entry.session:
            self._sessions.note(turn.session, worker.id, self._at)
            if self.entry.session == "strict" and turn.pin is None:
                self._pin_session(turn.session, worker.id)

    def _bind(self, turn: Turn) -> Refusal | None:
        """Find the worker of its session, where sessions mean something."""
        entry, session = self.entry, turn.session
        assert session is not None
        if not entry.session or turn.pin is not None:
            return None
        worker = self._sessions.worker_of(session, self._at, idle_s=entry.session_idle_s)
        if worker is None and turn.hint is not None and not self._workers.leaves(turn.hint):
            worker = turn.hint
        if entry.session == "soft":
            turn.prefer = worker
        elif worker is not None:
            if self._workers.leaves(worker):
                self._sessions.forget(session)
                return SESSION_LOST
            turn.pin = worker
        return None

    def _pin_session(self, session: bytes, worker: str) -> None:
        # Requests of the same new session that came before it had a worker.
        for turn in self._room.turns():
            if turn.session == session and turn.pin is None:
                self._room.pin(turn, worker)

    def _wake(self) -> None:
        if not self.woken:
            self.woken = True
            self._on_wait(self)

    def _vacate(self, turn: Turn) -> None:
        worker, turn.worker = turn.worker, None
        if worker is None:
            return
        worker.in_flight -= 1
        self.in_flight -= 1
        if worker.gone:
            self._workers.drop_idle_gone()

    def _offer(self) -> None:
        """A slot may have come free."""
        if self._room.count:
            self._pump()
        if self.entry.backlog and not self._room.count:
            self._on_free(self)

    def slots_free(self) -> int:
        """How many requests could go at once; 0 while anybody waits."""
        return 0 if self.waiting or self.entry.refusal is not None else self._workers.slots_free(self._at)

    def _pump(self) -> None:
        while self._room.count:
            turn = self._next_turn()
            if turn is None:
                return
            worker = self._workers.free(self._at, pin=turn.pin, prefer=turn.prefer)
            assert worker is not None
            self._room.forget(turn)
            self._take(turn, worker)
            turn.applicant.admitted(worker)

    def _next_turn(self) -> Turn | None:
        if not self._room.pinned:
            return None if self._workers.free(self._at) is None else self._room.first()
        for turn in self._room.turns():
            if self._workers.free(self._at, pin=turn.pin) is not None:
                return turn
        return None

    def _refuse(self, turns: list[Turn], refusal: Refusal, now: float) -> None:
        self._accrue(now)
        for turn in turns:
            # One that was refused may, on its way out, have made another leave.
            if turn.waiting:
                self._room.forget(turn)
                self._refusals += 1
                turn.applicant.refused(refusal)

    def _accrue(self, now: float, *, touch: bool = True) -> None:
        elapsed = now - self._at
        if elapsed > 0:
            self._busy_s += self.in_flight * elapsed
            self._wait_s += self._room.count * elapsed
            self._at = now
        if touch and not self.touched:
            self.touched = True
            self._on_touched(self)


def _refusal_of(entry: EndpointEntry) -> Refusal:
    assert entry.refusal is not None
    return Refusal(entry.refusal, entry.refusal_text or entry.refusal, entry.retry_after_s)
