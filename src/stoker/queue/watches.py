"""Hears from one gateway which attempts have ended, of all on one connection, and tells those who wait for them."""

from __future__ import annotations

import asyncio
import errno
from pathlib import Path
from typing import Final

import msgspec
import structlog

from stoker.domain.task import EndedAttempt
from stoker.queue.pipes import Pipe, PipeBroken

log = structlog.get_logger(__name__)

WAIT_S: Final = 25.0
ANSWER_S: Final = 10.0
RETRY_S: Final = 0.2
GONE: Final = frozenset({errno.ECONNREFUSED, errno.ENOENT})
_decoder = msgspec.msgpack.Decoder(list[EndedAttempt])


class Watch:
    """Of one gateway. It begins to listen when somebody expects something; `close` it. Whoever waits gets `None` when
    the gateway is `gone`.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._waiting: dict[str, asyncio.Future[EndedAttempt | None]] = {}
        self._after = 0
        self._task: asyncio.Task[None] | None = None
        self.gone = False

    def expect(self, lease: str) -> asyncio.Future[EndedAttempt | None]:
        """What will be known of this attempt once it has ended, if it ends from now on."""
        future = self._waiting.get(lease)
        if future is None:
            future = self._waiting[lease] = asyncio.get_running_loop().create_future()
        if self._task is None:
            self._task = asyncio.create_task(self._run())
        return future

    def knows(self, lease: str) -> bool:
        """Has somebody waited for it from its beginning on?"""
        return lease in self._waiting

    def forget(self, lease: str) -> None:
        """Nobody waits for it any more."""
        future = self._waiting.pop(lease, None)
        if future is not None:
            future.cancel()

    async def close(self) -> None:
        """Stop listening, for good."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._end()

    async def _run(self) -> None:
        while not self.gone:
            try:
                pipe = await Pipe.connect(self._path)
            except OSError as exc:
                if exc.errno in GONE:
                    self._end()
                    return
                await asyncio.sleep(RETRY_S)
                continue
            try:
                while True:
                    await self._listen(pipe)
            except (PipeBroken, msgspec.DecodeError) as exc:
                log.info("watch_broken", gateway=self._path.name, error=str(exc))
                await asyncio.sleep(RETRY_S)
            finally:
                pipe.close()

    async def _listen(self, pipe: Pipe) -> None:
        target = f"/attempts:ended?after={self._after}&wait_s={WAIT_S:g}"
        reply = await pipe.ask("GET", target, timeout_s=WAIT_S + ANSWER_S)
        if reply.status != 200:
            raise PipeBroken(f"status {reply.status}")
        for ended in _decoder.decode(reply.body):
            self._after = max(self._after, ended.seq)
            # It stays until whoever waits has looked: that may be later.
            future = self._waiting.get(ended.id)
            if future is not None and not future.done():
                future.set_result(ended)

    def _end(self) -> None:
        self.gone = True
        for future in self._waiting.values():
            if not future.done():
                future.set_result(None)
        self._waiting.clear()
