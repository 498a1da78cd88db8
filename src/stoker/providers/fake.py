"""A provider without machines: for tests, demonstrations and simulations. It ships, so that everybody has the same one.

Workers are entries in a dictionary. What real machines do to a control plane can be asked for: starts that fail, lists
that lag or break, ends that take time, workers that crash.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from signal import Signals

from stoker.domain.errors import Unavailable
from stoker.domain.fetching import words_of
from stoker.domain.hardware import Offer, PortRange
from stoker.domain.worker import Address, Exit, Observed, WorkerId, WorkerSpec
from stoker.providers.base import LogLine, ProviderOptions

LINES_MAX = 10_000
LOOK_S = 0.1
DEFAULT_OFFERS = (Offer(host="fake", vcpu=1_000_000, ram_gib=1_000_000, ports=PortRange(20_000, 59_999)),)


# What it says of one that is held still, by whomever.
PAUSED = "it is paused"


@dataclass(slots=True)
class FakeWorker:
    """One worker. It is listed from `visible_at` on, and ends at `ends_at` when it was asked to. `said` counts all that
    it ever printed, `output` has the last of it.
    """

    spec: WorkerSpec
    started_at: float
    visible_at: float
    ends_at: float | None = None
    exit: Exit | None = None
    paused: bool = False
    leaving: str = ""
    preparing: str = ""
    began_at: float | None = None
    output: list[LogLine] = field(default_factory=list)
    said: int = 0
    _observed: Observed | None = None

    def observed(self) -> Observed:
        """As it is listed: the same object as long as nothing changes, since long lists are compared every second."""
        known = self._observed
        leaving = self.leaving or (PAUSED if self.paused else "")
        facts = (self.exit, leaving, self.preparing, self.began_at)
        if known is None or (known.exit, known.leaving, known.preparing, known.began_at) != facts:
            self._observed = Observed(
                id=self.spec.id,
                running=self.exit is None,
                address=_address(self.spec),
                exit=self.exit,
                leaving=leaving,
                preparing=self.preparing,
                began_at=self.began_at,
            )
            return self._observed
        return known


class FakeProvider:
    """`clock` gives seconds since the epoch. Public attributes are knobs, to be turned at any time:

    `start_error`: raised by every start. `list_error`: raised by every list. `list_lag_s`: how long a started worker
    is not listed. `stop_s`: how long an end takes. `exit_code`: every worker ends with it as soon as it starts.
    `execute_code`: what every command beside a worker exits with. `images`: can it run images? `models_at`: where it
    has a cache of models of its own; each worker that wants one of them prepares itself until it is `fetched`.
    """

    pauses = True
    own_network = False

    def __init__(self, *, clock: Callable[[], float] = time.time, offers: tuple[Offer, ...] = DEFAULT_OFFERS) -> None:
        self._clock = clock
        self._offers = offers
        self.workers: dict[WorkerId, FakeWorker] = {}
        # The last one on each port.
        self._at: dict[int, FakeWorker] = {}
        self.starts: list[WorkerId] = []
        self.stops: list[WorkerId] = []
        self.start_error: Exception | None = None
        self.list_error: Unavailable | None = None
        self.list_lag_s = 0.0
        self.stop_s = 0.0
        self.exit_code: int | None = None
        self.execute_code = 0
        self.images = True
        self.models_at: str | None = None

    def image_of(self, engine: str) -> str | None:
        return f"fake/{engine}"

    async def start(self, spec: WorkerSpec) -> None:
        if self.start_error is not None:
            raise self.start_error
        if spec.id in self.workers:
            self.workers[spec.id].paused = False
            return
        now = self._clock()
        self.starts.append(spec.id)
        preparing = "" if spec.fetch is None else words_of(None, spec.fetch.name)
        found = self.workers[spec.id] = FakeWorker(spec, now, now + self.list_lag_s, preparing=preparing)
        if spec.port is not None:
            self._at[spec.port] = found
        if self.exit_code is not None:
            self.crash(spec.id, code=self.exit_code)

    async def stop(self, worker: WorkerId, *, grace_s: float) -> None:
        self.stops.append(worker)
        found = self.workers.get(worker)
        if found is None:
            return
        if found.exit is not None:
            del self.workers[worker]
            return
        ends_at = self._clock() + min(self.stop_s, grace_s)
        found.ends_at = ends_at if found.ends_at is None else min(found.ends_at, ends_at)

    async def pause(self, worker: WorkerId) -> None:
        if worker in self.workers:
            self.workers[worker].paused = True

    async def list(self) -> tuple[Observed, ...]:
        if self.list_error is not None:
            raise self.list_error
        now = self._clock()
        for worker, found in tuple(self.workers.items()):
            if found.exit is None and found.ends_at is not None and now >= found.ends_at:
                del self.workers[worker]
        return tuple(found.observed() for found in self.workers.values() if now >= found.visible_at)

    async def listens(self, worker: WorkerId, port: int) -> bool:
        found = self._running(worker)
        return found is not None and found.spec.port == port

    async def execute(self, worker: WorkerId, command: tuple[str, ...], timeout_s: float) -> int:
        if self._running(worker) is None:
            raise Unavailable("it does not run")
        return self.execute_code

    async def offers(self) -> tuple[Offer, ...]:
        return self._offers

    async def logs(self, worker: WorkerId, *, tail: int, follow: bool) -> AsyncIterator[LogLine]:
        found = self.workers.get(worker)
        if found is None:
            return
        said = found.said
        for line in found.output[-tail:] if tail > 0 else ():
            yield line
        while follow:
            running = self._running(worker) is found
            new, said = found.said - said, found.said
            for line in found.output[-new:] if new else ():
                yield line
            if not running:
                return
            await asyncio.sleep(LOOK_S)

    async def close(self) -> None:
        return

    def _running(self, worker: WorkerId) -> FakeWorker | None:
        found = self.workers.get(worker)
        if found is None or found.exit is not None:
            return None
        return found if found.ends_at is None or self._clock() < found.ends_at else None

    def crash(self, worker: WorkerId, *, code: int = 1) -> None:
        """The worker ends by itself, with this exit code; a negative one is a signal."""
        reason = f"killed by signal {-code} ({Signals(-code).name})" if code < 0 else f"exited with code {code}"
        self.workers[worker].exit = Exit(code=code, at=self._clock(), reason=reason)

    def fetching(self, worker: WorkerId, text: str) -> None:
        """How far its model is."""
        self.workers[worker].preparing = text

    def fetched(self, worker: WorkerId) -> None:
        """Its model is there, and it begins."""
        self.workers[worker].preparing, self.workers[worker].began_at = "", self._clock()

    def leave(self, worker: WorkerId, why: str) -> None:
        """Its host says that it will end it."""
        self.workers[worker].leaving = why

    def vanish(self, worker: WorkerId) -> None:
        """The worker is gone without a trace, as with its whole host."""
        del self.workers[worker]

    def say(self, worker: WorkerId, text: str) -> None:
        """The worker prints a line."""
        found = self.workers[worker]
        # Later than the line before, as every provider's lines are.
        at = max(self._clock(), found.output[-1].at + 1e-6 if found.output else 0.0)
        found.output.append(LogLine(at, "stdout", text))
        found.said += 1
        del found.output[:-LINES_MAX]

    def at(self, port: int) -> FakeWorker | None:
        """Who runs there."""
        found = self._at.get(port)
        if found is None or found.exit is not None or self.workers.get(found.spec.id) is not found:
            return None
        return found

    def healthy(self, address: Address) -> bool:
        """Does a worker answer at this address?"""
        found = self.at(address.port)
        return found is not None and found.ends_at is None


def _address(spec: WorkerSpec) -> Address | None:
    return None if spec.port is None else Address(host="127.0.0.1", port=spec.port)


def connect(options: ProviderOptions) -> FakeProvider:
    """A provider of one boundless host."""
    return FakeProvider()
