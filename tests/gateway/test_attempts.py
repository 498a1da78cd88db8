"""Attempts of tasks over the internal listener: a slot now or none, detached, kept until they are acknowledged."""

from __future__ import annotations

import asyncio
import json
import stat
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway.loopback import Site, endpoint, run, site, until, worker
from gateway.wire import Asked, Reply, answer, read_body
from stoker.domain.task import EndedAttempt
from stoker.link.messages import Freed


def states(reply: Reply) -> dict[str, Any]:
    return {state["id"]: state for state in json.loads(reply.body)["attempts"]}


async def submit(s: Site, id: str, *headers: str, body: bytes = b"{}", more: str = "") -> Reply:
    target = f"/attempts/{id}?endpoint=id-chat&method=PUT&target=%2Frun%3Fa%3D1{more}"
    return await s.inside("POST", target, *headers, body=body)


class Gate:
    """A worker that answers when told to."""

    def __init__(self, body: bytes = b"result") -> None:
        self.opened = asyncio.Event()
        self.body = body
        self.lost = 0

    async def script(self, asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.body = await read_body(reader, asked.headers, to_end=False)
        waiting = asyncio.ensure_future(self.opened.wait())
        ended = asyncio.ensure_future(reader.read(1))
        await asyncio.wait([waiting, ended], return_when=asyncio.FIRST_COMPLETED)
        self.lost += ended.done()
        for task in (waiting, ended):
            task.cancel()
        writer.write(answer(self.body, "X-Mine: yes", status="201 Created"))


def test_an_attempt_outlives_whoever_asked_for_it_and_is_kept_until_acknowledged(tmp_path: Path) -> None:
    async def main() -> None:
        gate = Gate()
        async with worker(gate.script) as w, site(tmp_path, endpoint(w.entry())) as s:
            mode = s.settings.paths.attempts_socket("test").stat().st_mode
            assert stat.S_IMODE(mode) == 0o600
            begun = await submit(s, "t1", "X-Task: 7", "Authorization: Bearer theirs", body=b"payload")
            assert (begun.status, begun.header("X-Stoker-Attempt")) == (202, "running")
            again = await submit(s, "t1")
            assert (again.status, again.header("X-Stoker-Attempt")) == (200, "running")
            await until(lambda: w.asked)
            assert (await s.inside("DELETE", "/attempts/t1")).status == 409
            running = await s.inside("GET", "/attempts/t1")
            assert json.loads(running.body) | {"age_s": 0} == {
                "id": "t1",
                "endpoint": "id-chat",
                "state": "running",
                "reason": "",
                "worker": "w1",
                "status": None,
                "bytes": 0,
                "age_s": 0,
            }
            attached = asyncio.create_task(s.inside("GET", "/attempts/t1?wait_s=30"))
            await asyncio.sleep(0.02)
            gate.opened.set()
            for reply in (await attached, await s.inside("GET", "/attempts/t1")):
                assert (reply.status, reply.body) == (200, b"result")
                assert reply.header("X-Stoker-Attempt") == "answered"
                assert reply.header("X-Stoker-Attempt-Status") == "201"
                assert reply.header("X-Mine") == "yes"
            [asked] = w.asked
            assert (asked.method, asked.target, asked.body) == ("PUT", "/run?a=1", b"payload")
            assert (asked.header("X-Task"), asked.header("Authorization")) == ("7", "Bearer theirs")
            assert states(await s.inside("GET", "/attempts"))["t1"]["worker"] == "w1"
            assert (await s.inside("DELETE", "/attempts/t1")).status == 200
            assert states(await s.inside("GET", "/attempts")) == {}
            assert (await s.inside("GET", "/attempts/t1")).status == 404
            assert s.gateway.admissions["id-chat"].in_flight == 0

    run(main)


def test_without_a_free_slot_there_is_no_attempt_and_a_freed_slot_is_told_of(tmp_path: Path) -> None:
    async def main() -> None:
        gate = Gate()
        async with worker(gate.script) as w, site(tmp_path, endpoint(w.entry(), backlog=True)) as s:
            assert (await submit(s, "t1")).status == 202
            busy = await submit(s, "t2")
            assert (busy.status, busy.header("X-Stoker-Reason")) == (429, "busy")
            user = asyncio.create_task(s.ask("GET", "/e/chat/x"))
            await until(lambda: s.gateway.admissions["id-chat"].waiting)
            told = len(s.control.all(Freed))
            gate.opened.set()
            assert (await user).status == 201
            await until(lambda: len(s.control.all(Freed)) > told)
            assert s.control.all(Freed)[-1] == Freed("id-chat", 1)
            assert [asked.method for asked in w.asked] == ["PUT", "GET"]
            assert set(states(await s.inside("GET", "/attempts"))) == {"t1"}
            none = await s.inside("POST", "/attempts/t3?endpoint=nobody&target=%2F", body=b"")
            assert (none.status, none.header("X-Stoker-Reason")) == (404, "endpoint_gone")
            await s.control.tell(endpoint())
            empty = await submit(s, "t4")
            assert (empty.status, empty.header("X-Stoker-Reason")) == (503, "no_capacity")

    run(main)


def test_an_aborted_attempt_is_over_at_its_worker_too(tmp_path: Path) -> None:
    async def main() -> None:
        gate = Gate()
        async with worker(gate.script) as w, site(tmp_path, endpoint(w.entry())) as s:
            await submit(s, "t1")
            await until(lambda: w.asked)
            over = json.loads((await s.inside("POST", "/attempts/t1/abort")).body)
            assert (over["state"], over["reason"], over["worker"]) == ("failed", "aborted", "w1")
            await until(lambda: gate.lost)
            assert s.gateway.admissions["id-chat"].in_flight == 0
            assert (await s.inside("DELETE", "/attempts/t1")).status == 200

    run(main)


def test_a_worker_that_fails_fails_the_attempt_and_one_that_was_never_reached_does_not(tmp_path: Path) -> None:
    async def dies(asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        return False

    async def main() -> None:
        async with worker(dies) as w, site(tmp_path, endpoint(w.entry())) as s:
            await submit(s, "t1")
            failed = await s.inside("GET", "/attempts/t1?wait_s=10")
            assert failed.header("X-Stoker-Attempt") == "failed"
            assert json.loads(failed.body)["reason"] == "worker_failed"
            gone = w.entry()
        async with site(tmp_path / "b", endpoint(gone)) as s:
            await submit(s, "t2")
            refused = await s.inside("GET", "/attempts/t2?wait_s=10")
            assert refused.header("X-Stoker-Attempt") == "refused"

    run(main)


def test_long_answers_lie_in_a_file_and_too_long_ones_are_dropped(tmp_path: Path) -> None:
    async def main() -> None:
        gate = Gate(b"0123456789" * 30_000)
        gate.opened.set()
        async with worker(gate.script) as w, site(tmp_path, endpoint(w.entry()), attempt_mib=0.5) as s:
            await submit(s, "t1")
            kept = await s.inside("GET", "/attempts/t1?wait_s=10")
            assert kept.body == gate.body
            [file] = (tmp_path / "attempts").rglob("t1")
            assert stat.S_IMODE(file.stat().st_mode) == 0o600
            gate.body *= 2
            await submit(s, "t2")
            long = await s.inside("GET", "/attempts/t2?wait_s=10")
            assert json.loads(long.body)["reason"] == "result_too_long"
            for id in ("t1", "t2"):
                assert (await s.inside("DELETE", f"/attempts/{id}")).status == 200
            assert not file.exists()
            assert s.gateway.attempts.spool.used == 0

    run(main)


def test_results_that_nobody_acknowledges_stop_new_attempts(tmp_path: Path) -> None:
    async def main() -> None:
        gate = Gate(b"x" * 2_000)
        gate.opened.set()
        async with worker(gate.script) as w, site(tmp_path, endpoint(w.entry()), attempts_mib=0.002) as s:
            s.gateway.attempts.spool.bytes_max = 2_000
            await submit(s, "t1")
            await s.inside("GET", "/attempts/t1?wait_s=10")
            full = await submit(s, "t2")
            assert (full.status, full.header("X-Stoker-Reason")) == (503, "results_full")
            await s.inside("DELETE", "/attempts/t1")
            assert (await submit(s, "t2")).status == 202
            await s.inside("GET", "/attempts/t2?wait_s=10")
            s.gateway.attempts.sweep(s.gateway.time() + 100_000)
            assert len(s.gateway.attempts) == 0

    run(main)


@pytest.mark.parametrize(
    "target",
    [
        "/attempts/t1?endpoint=id-chat&target=x",
        "/attempts/t1?endpoint=id-chat&target=%2F%0d%0a",
        "/attempts/t1?endpoint=id-chat&target=%2F&method=get",
        "/attempts/t1?endpoint=id-chat&target=%2F&total_s=nan",
    ],
)
def test_what_is_no_request_is_refused(tmp_path: Path, target: str) -> None:
    async def main() -> None:
        async with site(tmp_path, endpoint()) as s:
            assert (await s.inside("POST", target, body=b"")).status == 400
            assert (await s.inside("GET", "/attempts/t1?wait_s=-1")).status == 404
            assert (await s.inside("GET", "/elsewhere")).status == 404
            assert states(await s.inside("GET", "/attempts")) == {}

    run(main)


def test_the_public_port_knows_nothing_of_attempts(tmp_path: Path) -> None:
    async def main() -> None:
        async with site(tmp_path, endpoint()) as s:
            reply = await s.ask("GET", "/attempts")
            assert (reply.status, reply.header("X-Stoker-Reason")) == (503, "control_unavailable")

    run(main)


def test_all_that_ended_is_told_at_once_in_order_until_it_is_acknowledged(tmp_path: Path) -> None:
    async def ended(s: Site, after: int, wait_s: float) -> list[EndedAttempt]:
        reply = await s.inside("GET", f"/attempts:ended?after={after}&wait_s={wait_s}")
        assert reply.status == 200
        return msgspec.msgpack.decode(reply.body, type=list[EndedAttempt])

    async def main() -> None:
        gate = Gate(b"z" * 70_000)
        async with worker(gate.script) as w, site(tmp_path, endpoint(w.entry(slots=2))) as s:
            assert await ended(s, 0, 0) == []
            waiting = asyncio.create_task(ended(s, 0, 5))
            for id in ("a", "b"):
                assert (await submit(s, id)).status == 202
            assert (await submit(s, "busy")).status == 429
            assert not waiting.done(), "what no worker took is not told of"
            gate.opened.set()
            told = await waiting
            while len(told) < 2:
                told += await ended(s, told[-1].seq, 5)
            assert sorted(entry.id for entry in told) == ["a", "b"]
            assert told[0].seq < told[1].seq
            assert {(entry.state, entry.status, entry.size, entry.body) for entry in told} == {
                ("answered", 201, 70_000, None)
            }
            assert await ended(s, told[-1].seq, 0) == []
            assert await ended(s, 0, 0) == told
            await s.inside("DELETE", f"/attempts/{told[0].id}")
            assert await ended(s, 0, 0) == told[1:]
            assert (await s.inside("GET", "/attempts:ended?after=-1")).status == 400

    run(main)
