"""What steps have said becomes words for a worker and events for its endpoint, each once."""

from __future__ import annotations

import asyncio
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from stoker.domain.fetching import StepLine
from stoker.domain.worker import WorkerId
from stoker.providers.preparing import LOOK_S, Preparing

W = WorkerId("w")


def line(done: int, total: int | None = 100) -> str:
    return StepLine("fetching", done_bytes=done, total_bytes=total).encode()


@given(st.lists(st.integers(0, 100).map(line) | st.sampled_from(["", "a warning", '{"state": "other"}']), max_size=30))
def test_an_event_is_told_once_for_each_ten_per_cent_and_words_are_those_of_the_last_line(said: list[str]) -> None:
    preparing, told = Preparing(), list[str]()
    for number in range(len(said)):
        words = preparing.take(W, "tiny", said[: number + 1], lambda worker, text: told.append(text))
        known = [found for text in said[: number + 1] if (found := StepLine.read(text)) is not None]
        assert words == (f"downloading model {known[-1].percent} %" if known else "downloading model tiny")
    assert all(one != other for one, other in pairwise(told))


def test_what_is_told_reads_as_it_should() -> None:
    preparing, told = Preparing(), list[str]()
    lines = [line(0), line(43), StepLine("waiting").encode(), line(7, None), StepLine("ready").encode()]
    preparing.take(W, "tiny", (), lambda worker, text: told.append(text))
    for each in lines:
        preparing.take(W, "tiny", [each], lambda worker, text: told.append(text))
    assert told == [
        "looks for model tiny in its provider's cache",
        "downloading model tiny: 0 % of 0 MiB",
        "downloading model tiny: 40 % of 0 MiB",
        "model tiny is being fetched for another worker",
        "downloading model tiny",
        "model tiny is in the cache",
    ]


def test_it_asks_to_be_looked_at_again_only_while_something_is_fetched() -> None:
    async def main() -> None:
        loop, asked = asyncio.get_running_loop(), list[float]()
        preparing = Preparing()
        preparing.changed = lambda: asked.append(loop.time())
        preparing.take(W, "tiny", [line(43)], lambda worker, text: None)
        preparing.keep({W}, going=True)
        assert preparing._timer is not None
        assert abs(preparing._timer.when() - loop.time() - LOOK_S) < 1.0
        first = preparing._timer
        preparing.keep(set(), going=False)
        assert first.cancelled()
        assert preparing.words(W, "tiny") == "downloading model tiny", "forgotten"
        preparing.close()

    asyncio.run(main())
