"""Cold workers: kept by their engine or by their provider, and woken. The engine here is a real HTTP server."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import web

from builders import worker
from stoker.control import cold
from stoker.control.managed import Callbacks, Managed
from stoker.control.observer import Snapshot
from stoker.domain.errors import Unavailable
from stoker.domain.launch import Launch, Sleep
from stoker.domain.worker import Address, WorkerId, WorkerState
from stoker.providers.fake import FakeProvider

VLLM = Launch(engine="vllm", command=("x",), sleep=Sleep(sleep_path="/sleep?level=1", wake_path="/wake_up"))
PLAIN = Launch(engine=None, command=("x",))


def managed() -> Managed:
    def seen(provider: str, snapshot: Snapshot, changed: frozenset[WorkerId]) -> None: ...

    async def acknowledged(worker: WorkerId) -> None: ...

    async def refused(worker: WorkerId, why: str) -> None: ...

    callbacks = Callbacks(seen=seen, acknowledged=acknowledged, refused=refused)
    return Managed("fake", FakeProvider(), callbacks, clock=lambda: 0.0)


def test_what_a_cold_worker_lets_go_of_is_said_by_its_engine_else_by_its_provider() -> None:
    here = managed()
    assert cold.frees(VLLM, here) == ("vram",)
    assert cold.frees(PLAIN, here) == ("vcpu",)
    here.provider.pauses = False
    assert cold.frees(PLAIN, here) is None
    assert cold.frees(VLLM, here) == ("vram",)


def test_an_engine_is_put_to_sleep_and_woken_over_http() -> None:
    async def main() -> None:
        asked: list[str] = []
        status = 200

        async def answer(request: web.Request) -> web.Response:
            asked.append(f"{request.method} {request.path_qs}")
            return web.Response(status=status)

        app = web.Application()
        app.router.add_route("*", "/{path:.*}", answer)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        one = worker(1, WorkerState.COLD, address=Address(host="127.0.0.1", port=port))
        await cold.chilled(one, VLLM, managed())()
        wake = cold.warmed(one, VLLM)
        assert wake is not None
        await wake()
        assert asked == ["POST /sleep?level=1", "POST /wake_up"]
        status = 500
        with pytest.raises(Unavailable, match="HTTP 500"):
            await wake()
        await runner.cleanup()
        with pytest.raises(Unavailable, match="/wake_up"):
            await wake()
        assert cold.warmed(one, PLAIN) is None

    asyncio.run(main())
