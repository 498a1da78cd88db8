"""Cancelling what runs: its worker is told where it can be, has its time, and then the request is aborted."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from builders import worker
from queue_halls import BY, Hall, answered, run, the_endpoint
from simulation.virtual import wall
from stoker.control.change import Change
from stoker.domain.endpoint import EndpointId
from stoker.domain.errors import Invalid
from stoker.domain.queueing import QueueSpec
from stoker.domain.task import Outcome, TaskState
from stoker.domain.worker import Address, WorkerId, WorkerState
from stoker.queue.cancelling import HttpTell
from store.test_tasks import a_task

GRACE_S = 20.0
GRACEFUL = the_endpoint(cancel_path="/stop", cancel_grace_s=GRACE_S)


async def _running(hall: Hall) -> float:
    """A task that takes long runs at a worker that is known; the time."""
    endpoint = hall.fleet.endpoint(EndpointId("e"))
    assert endpoint is not None
    there = worker(1, WorkerState.READY, address=Address(host="127.0.0.1", port=9000), ready_at=wall())
    await hall.fleet.commit(Change(endpoint=endpoint, new_workers=[there]))
    hall.gateways.worker = WorkerId("w1")
    hall.gateways.takes_s = 1_000
    await hall.submit("t")
    await asyncio.sleep(1)
    await hall.tasks.cancel(BY, "e", "t")
    return asyncio.get_running_loop().time()


def test_a_worker_that_is_told_has_its_time_before_the_request_is_aborted(tmp_path: Path) -> None:
    async def body(hall: Hall) -> None:
        at = await _running(hall)
        ended = await hall.ended("t")
        assert (ended.state, ended.reason) == (TaskState.CANCELLED, "aborted")
        assert asyncio.get_running_loop().time() - at == pytest.approx(GRACE_S, abs=1.0)
        assert hall.gateways.tell.told == [(Address(host="127.0.0.1", port=9000), "/stop", "t")]

    run(tmp_path, body, GRACEFUL)


def test_what_it_answers_then_is_kept_and_the_task_is_cancelled(tmp_path: Path) -> None:
    async def body(hall: Hall) -> None:
        at = await _running(hall)
        await asyncio.sleep(5)
        assert await hall.state("t") is TaskState.RUNNING
        hall.gateways.finish(answered(200))
        ended = await hall.ended("t")
        assert (ended.state, ended.reason, ended.status) == (TaskState.CANCELLED, "cancelled", 200)
        assert asyncio.get_running_loop().time() - at < GRACE_S / 2
        _, pieces = await hall.tasks.result(BY, "e", "t")
        assert b"".join([piece async for piece in pieces]) == b"ok"
        assert hall.gateways.aborted == set()
        [tried] = await hall.tasks.attempts(ended)
        assert tried.outcome is Outcome.ANSWERED

    run(tmp_path, body, GRACEFUL)


def test_a_worker_that_does_not_listen_has_no_time(tmp_path: Path) -> None:
    async def body(hall: Hall) -> None:
        hall.gateways.tell.listens = False
        at = await _running(hall)
        assert (await hall.ended("t")).state is TaskState.CANCELLED
        assert asyncio.get_running_loop().time() - at < 2

    run(tmp_path, body, GRACEFUL)


def test_cancelling_twice_tells_once(tmp_path: Path) -> None:
    async def body(hall: Hall) -> None:
        await _running(hall)
        await asyncio.sleep(1)
        await hall.tasks.cancel(BY, "e", "t")
        await asyncio.sleep(1)
        assert (len(hall.gateways.tell.told), await hall.state("t")) == (1, TaskState.RUNNING)

    run(tmp_path, body, GRACEFUL)


def test_another_control_does_not_wait_once_more(tmp_path: Path) -> None:
    async def body(hall: Hall) -> None:
        at = await _running(hall)
        hall = await hall.again()
        assert (await hall.ended("t")).state is TaskState.CANCELLED
        assert asyncio.get_running_loop().time() - at < 2

    run(tmp_path, body, GRACEFUL)


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"cancel_path": "stop"}, "/queue/cancel_path"),
        ({"cancel_path": "/a\r\nb"}, "/queue/cancel_path"),
        ({"cancel_path": "/stop", "pull": True}, "/queue/cancel_path"),
        ({"cancel_grace_s": -1}, "/queue/cancel_grace_s"),
    ],
)
def test_what_makes_no_sense_is_refused(fields: dict[str, Any], pointer: str) -> None:
    with pytest.raises(Invalid) as caught:
        QueueSpec(**fields)
    assert caught.value.problems[0].pointer == pointer


@contextmanager
def _worker(status: int) -> Iterator[tuple[Address, list[dict[str, str]]]]:
    seen: list[dict[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            seen.append({"path": self.path, **{name.lower(): value for name, value in self.headers.items()}})
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            """Nobody reads it."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield Address(host="127.0.0.1", port=server.server_port), seen
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(("status", "listens"), [(204, True), (404, False), (302, False)])
def test_a_worker_hears_which_task_and_attempt(status: int, listens: bool) -> None:
    async def tell(address: Address) -> bool:
        told = HttpTell()
        try:
            return await told(address, "/stop?now=1", a_task("mine"))
        finally:
            await told.close()

    with _worker(status) as (address, seen):
        assert asyncio.run(tell(address)) is listens
    assert [(each["path"], each["x-stoker-task-id"], each["x-stoker-task-attempt"]) for each in seen] == [
        ("/stop?now=1", "mine", "1")
    ]
    assert asyncio.run(tell(address)) is False, "nobody listens there any more"
