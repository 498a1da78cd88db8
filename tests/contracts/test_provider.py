"""What every provider must do, whatever it runs workers on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from cluster.running import Cluster
from contracts.subjects import Containers, Fake, Pods, Processes, Subject
from docker_engine import Engine
from providers.containers import containers
from providers.pods import pods
from providers.workers import PORTS, clear, ended, lines, observed, open_files, processes, run, said, texts, until
from stoker.domain.errors import Unavailable, Unsupported
from stoker.domain.hardware import HardwareRequest, Placement
from stoker.domain.worker import WorkerId
from stoker.policy.placement import Unplaceable, place
from stoker.providers.base import ProviderOptions, load
from stoker.providers.fake import FakeProvider

Opened = Callable[[], AbstractAsyncContextManager[Subject]]


@pytest.fixture(
    params=[
        "fake",
        pytest.param("process", marks=pytest.mark.process),
        pytest.param("docker", marks=pytest.mark.process),
        pytest.param("kubernetes", marks=pytest.mark.process),
    ]
)
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Opened:
    @asynccontextmanager
    async def fake() -> AsyncIterator[Subject]:
        provider = FakeProvider()
        yield Fake(provider)
        await clear(provider)

    @asynccontextmanager
    async def process() -> AsyncIterator[Subject]:
        async with processes(tmp_path) as provider:
            yield Processes(provider, tmp_path, lambda: load("process", ProviderOptions(tmp_path, {"ports": PORTS})))

    @asynccontextmanager
    async def docker() -> AsyncIterator[Subject]:
        engine: Engine = request.getfixturevalue("docker")
        async with containers(engine, tmp_path) as found:
            yield Containers(found.provider, found.connect, found.counters, engine)

    @asynccontextmanager
    async def kubernetes() -> AsyncIterator[Subject]:
        cluster: Cluster = request.getfixturevalue("kubernetes")
        async with pods(cluster, tmp_path) as found:
            yield Pods(found.provider, found.connect, tmp_path, cluster)

    opens: dict[str, Opened] = {"fake": fake, "process": process, "docker": docker, "kubernetes": kubernetes}
    return opens[request.param]


def test_starting_twice_with_one_id_is_one_worker(opened: Opened) -> None:
    async def main() -> None:
        async with opened() as subject:
            await subject.last("a")
            await said(subject.provider, "a")
            before = subject.identity("a")
            await subject.last("a")
            assert [found.id for found in await subject.provider.list()] == ["a"]
            assert subject.identity("a") == before
            assert subject.runs("a") == 1

    run(main())


def test_stopping_what_is_unknown_is_success(opened: Opened) -> None:
    async def main() -> None:
        async with opened() as subject:
            await subject.provider.stop(WorkerId("nobody"), grace_s=1.0)
            assert await subject.provider.list() == ()

    run(main())


def test_a_started_worker_is_listed_as_running_without_an_exit(opened: Opened) -> None:
    async def main() -> None:
        async with opened() as subject:
            await subject.last("a")
            found = await observed(subject.provider, "a")
            assert found is not None
            assert (found.running, found.exit) == (True, None)

    run(main())


def test_another_instance_finds_and_owns_what_was_started(opened: Opened) -> None:
    async def main() -> None:
        async with opened() as subject:
            await subject.last("a")
            await subject.end("b", 0)
            await ended(subject.provider, "b")
            before = subject.identity("a")
            await subject.provider.close()
            again = subject.again()
            assert {found.id: found.running for found in await again.list()} == {"a": True, "b": False}
            assert subject.identity("a") == before
            assert await texts(again, "b") == ["up", "bye"]
            await again.stop(WorkerId("a"), grace_s=5.0)
            await clear(again)
            await again.close()
            assert await subject.provider.list() == ()

    run(main())


@pytest.mark.parametrize("code", [0, 3, -9])
def test_an_ended_worker_stays_listed_with_its_exit_until_it_is_stopped(opened: Opened, code: int) -> None:
    async def main() -> None:
        async with opened() as subject:
            await subject.end("a", code)
            end = await ended(subject.provider, "a")
            why = "killed by signal 9 (SIGKILL)" if code < 0 else f"exited with code {code}"
            assert (end.code, end.reason) == (code, why)
            assert abs(end.at - time.time()) < 60
            found = await observed(subject.provider, "a")
            assert found is not None
            assert (found.running, found.exit) == (False, end), "it looks the same every time"
            await subject.provider.stop(WorkerId("a"), grace_s=5.0)
            assert await observed(subject.provider, "a") is None
            await subject.provider.stop(WorkerId("a"), grace_s=5.0)

    run(main())


def test_starting_an_ended_id_does_not_run_it_again(opened: Opened) -> None:
    async def main() -> None:
        async with opened() as subject:
            await subject.end("a", 3)
            end = await ended(subject.provider, "a")
            await subject.end("a", 3)
            found = await observed(subject.provider, "a")
            assert found is not None
            assert found.exit == end
            assert subject.runs("a") == 1

    run(main())


def test_a_stopped_worker_is_gone_after_stop_was_repeated(opened: Opened) -> None:
    async def main() -> None:
        async with opened() as subject:
            await subject.last("a")
            await subject.last("b")

            async def gone() -> bool:
                await subject.provider.stop(WorkerId("a"), grace_s=5.0)
                return await observed(subject.provider, "a") is None

            await until(gone, what="end of a")
            assert [found.id for found in await subject.provider.list()] == ["b"]

    run(main())


def test_logs_are_the_last_lines_oldest_first(opened: Opened) -> None:
    async def main() -> None:
        async with opened() as subject:
            await subject.end("a", 0)
            await ended(subject.provider, "a")
            [up, bye] = await lines(subject.provider, "a")
            assert (up.text, up.stream, bye.text) == ("up", "stdout", "bye")
            assert up.at < bye.at
            assert abs(bye.at - time.time()) < 60
            assert await texts(subject.provider, "a", tail=1) == ["bye"]
            assert await texts(subject.provider, "a", tail=0) == []
            assert await texts(subject.provider, "nobody") == []

    run(main())


def test_following_ends_with_the_worker(opened: Opened) -> None:
    async def main() -> None:
        async with opened() as subject:
            await subject.last("a")
            await said(subject.provider, "a")
            following = subject.provider.logs(WorkerId("a"), tail=10, follow=True)
            assert (await anext(following)).text == "up"
            await subject.provider.stop(WorkerId("a"), grace_s=0.0)
            assert [line.text async for line in following] == []
            assert [line.text async for line in subject.provider.logs(WorkerId("nobody"), tail=10, follow=True)] == []

    run(main())


def test_a_worker_that_does_not_listen_is_not_said_to(opened: Opened) -> None:
    async def main() -> None:
        async with opened() as subject:
            await subject.last("a")
            assert not await subject.provider.listens(WorkerId("a"), 1)
            assert not await subject.provider.listens(WorkerId("nobody"), 1)

    run(main())


def test_offers_name_hosts_with_room(opened: Opened) -> None:
    async def main() -> None:
        async with opened() as subject:
            [offer] = await subject.provider.offers()
            assert offer.host
            assert offer.vcpu > 0
            assert offer.ram_gib > 0
            # None where every worker has an address of its own.
            assert offer.ports is None or len(offer.ports) > 0

    run(main())


def test_what_no_host_has_is_refused_with_the_numbers(opened: Opened) -> None:
    async def main() -> None:
        async with opened() as subject:
            offers = await subject.provider.offers()
            requests = [(HardwareRequest(gpu_count=64), "64")]
            # The one without machines has more than may be asked for.
            if (whole := max(offer.vcpu for offer in offers)) < 100_000:
                assert isinstance(place(HardwareRequest(vcpu=whole), offers, ()), Placement)
                requests.append((HardwareRequest(vcpu=whole + 1), f"{whole + 1:g}"))
            for request, number in requests:
                found = place(request, offers, ())
                assert isinstance(found, Unplaceable)
                assert (found.ever, number in found.reason) == (False, True), found.reason

    run(main())


def test_a_port_is_anothers_when_its_worker_has_gone(opened: Opened) -> None:
    async def main() -> None:
        async with opened() as subject:
            provider = subject.provider
            for name in ("a", "b"):
                port = await subject.serve(name)

                async def listens(name: str = name, port: int = port) -> bool:
                    return await provider.listens(WorkerId(name), port)

                await until(listens, what=f"listener of {name}")

                async def gone(name: str = name) -> bool:
                    await provider.stop(WorkerId(name), grace_s=0.0)
                    return await observed(provider, name) is None

                await until(gone, what=f"end of {name}")
                assert not await listens()

    run(main())


def test_what_cannot_be_asked_proves_nothing_and_its_workers_are_there_when_it_is_back(opened: Opened) -> None:
    async def main() -> None:
        async with opened() as subject:
            await subject.last("a")
            await said(subject.provider, "a")
            before = subject.identity("a")
            with subject.away(), pytest.raises((Unavailable, TimeoutError)):
                await asyncio.wait_for(subject.provider.list(), 0.3)
            [found] = await subject.provider.list()
            assert (found.id, found.running) == ("a", True)
            assert (subject.identity("a"), subject.runs("a")) == (before, 1)

    run(main())


def test_fifty_workers_come_and_go_at_once_and_nothing_is_left(opened: Opened) -> None:
    async def main() -> None:
        async with opened() as subject:
            provider = subject.provider
            await subject.end("first", 0)
            await ended(provider, "first")
            files = open_files()
            names = [f"w{number}" for number in range(50)]
            starts = [subject.last(name) if number % 4 else subject.end(name, 1) for number, name in enumerate(names)]
            await asyncio.gather(*starts)
            assert {found.id for found in await provider.list()} == {"first", *names}

            async def begun() -> bool:
                return all(subject.runs(name) for name in names)

            # One that is stopped before its shell had a turn has not run anything yet.
            await until(begun, what="begin of all")

            async def gone() -> bool:
                await asyncio.gather(*(provider.stop(WorkerId(name), grace_s=5.0) for name in names))
                return [found.id for found in await provider.list()] == ["first"]

            await until(gone, what="end of all")
            assert [subject.runs(name) for name in names] == [1] * 50
            # It may keep connections for later as long as it is open.
            await provider.close()

            async def closed() -> bool:
                return open_files() <= files

            await until(closed, what="end of all files")

    run(main(), within_s=110.0)


def test_a_paused_worker_runs_and_goes_on_when_it_is_started_again(opened: Opened) -> None:
    async def main() -> None:
        async with opened() as subject:
            provider = subject.provider
            if not provider.pauses:
                with pytest.raises(Unsupported):
                    await provider.pause(WorkerId("nobody"))
                return
            await provider.pause(WorkerId("nobody"))
            await subject.last("a")
            before = subject.identity("a")
            for _ in range(2):
                await provider.pause(WorkerId("a"))
                found = await observed(provider, "a")
                assert found is not None
                assert found.running
            for _ in range(2):
                await subject.last("a")
            assert (subject.identity("a"), subject.runs("a")) == (before, 1)
            await provider.pause(WorkerId("a"))

            async def gone() -> bool:
                await provider.stop(WorkerId("a"), grace_s=5.0)
                return await observed(provider, "a") is None

            await until(gone, what="end of a paused one")

    run(main())


def test_a_command_runs_beside_a_worker_and_its_exit_code_comes_back(opened: Opened) -> None:
    async def main() -> None:
        async with opened() as subject:
            await subject.last("a")
            assert await subject.provider.execute(WorkerId("a"), ("true",), 10.0) == 0
            with pytest.raises(Unavailable):
                await subject.provider.execute(WorkerId("nobody"), ("true",), 10.0)

    run(main())
