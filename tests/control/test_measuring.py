"""Measurements of ready workers: values with an age, what fails keeps its last value, what is unknown is not zero."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace

import pytest

from control.test_prober import serving
from simulation import virtual
from simulation.virtual import wall
from simulation.world import World, spec, world
from stoker.control.measuring import PAGE_BYTES_MAX, PERIOD_S, NetworkFetch, RealNetwork, resources_of
from stoker.domain.errors import Unavailable
from stoker.domain.launch import LaunchSpec
from stoker.domain.measurements import Taken
from stoker.domain.worker import Worker, WorkerId, WorkerState
from stoker.providers.fake import FakeProvider
from telemetry.test_exposition import LLAMACPP_PAGE


class Measured(FakeProvider):
    """A fake that knows what its workers take."""

    def __init__(self) -> None:
        super().__init__(clock=wall)
        self.cpu_s = 0.0
        self.error: Unavailable | None = None
        self.asked: Mapping[WorkerId, tuple[str, ...]] = {}

    async def measure(self, workers: Mapping[WorkerId, tuple[str, ...]]) -> Mapping[WorkerId, Taken]:
        self.asked = workers
        if self.error is not None:
            raise self.error
        return {worker: Taken(cpu_s=self.cpu_s, memory_bytes=1_000) for worker in workers}


async def ready(w: World) -> Worker:
    """A worker of an engine with a metrics page."""
    made = await w.create(replace(spec(low=1), launch=LaunchSpec(model="smollm2", engine="llamacpp")))
    await asyncio.sleep(10)
    [worker] = w.workers(made.id, WorkerState.READY)
    return worker


def say(w: World, worker: Worker, page: str) -> None:
    assert worker.address is not None
    w.pages[worker.address.port] = page


def test_a_ready_worker_is_measured_again_and_again() -> None:
    async def main() -> None:
        provider = Measured()
        async with world(provider) as w:
            worker = await ready(w)
            say(w, worker, LLAMACPP_PAGE)
            provider.cpu_s = 10.0
            await asyncio.sleep(PERIOD_S)
            provider.cpu_s = 20.0
            await asyncio.sleep(PERIOD_S)
            measured = w.stoker.books.measuring.of(worker.id)
            assert measured.engine is not None
            assert measured.engine.values["completion_tokens"] == 34.0
            assert measured.engine.at is not None
            assert wall() - measured.engine.at <= PERIOD_S
            assert measured.resources is not None
            assert measured.resources.cpus == pytest.approx(10.0 / PERIOD_S)
            assert measured.resources.memory_bytes == 1_000
            assert provider.asked == {worker.id: ()}

    virtual.run(main())


def test_what_fails_keeps_its_last_value_which_gets_old_with_the_reason() -> None:
    async def main() -> None:
        provider = Measured()
        async with world(provider) as w:
            worker = await ready(w)
            say(w, worker, LLAMACPP_PAGE)
            await asyncio.sleep(PERIOD_S)
            before = w.stoker.books.measuring.of(worker.id)
            say(w, worker, "llamacpp:requests_processing one\n")
            provider.error = Unavailable("no")
            await asyncio.sleep(10 * PERIOD_S)
            after = w.stoker.books.measuring.of(worker.id)
            assert before.engine is not None
            assert after.engine is not None
            assert (after.engine.at, after.engine.values) == (before.engine.at, before.engine.values)
            assert "not a page" in (after.engine.error or "")
            assert after.resources == before.resources

    virtual.run(main())


def test_a_worker_that_was_never_heard_has_no_values_instead_of_zeros() -> None:
    async def main() -> None:
        async with world() as w:
            worker = await ready(w)
            say(w, worker, "llamacpp:requests_processing one\n")
            await asyncio.sleep(PERIOD_S)
            measured = w.stoker.books.measuring.of(WorkerId("unknown"))
            assert (measured.engine, measured.resources) == (None, None)
            assert w.stoker.books.measuring.of(worker.id).resources is None, "this provider knows nothing"

    virtual.run(main())


def test_workers_without_a_page_are_not_asked_and_those_that_end_are_forgotten() -> None:
    async def main() -> None:
        provider = Measured()
        async with world(provider) as w:
            made = await w.create(spec(low=1))
            await asyncio.sleep(20)
            [worker] = w.workers(made.id, WorkerState.READY)
            assert w.stoker.books.measuring.of(worker.id).engine is None
            assert w.stoker.books.measuring.of(worker.id).resources is not None
            provider.crash(worker.id)
            await asyncio.sleep(20)
            assert w.stoker.books.measuring.of(worker.id).resources is None

    virtual.run(main())


def test_processors_are_unknown_at_first_and_never_less_than_none() -> None:
    taken = Taken(cpu_s=5.0, memory_bytes=1)
    assert resources_of(None, taken, 10.0).cpus is None
    assert resources_of((10.0, taken), taken, 10.0).cpus is None
    assert resources_of((5.0, Taken(cpu_s=9.0, memory_bytes=1)), taken, 10.0).cpus == 0.0


def page(body: bytes, status: str = "200 OK") -> bytes:
    return b"HTTP/1.1 %b\r\ncontent-length: %d\r\n\r\n" % (status.encode(), len(body)) + body


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        pytest.param(page(b"x 1\n"), "x 1\n", id="a page"),
        pytest.param(page(b"", "404 Not Found"), "HTTP 404", id="none"),
        pytest.param(page(b"x" * (PAGE_BYTES_MAX + 1)), "more than", id="too long"),
    ],
)
def test_pages_come_over_the_network_up_to_a_size(answer: bytes, found: str) -> None:
    async def main() -> str:
        fetch = NetworkFetch()
        async with serving(answer) as address:
            try:
                got = await fetch(address, "/metrics")
            except ValueError as exc:
                got = str(exc)
        await fetch.close()
        return got

    assert found in asyncio.run(main())


@pytest.mark.parametrize(
    ("answer", "wrong"),
    [
        pytest.param(page(b'{"object":"list","data":[{"id":"a"},{"id":"m"}]}'), None, id="listed"),
        pytest.param(page(b'{"data":[{"id":"a","aliases":["b","m"]}]}'), None, id="an alias"),
        pytest.param(page(b'{"data":[{"id":"a"}]}'), "it serves a, not m", id="another"),
        pytest.param(page(b'{"data":[]}'), "no model", id="none"),
        pytest.param(page(b"<html>"), "malformed", id="no JSON"),
        pytest.param(page(b'{"data":{}}'), "array", id="another shape"),
        pytest.param(page(b"", "503 Loading"), "503", id="not yet"),
        pytest.param(b"", "disconnected", id="hung up"),
    ],
)
def test_a_worker_serves_a_model_when_it_lists_it(answer: bytes, wrong: str | None) -> None:
    async def main() -> str | None:
        network = RealNetwork()
        async with serving(answer) as address:
            found = await network.network.lists(address, "m")
        await network.close()
        return found

    found = asyncio.run(main())
    assert (found is None) if wrong is None else (wrong in (found or "").lower() or wrong in (found or ""))
