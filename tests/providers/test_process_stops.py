"""Stopping workers that are real processes: in their time, and with all that they have started."""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import time
from pathlib import Path

import pytest

from providers.workers import (
    LASTING,
    alive,
    command,
    ended,
    observed,
    owner,
    processes,
    run,
    said,
    shell,
    texts,
    until_true,
)
from stoker.domain.worker import WorkerId
from stoker.providers.shim import descendants

pytestmark = pytest.mark.process

A = WorkerId("a")
STUBBORN = "trap '' TERM; " + LASTING


def test_a_worker_that_finishes_its_work_at_sigterm_gets_its_time(tmp_path: Path) -> None:
    async def main() -> None:
        async with processes(tmp_path) as provider:
            await provider.start(shell("a", "trap 'sleep 0.3; echo saved; exit 7' TERM; " + LASTING))
            await said(provider, "a")
            await provider.stop(A, grace_s=30.0)
            end = await ended(provider, "a")
            assert (end.code, end.reason) == (7, "stopped: exited with code 7")
            assert "saved" in await texts(provider, "a")

    run(main())


def test_a_worker_behind_a_shell_that_dies_first_gets_its_time_too(tmp_path: Path) -> None:
    async def main() -> None:
        async with processes(tmp_path) as provider:
            inner = "trap 'sleep 1.3; echo saved; exit' TERM; echo up; while :; do sleep 0.05; done"
            await provider.start(shell("a", f'sh -c "{inner}"; true'))
            await said(provider, "a")
            await provider.stop(A, grace_s=30.0)
            assert (await ended(provider, "a")).code == -signal.SIGTERM
            assert "saved" in await texts(provider, "a")

    run(main())


def test_a_worker_that_ignores_sigterm_is_killed_when_its_grace_is_over(tmp_path: Path) -> None:
    async def main() -> None:
        async with processes(tmp_path) as provider:
            await provider.start(shell("a", STUBBORN))
            await said(provider, "a")
            begun_at = time.monotonic()
            await provider.stop(A, grace_s=0.4)
            found = await observed(provider, "a")
            assert found is not None
            assert found.running or time.monotonic() - begun_at >= 0.4
            end = await ended(provider, "a")
            assert time.monotonic() - begun_at >= 0.4
            assert (end.code, end.reason) == (-9, "stopped: killed by signal 9 (SIGKILL)")

    run(main())


@pytest.mark.parametrize("graces", [pytest.param((300.0, 0.1), id="shorter"), pytest.param((0.1, 300.0), id="longer")])
def test_of_two_stops_the_shorter_grace_counts(tmp_path: Path, graces: tuple[float, float]) -> None:
    async def main() -> None:
        async with processes(tmp_path) as provider:
            await provider.start(shell("a", STUBBORN))
            await said(provider, "a")
            for grace_s in graces:
                await provider.stop(A, grace_s=grace_s)
            assert (await ended(provider, "a")).code == -9

    run(main())


def test_a_paused_worker_can_be_stopped(tmp_path: Path) -> None:
    async def main() -> None:
        async with processes(tmp_path) as provider:
            await provider.start(shell("a", LASTING))
            await said(provider, "a")
            os.killpg(command(tmp_path, "a"), signal.SIGSTOP)
            await provider.stop(A, grace_s=300.0)
            assert (await ended(provider, "a")).code == -signal.SIGTERM

    run(main())


def test_a_descendant_that_went_its_own_way_and_ignores_sigterm_dies_on_stop(tmp_path: Path) -> None:
    async def main() -> None:
        async with processes(tmp_path) as provider:
            await provider.start(shell("a", f'setsid sh -c "{STUBBORN}" & exec sleep 300'))
            await said(provider, "a")
            left = descendants(owner(tmp_path, "a"))
            assert len(left) >= 2
            await provider.stop(A, grace_s=0.3)
            await ended(provider, "a")
            assert not any(map(alive, left))

    run(main())


def test_a_descendant_in_a_session_of_its_own_is_asked_too(tmp_path: Path) -> None:
    async def main() -> None:
        async with processes(tmp_path) as provider:
            await provider.start(shell("a", f'setsid sh -c "{LASTING}" & exec sleep 300'))
            await said(provider, "a")
            # Far longer than this test may take: it must not be waited for.
            await provider.stop(A, grace_s=300.0)
            assert (await ended(provider, "a")).code == -signal.SIGTERM

    run(main())


def test_what_a_worker_leaves_behind_goes_with_it(tmp_path: Path) -> None:
    async def main() -> None:
        async with processes(tmp_path) as provider:
            waits = f"while [ ! -e {tmp_path}/go ]; do sleep 0.02; done"
            await provider.start(shell("a", f'setsid sh -c "{STUBBORN}" & {waits}; exit 3'))
            await said(provider, "a")
            left = descendants(owner(tmp_path, "a"))
            (tmp_path / "go").touch()
            end = await ended(provider, "a")
            assert (end.code, end.reason) == (3, "exited with code 3")
            assert left
            assert not any(map(alive, left))
            assert await texts(provider, "a") == ["up"]

    run(main())


def test_a_stranger_who_holds_a_workers_output_open_does_not_keep_it_from_ending(tmp_path: Path) -> None:
    async def main() -> None:
        async with processes(tmp_path) as provider:
            await provider.start(shell("a", LASTING))
            await said(provider, "a")
            pipe = os.open(f"/proc/{command(tmp_path, 'a')}/fd/1", os.O_WRONLY)
            try:
                await provider.stop(A, grace_s=5.0)
                assert (await ended(provider, "a")).code == -signal.SIGTERM
            finally:
                os.close(pipe)

    run(main())


def test_a_stop_never_reaches_a_process_that_got_the_number_of_an_old_shim(tmp_path: Path) -> None:
    async def main() -> None:
        async with processes(tmp_path) as provider:
            await provider.start(shell("a", "exit 0"))
            await ended(provider, "a")
            bystander = await asyncio.create_subprocess_exec("sleep", "300", start_new_session=True)
            lock = tmp_path / "workers" / "a" / "lock"
            lock.write_text(str(bystander.pid))
            descriptor = os.open(lock, os.O_RDWR)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            try:
                await provider.stop(A, grace_s=0.0)
                assert not await provider.listens(A, 1)
                assert bystander.returncode is None
                assert alive(bystander.pid)
            finally:
                os.close(descriptor)
                bystander.kill()
                await bystander.wait()

    run(main())


def test_a_paused_worker_stands_still_with_all_its_children_until_it_goes_on(tmp_path: Path) -> None:
    ticks = tmp_path / "ticks"

    def written() -> int:
        return ticks.stat().st_size

    def states() -> set[str]:
        pids = descendants(owner(tmp_path, "a"))
        return {Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] for pid in pids}

    async def main() -> None:
        async with processes(tmp_path) as provider:
            loop = f"while :; do echo x >> {ticks}; sleep 0.02; done"
            await provider.start(shell("a", f"setsid sh -c '{loop}' & {loop}"))
            await until_true(lambda: ticks.exists(), what="ticks")
            await provider.pause(WorkerId("a"))
            # A signal takes effect when its process runs next. A child that has just ended waits for its parent, which
            # stands still: a zombie.
            await until_true(lambda: states() - {"Z"} == {"T"}, what="standstill")
            size = written()
            await provider.start(shell("a", loop))
            await until_true(lambda: written() > size + 4, what="more ticks")

    run(main())
