"""Probes: when a worker is ready, and when it is not well any more."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from simulation import virtual
from stoker.control.prober import NetworkCheck, Prober, Target
from stoker.domain.errors import Unavailable
from stoker.domain.probe import Probe, Probes
from stoker.domain.worker import Address, WorkerId

W = WorkerId("w")
AT = Address(host="127.0.0.1", port=1)
PROBE = Probe(period_s=5, failures_max=3)


class Scene:
    """A worker as its probes see it. `wrong` is what a check finds; `own` says whose the listener is."""

    def __init__(self) -> None:
        self.wrong: str | None = "loading"
        self.own: bool | Exception = True
        self.models: list[str] = []
        self.checks: list[float] = []
        self.ready: list[float] = []
        self.unhealthy: list[str] = []
        self.unready: list[str | None] = []
        self.code: int | Exception = 0
        self.prober = Prober(self._check, lists=self._lists)
        self.prober.attach(self)

    def worker_ready(self, worker: WorkerId) -> None:
        self.ready.append(asyncio.get_running_loop().time())

    def worker_unready(self, worker: WorkerId, why: str | None) -> None:
        self.unready.append(why)

    def worker_unhealthy(self, worker: WorkerId, why: str) -> None:
        self.unhealthy.append(why)

    async def execute(self, worker: WorkerId, command: tuple[str, ...], timeout_s: float) -> int:
        if isinstance(self.code, Exception):
            raise self.code
        return self.code

    async def _check(self, address: Address, probe: Probe) -> str | None:
        self.checks.append(asyncio.get_running_loop().time())
        return self.wrong

    async def listens(self, worker: WorkerId, port: int) -> bool:
        if isinstance(self.own, Exception):
            raise self.own
        return self.own

    async def _lists(self, address: Address, model: str) -> str | None:
        return None if model in self.models else f"it serves {self.models}"

    def watch(
        self,
        *,
        starting: bool,
        probe: Probe = PROBE,
        readiness: Probe | None = None,
        model: str | None = None,
    ) -> None:
        probes = Probes(startup=probe, readiness=readiness, liveness=probe)
        self.prober.watch(W, Target(AT, self.listens, self.execute, model), probes, starting=starting)


def run(body: Callable[[Scene], Awaitable[None]]) -> None:
    async def main() -> None:
        scene = Scene()
        await body(scene)
        await scene.prober.close()

    virtual.run(main())


def test_the_first_good_probe_makes_a_starting_worker_ready_once() -> None:
    async def body(scene: Scene) -> None:
        scene.watch(starting=True)
        await asyncio.sleep(3)
        assert scene.ready == []
        scene.wrong = None
        await asyncio.sleep(100)
        [at] = scene.ready
        assert at < 3.6, "no later than half a second after it is"

    run(body)


def test_a_worker_is_ready_only_when_it_lists_its_model_too() -> None:
    async def body(scene: Scene) -> None:
        scene.wrong, scene.models = None, ["another"]
        scene.watch(starting=True, model="m")
        await asyncio.sleep(10)
        assert scene.ready == []
        scene.models.append("m")
        await asyncio.sleep(1)
        assert len(scene.ready) == 1
        scene.models.clear()
        scene.watch(starting=False, model="m")
        await asyncio.sleep(100)
        assert scene.unhealthy == [], "a ready worker is asked for its health alone"

    run(body)


def test_an_answer_of_somebody_else_on_its_port_is_none() -> None:
    async def body(scene: Scene) -> None:
        scene.wrong = None
        for foreign in (False, OSError("cannot tell")):
            scene.own = foreign
            scene.watch(starting=True)
            await asyncio.sleep(10)
            assert scene.ready == []
        scene.own = True
        await asyncio.sleep(1)
        assert len(scene.ready) == 1

    run(body)


def test_a_ready_worker_is_unhealthy_after_so_many_failures_in_a_row() -> None:
    async def body(scene: Scene) -> None:
        scene.watch(starting=False)
        for wrong in ("HTTP 500", "HTTP 500", None, "HTTP 500", "HTTP 502"):
            scene.wrong = wrong
            await asyncio.sleep(5)
        assert scene.unhealthy == []
        scene.wrong = "HTTP 503"
        await asyncio.sleep(5)
        assert scene.unhealthy == ["3 probes failed in a row; last: HTTP 503"]
        await asyncio.sleep(100)
        assert len(scene.unhealthy) == 1

    run(body)


def test_watching_the_same_again_changes_nothing_and_another_probe_begins_anew() -> None:
    async def body(scene: Scene) -> None:
        scene.wrong = None
        for _ in range(9):
            scene.watch(starting=False)
            await asyncio.sleep(1)
        assert scene.checks == [5]
        scene.watch(starting=False, probe=Probe(period_s=2))
        await asyncio.sleep(5)
        assert scene.checks == [5, 11, 13]

    run(body)


def test_a_worker_that_is_forgotten_is_probed_no_more() -> None:
    async def body(scene: Scene) -> None:
        scene.watch(starting=True)
        await asyncio.sleep(1)
        scene.prober.forget(W)
        scene.prober.forget(WorkerId("unknown"))
        before = len(scene.checks)
        await asyncio.sleep(100)
        assert len(scene.checks) == before

    run(body)


@asynccontextmanager
async def serving(answer: bytes | None) -> AsyncIterator[Address]:
    """A server that says this and nothing else; `None`: not a word."""
    talks: list[tuple[asyncio.Task[None], asyncio.StreamWriter]] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        talks.append((task, writer))
        if answer is None:
            await reader.read()
        else:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    yield Address(host="127.0.0.1", port=server.sockets[0].getsockname()[1])
    server.close()
    for task, writer in talks:
        writer.transport.abort()
        await asyncio.wait([task])
        await asyncio.gather(writer.wait_closed(), return_exceptions=True)


@pytest.mark.parametrize(
    ("answer", "wrong"),
    [
        pytest.param(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", None, id="200"),
        pytest.param(b"HTTP/1.1 204 No Content\r\n\r\n", None, id="204"),
        pytest.param(b"HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n", "HTTP 503", id="503"),
        pytest.param(b"HTTP/1.1 302 F\r\nlocation: /x\r\ncontent-length: 0\r\n\r\n", "HTTP 302", id="redirect"),
        pytest.param(b"SSH-2.0-OpenSSH_9.6\r\n\r\n", "SSH", id="no HTTP"),
        pytest.param(b"", "disconnected", id="hung up"),
        pytest.param(None, "no answer within 0.2 s", id="silence"),
    ],
)
def test_the_check_over_the_network_says_what_is_wrong(answer: bytes | None, wrong: str | None) -> None:
    async def main() -> str | None:
        check = NetworkCheck()
        async with serving(answer) as address:
            found = await check(address, Probe(path="/health", timeout_s=0.2 if answer is None else 60))
        await check.close()
        return found

    found = asyncio.run(main())
    if wrong is None:
        assert found is None
    else:
        assert wrong.lower() in (found or "").lower()


def test_without_a_path_a_connection_is_enough_and_a_refused_one_is_not() -> None:
    async def main() -> None:
        check, probe = NetworkCheck(), Probe(path=None)
        async with serving(None) as address:
            assert await check(address, probe) is None
        assert await check(address, probe) is not None
        await check.close()

    asyncio.run(main())


def test_readiness_is_told_when_it_changes_and_comes_back() -> None:
    async def body(scene: Scene) -> None:
        scene.wrong = None
        scene.watch(
            starting=False, probe=Probe(period_s=1000), readiness=Probe(period_s=1, failures_max=2, successes_min=2)
        )
        await asyncio.sleep(5.5)
        assert scene.unready == [None]
        scene.wrong = "HTTP 503"
        await asyncio.sleep(1)
        assert scene.unready == [None], "one bad answer is not enough"
        await asyncio.sleep(5)
        assert scene.unready == [None, "HTTP 503"]
        scene.wrong = None
        await asyncio.sleep(5)
        assert (scene.unready, scene.unhealthy) == ([None, "HTTP 503", None], [])

    run(body)


def test_a_command_is_well_when_it_exits_with_zero() -> None:
    async def body(scene: Scene) -> None:
        scene.code = 1
        probe = Probe(command=("check",), period_s=1, failures_max=2, successes_min=3)
        scene.watch(starting=True, probe=probe)
        await asyncio.sleep(10)
        assert scene.ready == []
        scene.code = 0
        begun = asyncio.get_running_loop().time()
        await asyncio.sleep(5)
        [at] = scene.ready
        assert 2.0 <= at - begun <= 2.6, "three good answers, a period apart"
        scene.code = Unavailable("no such program")
        scene.watch(starting=False, probe=probe)
        await asyncio.sleep(10)
        assert scene.unhealthy == ["2 probes failed in a row; last: no such program"]

    run(body)


def test_a_startup_probe_waits_its_initial_delay() -> None:
    async def body(scene: Scene) -> None:
        scene.wrong = None
        scene.watch(starting=True, probe=Probe(initial_delay_s=30))
        await asyncio.sleep(29)
        assert scene.checks == []
        await asyncio.sleep(2)
        assert len(scene.ready) == 1

    run(body)
