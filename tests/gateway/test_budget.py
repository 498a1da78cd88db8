"""The bound on what waiting requests hold: it always adds up, and beyond it there is an honest 503."""

from __future__ import annotations

import asyncio
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from gateway.loopback import endpoint, run, site, until, worker
from stoker.gateway.budget import Budget, Share


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 60)), max_size=40))
def test_what_is_held_adds_up_and_never_exceeds_the_bound(steps: list[tuple[int, int]]) -> None:
    budget = Budget(100)
    shares = [Share(budget) for _ in range(4)]
    for index, count in steps:
        before = shares[index].held
        held = shares[index].hold(count)
        assert shares[index].held == (count if held else before)
        assert budget.used == sum(share.held for share in shares) <= 100
    for share in (*shares, *shares):
        share.let_go()
    assert budget.used == 0


def test_a_body_that_fits_nowhere_is_refused_and_the_others_keep_their_place(tmp_path: Path) -> None:
    async def main() -> None:
        async with worker() as w, site(tmp_path, endpoint(), buffer_mib=1.0) as s:
            s.gateway.budget.bytes_max = 5_000
            first = asyncio.create_task(s.ask("POST", "/e/chat/x", body=b"a" * 3_000))
            await until(lambda: s.gateway.budget.used == 3_000)
            over = await s.ask("POST", "/e/chat/x", body=b"b" * 3_000)
            assert (over.status, over.header("X-Stoker-Reason")) == (503, "buffers_full")
            assert over.header("Retry-After")
            model = b'{"model": "chat", "pad": "' + b"c" * 3_000 + b'"}'
            assert (await s.ask("POST", "/v1/chat/completions", body=model)).status == 503
            await s.control.tell(endpoint(w.entry()))
            assert (await first).status == 200
            assert s.gateway.budget.used == 0
            assert s.gateway.admissions["id-chat"].waiting == 0

    run(main)
