"""Exchanges written down byte by byte, as they are and cut at every point: where bytes are cut changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.exchanges import Exchange, Played, files, play
from gateway.loopback import Worker, endpoint, run, site, worker
from stoker.link.messages import WorkerEntry

each = pytest.mark.parametrize("path", files(), ids=lambda path: path.stem)


def test_every_exchange_says_what_it_shows() -> None:
    read = [Exchange.read(path) for path in files()]
    assert len(read) > 40
    assert all(exchange.what and exchange.client and exchange.gets for exchange in read)


def many(w: Worker) -> list[WorkerEntry]:
    """The same worker under many names: one that failed is left alone for a while, and the next run does not wait."""
    return [w.entry(f"w{number}", order=number) for number in range(40)]


async def with_site(
    folder: Path, path: Path, runs: Callable[[Exchange], list[tuple[list[bytes], list[list[bytes]]]]]
) -> None:
    exchange, played = Exchange.read(path), Played()
    async with worker(played.script) as w, site(folder, endpoint(*many(w), access="open")) as s:
        for pieces, answers in runs(exchange):
            await play(s, played, exchange, pieces, answers)


@each
def test_an_exchange_goes_as_it_is_written(tmp_path: Path, path: Path) -> None:
    run(lambda: with_site(tmp_path, path, lambda it: [(it.client, it.worker)]))


@each
def test_the_clients_bytes_may_be_cut_anywhere(tmp_path: Path, path: Path) -> None:
    run(lambda: with_site(tmp_path, path, lambda it: [(pieces, it.worker) for pieces in it.splits()]))


@each
def test_the_workers_bytes_may_be_cut_anywhere(tmp_path: Path, path: Path) -> None:
    run(lambda: with_site(tmp_path, path, lambda it: [(it.client, answers) for answers in it.answers_split()]))
