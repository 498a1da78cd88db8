"""What is seen of workers as real processes: whether they live, how they ended, whose a listener is, their output."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from providers.workers import (
    LASTING,
    alive,
    command,
    ended,
    lines,
    owner,
    processes,
    python,
    run,
    said,
    shell,
    texts,
    until,
    until_true,
)
from stoker.domain.errors import Unavailable
from stoker.domain.worker import WorkerId
from stoker.providers.base import LogLine
from stoker.providers.process import ProcessProvider
from stoker.providers.shim import descendants

pytestmark = pytest.mark.process

A = WorkerId("a")
# Prints the port on which it listens.
LISTENING = (
    "import socket, time; s = socket.socket(); s.bind(('127.0.0.1', 0)); s.listen(); "
    "print('port', s.getsockname()[1], flush=True); time.sleep(300)"
)


def test_a_killed_shim_takes_its_command_along_and_the_next_list_the_rest(tmp_path: Path) -> None:
    async def main() -> None:
        async with processes(tmp_path) as provider:
            stubborn = "setsid sh -c 'trap \"\" TERM; echo up; sleep 300' &"
            await provider.start(shell("a", f"sleep 300 & {stubborn} exec sleep 300"))
            await said(provider, "a")
            main_pid = command(tmp_path, "a")
            left = descendants(owner(tmp_path, "a"))
            assert len(left) >= 3
            os.kill(owner(tmp_path, "a"), signal.SIGKILL)
            await until_true(lambda: not alive(main_pid), what="end of the command")
            assert any(map(alive, left))
            end = await ended(provider, "a")
            assert (end.code, end.reason) == (None, "its shim was killed, and the worker with it")
            assert not any(map(alive, left))
            assert await ended(provider, "a") == end, "it looks the same every time"

    run(main())


def test_workers_that_are_just_being_started_are_never_taken_for_ended(tmp_path: Path) -> None:
    async def main() -> None:
        async with processes(tmp_path) as provider:
            names = [f"w{number}" for number in range(8)]
            starts = asyncio.gather(*(provider.start(shell(name, "exec sleep 300")) for name in names))
            while not starts.done():
                assert all(found.running for found in await provider.list())
            await starts
            assert sum(found.running for found in await provider.list()) == len(names)

    run(main())


def test_an_ended_worker_never_looks_alive_while_it_is_asked_about(tmp_path: Path) -> None:
    async def main() -> None:
        async with processes(tmp_path) as provider:
            await provider.start(shell("a", "exit 0"))
            await ended(provider, "a")
            asked = asyncio.gather(
                *(provider.listens(A, 1) for _ in range(50)), *(provider.start(shell("a", "exit 0")) for _ in range(5))
            )
            while not asked.done():
                assert [found.running for found in await provider.list()] == [False]
            await asked

    run(main())


def test_a_damaged_record_of_an_end_is_an_end_that_nobody_saw(tmp_path: Path) -> None:
    async def main() -> None:
        async with processes(tmp_path) as provider:
            await provider.start(shell("a", "exit 3"))
            await ended(provider, "a")
            (tmp_path / "workers" / "a" / "exit.json").write_bytes(b"\0\0")
            end = await ended(provider, "a")
            assert (end.code, end.reason) == (None, "the record of its end is damaged")

    run(main())


def test_a_folder_that_cannot_be_read_is_no_empty_list(tmp_path: Path) -> None:
    async def main() -> None:
        async with processes(tmp_path) as provider:
            shutil.move(tmp_path / "workers", tmp_path / "elsewhere")
            with pytest.raises(Unavailable):
                await provider.list()
            shutil.move(tmp_path / "elsewhere", tmp_path / "workers")

    run(main())


async def port_of(provider: ProcessProvider, name: str) -> int:
    async def ask() -> int | None:
        return next((int(text.split()[1]) for text in await texts(provider, name) if text.startswith("port")), None)

    return await until(ask, what=f"port of {name}")


@pytest.mark.parametrize(
    "script",
    [
        pytest.param(LISTENING, id="its own"),
        pytest.param(
            f"import subprocess, sys; subprocess.run([sys.executable, '-c', {LISTENING!r}])", id="its child's"
        ),
        pytest.param(
            "import subprocess, sys, threading; "
            f"threading.Thread(target=lambda: subprocess.run([sys.executable, '-c', {LISTENING!r}])).start()",
            id="that of a child of one of its threads",
        ),
        pytest.param(
            LISTENING.replace("socket.socket()", "socket.socket(socket.AF_INET6)").replace("127.0.0.1", "::"), id="IPv6"
        ),
    ],
)
def test_a_listener_belongs_to_the_worker_that_opened_it(tmp_path: Path, script: str) -> None:
    async def main() -> None:
        async with processes(tmp_path) as provider:
            await provider.start(python("a", script))
            await provider.start(shell("b", LASTING))
            port = await port_of(provider, "a")
            assert await provider.listens(A, port)
            assert not await provider.listens(WorkerId("b"), port), "somebody else's"
            with socket.create_server(("127.0.0.1", 0)) as foreign:
                assert not await provider.listens(A, foreign.getsockname()[1])

    run(main())


def test_a_flood_of_output_stays_within_its_limit_and_loses_nothing_of_its_tail(tmp_path: Path) -> None:
    async def main() -> None:
        async with processes(tmp_path, log_bytes=200_000) as provider:
            await provider.start(python("a", "for number in range(100_000): print('line', number)"))
            await ended(provider, "a")
            folder = tmp_path / "workers" / "a"
            sizes = [(folder / name).stat().st_size for name in ("log.1", "log")]
            assert sum(sizes) <= 200_000
            assert min(sizes) > 0
            assert await texts(provider, "a", tail=2000) == [f"line {number}" for number in range(98_000, 100_000)]

    run(main())


def test_the_last_line_needs_no_end_and_may_be_anything(tmp_path: Path) -> None:
    async def main() -> None:
        async with processes(tmp_path) as provider:
            script = (
                "import os; os.write(1, bytes(range(256)) * 200 + b'\\n' + b'x' * 40_000 + b'\\r\\n'); "
                "os.write(2, b'the end')"
            )
            await provider.start(python("a", script))
            assert (await ended(provider, "a")).code == 0
            found = await lines(provider, "a")
            assert [line.text for line in found if line.stream == "stderr"] == ["the end"]
            assert "".join(line.text for line in found).count("x") == 40_000 + 200
            assert max(len(line.text) for line in found) <= 16 * 1024

    run(main())


def test_output_can_be_read_as_long_as_it_is_kept(tmp_path: Path) -> None:
    async def main() -> None:
        async with processes(tmp_path, workers_kept=2) as provider:
            for name in ("a", "b", "silent", "c"):
                await provider.start(shell(name, "" if name == "silent" else f"echo {name}"))
                await ended(provider, name)
                assert await texts(provider, name) == ([] if name == "silent" else [name])
                await provider.stop(WorkerId(name), grace_s=1.0)
            gone = tmp_path / "workers" / ".gone"
            assert [await texts(provider, name) for name in "abc"] == [[], ["b"], ["c"]]
            assert sorted(str(path.relative_to(gone)) for path in gone.rglob("*")) == ["b", "b/log", "c", "c/log"]
            assert {output.worker: output.bytes > 0 for output in await provider.kept()} == {"b": True, "c": True}
            for _ in range(2):
                await provider.discard(WorkerId("b"))
            assert [output.worker for output in await provider.kept()] == ["c"]
            assert await texts(provider, "b") == []

    run(main())


def test_following_a_worker_that_is_stopped_and_put_away_misses_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        async with processes(tmp_path) as provider:
            await provider.start(shell("a", "trap 'echo last; exit' TERM; " + LASTING))
            await said(provider, "a")
            following = provider.logs(A, tail=10, follow=True)
            assert (await anext(following)).text == "up"
            await provider.stop(A, grace_s=30.0)
            await ended(provider, "a")
            await provider.stop(A, grace_s=30.0)
            assert not (tmp_path / "workers" / "a").exists()
            assert "last" in await _all(following)

    run(main())


async def _all(following: AsyncIterator[LogLine]) -> list[str]:
    return [line.text async for line in following]


def test_following_a_worker_that_is_not_started_yet_waits_for_it(tmp_path: Path) -> None:
    async def main() -> None:
        async with processes(tmp_path) as provider:
            (tmp_path / "workers" / "a").mkdir()
            following = asyncio.ensure_future(_all(provider.logs(A, tail=0, follow=True)))
            await provider.start(shell("a", "echo up"))
            assert await following == ["up"]

    run(main())
