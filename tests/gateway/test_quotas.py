"""Limits of keys, in virtual time and through a gateway."""

from __future__ import annotations

import asyncio
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from gateway.loopback import KEY, endpoint, key, run, site, until, worker
from gateway.wire import Asked, answer
from stoker.gateway.quotas import Quotas


def test_a_key_without_limits_has_no_quota() -> None:
    assert Quotas().of(key(), 0.0) is None


def test_a_burst_is_spent_and_comes_back_with_time() -> None:
    limited = key(rate_per_s=2.0, burst=3)
    quota = Quotas().of(limited, 0.0)
    assert quota is not None
    assert [quota.enter(0.0) for _ in range(3)] == [None, None, None]
    refusal = quota.enter(0.0)
    assert refusal is not None
    assert (refusal.reason, refusal.retry_after_s) == ("key_rate", 0.5)
    assert quota.enter(0.5) is None
    assert quota.enter(0.6) is not None


@given(st.lists(st.floats(0.0, 0.5), max_size=80), st.floats(0.5, 20.0), st.integers(1, 10))
def test_no_more_begin_than_the_burst_and_the_rate_allow(pauses: list[float], rate: float, burst: int) -> None:
    quota = Quotas().of(key(rate_per_s=rate, burst=burst), 0.0)
    assert quota is not None
    now, begun = 0.0, 0
    for pause in pauses:
        now += pause
        begun += quota.enter(now) is None
        assert begun <= burst + rate * now + 1e-6


def test_limits_may_change_while_requests_are_under_way() -> None:
    quotas = Quotas()
    quota = quotas.of(key(concurrency=1), 0.0)
    assert quota is not None
    assert quota.enter(0.0) is None
    refusal = quota.enter(0.0)
    assert refusal is not None
    assert refusal.reason == "key_concurrency"
    wider = quotas.of(key(concurrency=2), 0.0)
    assert wider is quota
    assert quota.enter(0.0) is None
    quotas.keep(())
    assert quotas.of(key(concurrency=2), 0.0) is quota, "requests are under way with it"
    quota.leave()
    quota.leave()
    quotas.keep(())
    assert quotas.of(key(concurrency=2), 0.0) is not quota


def test_over_its_limits_a_key_gets_429_with_a_reason_and_is_free_again_afterwards(tmp_path: Path) -> None:
    gate = asyncio.Event

    async def main() -> None:
        opened = gate()

        async def script(asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await opened.wait()
            writer.write(answer(b"ok"))

        keys = (key(concurrency=1), key("sk-slow-0123456789abcdef", rate_per_s=0.01))
        async with worker(script) as w, site(tmp_path, endpoint(w.entry(slots=8)), keys=keys) as s:
            first = asyncio.create_task(s.ask("GET", "/e/chat/x"))
            await until(lambda: w.asked)
            over = await s.ask("GET", "/e/chat/x")
            assert (over.status, over.header("X-Stoker-Reason")) == (429, "key_concurrency")
            opened.set()
            assert (await first).status == 200
            gone = await s.connect()
            await gone.send("GET", "/e/chat/x", secret=KEY)
            gone.reset()
            await until(lambda: len(w.asked) >= 1)
            await until(lambda: s.gateway.admissions["id-chat"].in_flight == 0)
            assert (await s.ask("GET", "/e/chat/x")).status == 200
            assert (await s.ask("GET", "/e/chat/x", secret="sk-slow-0123456789abcdef")).status == 200
            over = await s.ask("POST", "/v1/chat", "X-Stoker-Endpoint: chat", secret="sk-slow-0123456789abcdef")
            assert (over.status, over.header("X-Stoker-Reason")) == (429, "key_rate")
            assert 90 <= int(over.header("Retry-After") or 0) <= 100

    run(main)
