"""Locks and lifelines."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from stoker.roles import Held, Lifeline, Order, hold, holder

# Holds the lock, says so, and waits.
HOLDER = """
import sys
from pathlib import Path
from stoker.roles import hold
with hold(Path(sys.argv[1])):
    print(flush=True)
    sys.stdin.read()
"""


def test_who_holds_a_lock_keeps_others_out_and_can_be_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "new" / "stoker.lock"
    assert holder(path) is None, "nobody ever held it"
    with hold(path):
        assert holder(path) == os.getpid()
        with pytest.raises(Held, match=str(os.getpid())) as caught, hold(path):
            pass
        assert caught.value.pid == os.getpid()
        assert path.stat().st_mode & 0o777 == 0o600
    assert holder(path) is None
    with hold(path):
        pass


def test_a_lock_is_let_go_of_when_its_holder_fails(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with pytest.raises(ValueError, match="no"), hold(path):
        raise ValueError("no")
    assert holder(path) is None


def test_a_lock_is_waited_for_but_not_for_ever(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    taken, done = threading.Event(), threading.Event()

    def other() -> None:
        with hold(path):
            taken.set()
            done.wait(60)

    thread = threading.Thread(target=other)
    thread.start()
    assert taken.wait(60)
    began = time.monotonic()
    with pytest.raises(Held), hold(path, wait_s=0.1):
        pass
    assert time.monotonic() - began >= 0.1
    done.set()
    with hold(path, wait_s=60):
        assert holder(path) == os.getpid()
    thread.join()


def test_a_lock_ends_with_the_process_that_held_it_however_it_ended(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    command = [sys.executable, "-c", HOLDER, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert holder(path) == process.pid
        process.kill()
    assert holder(path) is None


def test_a_lock_file_with_rubbish_in_it_is_a_holder_unknown(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with hold(path):
        path.write_text("rubbish")
        with pytest.raises(Held, match="process unknown") as caught, hold(path):
            pass
        assert caught.value.pid is None


def with_lifeline(body: Callable[[Lifeline, int], Awaitable[None]]) -> None:
    async def main() -> None:
        reading, writing = os.pipe()
        try:
            async with asyncio.timeout(60):
                await body(Lifeline.open(reading), writing)
        finally:
            asyncio.get_running_loop().remove_reader(reading)
            os.close(reading)

    asyncio.run(main())


def test_the_end_of_a_lifeline_is_the_order_to_end() -> None:
    async def body(lifeline: Lifeline, writing: int) -> None:
        os.close(writing)
        assert await lifeline.next() is Order.END

    with_lifeline(body)


def test_orders_come_line_by_line_however_they_are_cut() -> None:
    async def body(lifeline: Lifeline, writing: int) -> None:
        os.write(writing, b"dr")
        waiting = asyncio.create_task(lifeline.next())
        await asyncio.sleep(0.01)
        assert not waiting.done()
        os.write(writing, b"ain\ndrain\ndra")
        assert await waiting is Order.DRAIN
        assert await lifeline.next() is Order.DRAIN
        os.close(writing)
        assert await lifeline.next() is Order.END, "half an order is none"

    with_lifeline(body)


def test_what_is_no_order_is_nothing() -> None:
    async def body(lifeline: Lifeline, writing: int) -> None:
        os.write(writing, b"dance\n\n" + b"x" * 10_000 + b"\ndrain\n")
        assert await lifeline.next() is Order.DRAIN
        os.close(writing)

    with_lifeline(body)


def test_a_signal_may_stand_for_the_end_of_a_lifeline() -> None:
    async def body(lifeline: Lifeline, writing: int) -> None:
        lifeline.end()
        assert await lifeline.next() is Order.END
        os.close(writing)

    with_lifeline(body)
