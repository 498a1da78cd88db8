"""Tells a worker that a task which it has is cancelled, where its endpoint names an address for that.

A POST from control to the worker that the task is at, beside the request that carries it. Called by the dispatcher.
"""

from __future__ import annotations

import asyncio
from typing import Final, Protocol

import aiohttp
import structlog

from stoker.domain.task import Task
from stoker.domain.worker import Address

log = structlog.get_logger(__name__)

# A worker that takes longer for this is not asked to be patient with.
ANSWER_S: Final = 5.0
CONNECTIONS_MAX: Final = 64


class Tell(Protocol):
    """How a worker is told."""

    async def __call__(self, address: Address, path: str, task: Task) -> bool:
        """Has the worker heard of it, and said that it will stop?"""

    async def close(self) -> None:
        """Let go of connections."""


class HttpTell:
    """The real one. Any status of success is a yes."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    async def __call__(self, address: Address, path: str, task: Task) -> bool:
        if self._session is None:
            connector = aiohttp.TCPConnector(limit=CONNECTIONS_MAX, force_close=True)
            self._session = aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())
        headers = {"X-Stoker-Task-Id": task.id, "X-Stoker-Task-Attempt": str(task.attempts + 1)}
        url = f"http://{address.host}:{address.port}{path}"
        try:
            async with (
                asyncio.timeout(ANSWER_S),
                self._session.post(url, headers=headers, allow_redirects=False) as response,
            ):
                if response.status < 300:
                    return True
                why = f"status {response.status}"
        except (OSError, ValueError, aiohttp.ClientError, TimeoutError) as exc:
            why = str(exc) or type(exc).__name__
        log.info("worker_not_told", task=task.number, worker=task.worker, error=why)
        return False

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
