"""How long connections to workers are kept idle."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from gateway.loopback import endpoint, run, site, worker
from gateway.wire import Asked, answer
from stoker.gateway.pools import IDLE_MARGIN_S, IDLE_S_MAX, Pool, Upstreams
from stoker.gateway.upstream import Upstream


@pytest.mark.parametrize(
    ("announced_s", "kept_s"),
    [(None, IDLE_S_MAX), (2.5, 2.5 - IDLE_MARGIN_S), (600.0, IDLE_S_MAX)],
)
def test_an_idle_connection_is_dropped_before_the_other_end_would(announced_s: float | None, kept_s: float) -> None:
    async def main() -> None:
        async with worker() as w:
            upstreams = Upstreams()
            pool = Pool(upstreams, ("127.0.0.1", w.port), idle_s_max=IDLE_S_MAX)

            async def kept(now: float) -> Upstream:
                loop = asyncio.get_running_loop()
                _, upstream = await loop.create_connection(lambda: Upstream(pool, upstreams.view), "127.0.0.1", w.port)
                upstream.keep_alive_s = announced_s
                upstream.give_back(now)
                return upstream

            try:
                early = await kept(100.0)
                assert pool.take(100.0 + kept_s - 0.01) is early
                early.abort()
                late = await kept(100.0)
                assert pool.take(100.0 + kept_s) is None, "even when no sweep came by"
                assert not late.usable
                swept = await kept(100.0)
                pool.sweep(100.0 + kept_s)
                assert not swept.usable
            finally:
                pool.close()

    run(main)


def test_the_bound_is_below_what_the_servers_of_engines_keep() -> None:
    assert IDLE_S_MAX < 5.0


def test_what_a_worker_announces_is_heard(tmp_path: Path) -> None:
    async def script(asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer(b"fine", f"Keep-Alive: timeout={asked.target[1:]}"))

    async def main() -> None:
        async with worker(script) as w, site(tmp_path, endpoint(w.entry())) as s:
            for target, connections in (("/100", 1), ("/1", 1), ("/100", 2)):
                assert (await s.ask("GET", f"/e/chat{target}")).status == 200
                assert w.connections == connections

    run(main)
