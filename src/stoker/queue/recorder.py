"""Records what attempts came to: all that are there in one transaction, each with its webhook, for the dispatcher."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from sqlalchemy import Connection

from stoker.domain.task import Delivery
from stoker.domain.usage import RequestUsage
from stoker.store import deliveries
from stoker.store.base import Store
from stoker.store.hot import base as hot
from stoker.store.hot.base import EndRow
from stoker.store.usage import RequestsOf, add_requests

BATCH_MAX = 200
# What an attempt is to be counted as in the usage of its endpoint.
Used = tuple[RequestsOf, RequestUsage]


@dataclass(frozen=True, slots=True)
class _Entry:
    row: EndRow
    delivery: Delivery | None
    used: Used | None
    recorded: asyncio.Future[bool]


class Recorder:
    """See the module."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._entries: list[_Entry] = []
        self._writing: asyncio.Task[None] | None = None

    async def record(self, row: EndRow, delivery: Delivery | None, used: Used | None = None) -> bool:
        """Once this returns, it is on disk. False when the task was not leased so any more: then nothing is recorded.
        `used` is for attempts that no gateway reports.

        Raises what the store raises.
        """
        entry = _Entry(row, delivery, used, asyncio.get_running_loop().create_future())
        self._entries.append(entry)
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write())
        return await entry.recorded

    async def _write(self) -> None:
        while self._entries:
            batch, self._entries = self._entries[:BATCH_MAX], self._entries[BATCH_MAX:]
            try:
                counted = await self._store.write(lambda tx, b=batch: _recorded(tx, b))  # type: ignore[misc]
            except Exception as exc:  # noqa: BLE001 - handed to everybody who waits for it
                for entry in batch:
                    if not entry.recorded.done():
                        entry.recorded.set_exception(exc)
                continue
            for entry in batch:
                if not entry.recorded.done():
                    entry.recorded.set_result(entry.row.number in counted)


def _recorded(tx: Connection, batch: list[_Entry]) -> set[int]:
    counted = hot.end_attempts(tx, [entry.row for entry in batch])
    told = [entry.delivery for entry in batch if entry.delivery is not None and entry.row.number in counted]
    deliveries.add(tx, told)
    sums: dict[RequestsOf, RequestUsage] = {}
    for entry in batch:
        if entry.used is not None and entry.row.number in counted:
            of, usage = entry.used
            sums[of] = sums.get(of, RequestUsage()).plus(usage)
    add_requests(tx, sums)
    return counted
