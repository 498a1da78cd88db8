"""Asking a real gateway's internal socket for attempts of tasks."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway.loopback import Site, endpoint, run, site, until, worker
from gateway.wire import Asked, answer
from stoker.domain.endpoint import EndpointId, ProjectId
from stoker.domain.errors import Unavailable
from stoker.domain.queueing import RetryPolicy
from stoker.domain.task import Body, Task, TaskNumber, TaskState
from stoker.queue.attempts import GatewayGone, Seen, SocketAttempts
from stoker.queue.spool import Spool


def a_task(**more: Any) -> Task:
    values: dict[str, Any] = {
        "number": TaskNumber(7),
        "id": "mine:1",
        "endpoint": EndpointId("id-chat"),
        "project": ProjectId(1),
        "state": TaskState.RUNNING,
        "priority": 0,
        "method": "PUT",
        "target": "/run?a=1&b=%20",
        "headers": (("X-A", "b"), ("Authorization", "Bearer theirs")),
        "content_type": "image/png",
        "input": Body(size=1, inline=b"x"),
        "digest": "d",
        "retries": RetryPolicy(),
        "execution_timeout_s": 60.0,
        "retention_s": 60.0,
        "created_at": 0.0,
        "not_before": 0.0,
        "attempts": 1,
        "deliveries": 3,
        "lease": "t7-3",
        "holder": "",
        **more,
    }
    return Task(**values)


def asking(s: Site, tmp_path: Path) -> tuple[SocketAttempts, str]:
    socket = s.settings.paths.attempts_socket("test")
    return SocketAttempts(socket.parent, Spool(tmp_path / "spool")), socket.name


def test_a_worker_is_told_which_task_it_is_and_its_answer_comes_back_until_it_is_acknowledged(tmp_path: Path) -> None:
    async def main() -> None:
        async with worker() as w, site(tmp_path, endpoint(w.entry())) as s:
            attempts, holder = asking(s, tmp_path)
            begun = await attempts.begin(holder, a_task(), b"payload")
            assert (begun.seen, begun.worker) == (Seen.RUNNING, "w1")
            seen = await attempts.look(holder, "t7-3", wait_s=5)
            assert (seen.seen, seen.status, seen.worker) == (Seen.ANSWERED, 200, "w1")
            assert seen.body == Body(size=4, inline=b"fine")
            [asked] = w.asked
            assert (asked.method, asked.target, asked.body) == ("PUT", "/run?a=1&b=%20", b"payload")
            told = {name: asked.header(name) for name in ("X-A", "Authorization", "Content-Type")}
            assert told == {"X-A": "b", "Authorization": "Bearer theirs", "Content-Type": "image/png"}
            assert asked.header("X-Stoker-Task-Id") == "mine:1"
            assert (asked.header("X-Stoker-Task-Attempt"), asked.header("X-Stoker-Task-Delivery")) == ("2", "3")
            again = await attempts.begin(holder, a_task(), b"payload")
            assert again.seen is Seen.ANSWERED
            await attempts.acknowledge(holder, "t7-3")
            assert (await attempts.look(holder, "t7-3", wait_s=0)).seen is Seen.UNKNOWN
            assert len(w.asked) == 1
            await attempts.close()

    run(main)


def test_large_answers_go_to_the_spool(tmp_path: Path) -> None:
    async def main() -> None:
        large = b"z" * 300_000

        async def script(asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(answer(large))

        async with worker(script) as w, site(tmp_path, endpoint(w.entry())) as s:
            attempts, holder = asking(s, tmp_path)
            await attempts.begin(holder, a_task(), b"")
            seen = await attempts.look(holder, "t7-3", wait_s=5)
            assert seen.body is not None
            assert (seen.body.size, seen.body.inline) == (300_000, None)
            assert await Spool(tmp_path / "spool").read(seen.body) == large
            await attempts.close()

    run(main)


def test_a_refusal_leaves_nothing_behind_and_a_gateway_that_is_gone_is_told_from_a_silent_one(tmp_path: Path) -> None:
    async def main() -> None:
        async with worker() as w, site(tmp_path, endpoint(w.entry(slots=0))) as s:
            attempts, holder = asking(s, tmp_path)
            refused = await attempts.begin(holder, a_task(), b"")
            assert (refused.seen, refused.kept) == (Seen.REFUSED, False)
            unknown = await attempts.begin(holder, a_task(endpoint=EndpointId("id-none")), b"")
            assert (unknown.seen, unknown.reason) == (Seen.REFUSED, "endpoint_gone")
            wrong = await attempts.begin(holder, replace(a_task(), method="lower"), b"")
            assert wrong.seen is Seen.FAILED
            assert (await attempts.look(holder, "t7-3", wait_s=0)).seen is Seen.UNKNOWN
            await attempts.close()
            with pytest.raises(GatewayGone):
                await attempts.look("a-none.sock", "t7-3", wait_s=0)
            await attempts.close()

    run(main)


async def silent(asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


def test_an_aborted_attempt_has_failed(tmp_path: Path) -> None:
    async def main() -> None:
        async with worker(silent) as w, site(tmp_path, endpoint(w.entry())) as s:
            attempts, holder = asking(s, tmp_path)
            await attempts.begin(holder, a_task(), b"")
            await until(lambda: w.asked)
            assert (await attempts.look(holder, "t7-3", wait_s=0)).seen is Seen.RUNNING
            await attempts.abort(holder, "t7-3")
            seen = await attempts.look(holder, "t7-3", wait_s=1)
            assert (seen.seen, seen.reason) == (Seen.FAILED, "aborted")
            await attempts.close()

    run(main)


def test_a_task_goes_to_the_port_that_it_names(tmp_path: Path) -> None:
    async def main() -> None:
        async with worker() as main_port, worker() as further:
            entry = msgspec.structs.replace(main_port.entry(), ports=((8000, main_port.port), (9000, further.port)))
            async with site(tmp_path, endpoint(entry)) as s:
                attempts, holder = asking(s, tmp_path)
                for lease, port in (("t7-3", 9000), ("t7-4", 8000), ("t7-5", None)):
                    await attempts.begin(holder, a_task(lease=lease, port=port), b"x")
                    assert (await attempts.look(holder, lease, wait_s=5)).status == 200
                assert (len(further.asked), len(main_port.asked)) == (1, 2)
                unknown = await attempts.begin(holder, a_task(lease="t7-6", port=9001), b"x")
                assert (unknown.seen, unknown.kept) == (Seen.REFUSED, False)
                await attempts.close()

    run(main)


def test_a_port_that_nobody_listens_at_is_the_workers_failure_and_leaves_it_in_use(tmp_path: Path) -> None:
    async def main() -> None:
        async with worker() as closed:
            pass
        async with worker() as w:
            entry = msgspec.structs.replace(w.entry(), ports=((8000, w.port), (9000, closed.port)))
            async with site(tmp_path, endpoint(entry)) as s:
                attempts, holder = asking(s, tmp_path)
                await attempts.begin(holder, a_task(port=9000), b"x")
                seen = await attempts.look(holder, "t7-3", wait_s=5)
                assert (seen.seen, seen.reason) == (Seen.FAILED, "worker_failed")
                await attempts.begin(holder, a_task(lease="t7-4"), b"x")
                assert (await attempts.look(holder, "t7-4", wait_s=5)).status == 200
                await attempts.close()

    run(main)


def test_an_answer_is_followed_while_it_arrives_from_any_place_by_several(tmp_path: Path) -> None:
    async def main() -> None:
        go_on = asyncio.Event()

        async def script(asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 12\r\n\r\ndata: ")
            await go_on.wait()
            writer.write(b"late\n\n")

        async def all_of(attempts: SocketAttempts, holder: str, offset: int) -> bytes:
            async with attempts.output(holder, "t7-3", offset) as output:
                assert output is not None
                assert output.content_type == "text/event-stream"
                return b"".join([piece async for piece in output.pieces])

        async with worker(script) as w, site(tmp_path, endpoint(w.entry())) as s:
            attempts, holder = asking(s, tmp_path)
            await attempts.begin(holder, a_task(), b"")
            async with attempts.output(holder, "t7-3", 0) as output:
                assert output is not None
                assert await anext(output.pieces) == b"data: "
            late = [asyncio.create_task(all_of(attempts, holder, offset)) for offset in (0, 6)]
            await asyncio.sleep(0.05)
            go_on.set()
            assert await asyncio.gather(*late) == [b"data: late\n\n", b"late\n\n"]
            assert (await attempts.look(holder, "t7-3", wait_s=5)).seen is Seen.ANSWERED
            assert await all_of(attempts, holder, 10) == b"\n\n"
            await attempts.acknowledge(holder, "t7-3")
            async with attempts.output(holder, "t7-3", 0) as output:
                assert output is None
            await attempts.close()

    run(main)


def test_who_follows_an_answer_that_is_cut_hears_of_it(tmp_path: Path) -> None:
    async def main() -> None:
        async def script(asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\ndata: ")
            await reader.read()

        async with worker(script) as w, site(tmp_path, endpoint(w.entry())) as s:
            attempts, holder = asking(s, tmp_path)
            await attempts.begin(holder, a_task(), b"")
            async with attempts.output(holder, "t7-3", 0) as output:
                assert output is not None
                assert await anext(output.pieces) == b"data: "
                await attempts.abort(holder, "t7-3")
                with pytest.raises(Unavailable):
                    await anext(output.pieces)
            async with attempts.output(holder, "t7-3", 0) as output:
                assert output is None
            await attempts.close()

    run(main)
