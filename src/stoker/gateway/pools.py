"""Idle connections by worker and address, and the opening of new ones.

Knows nothing of requests. `gateway.exchange` takes connections from here; `gateway.proxy` says when a worker has gone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, Final, Protocol

import structlog

from stoker.gateway.upstream import READ_BYTES, Upstream, UpstreamUser

log = structlog.get_logger(__name__)

# The servers of engines close an idle connection after five seconds (uvicorn under vLLM, llama.cpp's). A request sent
# at that moment is lost, and one that may not be sent twice fails: so the connection is dropped here first.
IDLE_S_MAX: Final = 4.0
# What is left of the time that a server announces (`Keep-Alive: timeout=...`) goes to the network and to coarse clocks.
IDLE_MARGIN_S: Final = 1.0
# Control's server closes after five; a request that must not be sent twice cannot be saved by a second try.
UNIX_IDLE_S_MAX: Final = 2.0
IDLE_CONNECTIONS_MAX: Final = 256


class Pool:
    """The connections to one address: a host and port, or the path of a Unix socket."""

    __slots__ = ("_address", "_closed", "_idle", "_idle_s_max", "_upstreams")

    def __init__(self, upstreams: Upstreams, address: tuple[str, int] | Path, *, idle_s_max: float) -> None:
        self._upstreams = upstreams
        self._idle_s_max = idle_s_max
        self._address = address
        self._idle: list[Upstream] = []
        self._closed = False

    def take(self, now: float) -> Upstream | None:
        """The idle connection used last, or `None`. `now` as in `give_back`."""
        while self._idle:
            upstream = self._idle.pop()
            if self._stale(upstream, now):
                upstream.abort()
            elif upstream.usable:
                return upstream
        return None

    def _stale(self, upstream: Upstream, now: float) -> bool:
        announced_s = upstream.keep_alive_s
        limit_s = self._idle_s_max
        if announced_s is not None:
            limit_s = min(limit_s, announced_s - IDLE_MARGIN_S)
        return now - upstream.idle_since >= limit_s

    def open(self, user: UpstreamUser) -> asyncio.Task[None]:
        """Connect; ends with `connected` or `connect_failed`, unless the task is cancelled."""
        return self._upstreams.spawn(self._open(user))

    async def _open(self, user: UpstreamUser) -> None:
        upstream = Upstream(self, self._upstreams.view)
        loop = asyncio.get_running_loop()
        try:
            if isinstance(self._address, Path):
                await loop.create_unix_connection(lambda: upstream, str(self._address))
            else:
                await loop.create_connection(lambda: upstream, *self._address)
        except OSError as exc:
            user.connect_failed(str(exc))
        except asyncio.CancelledError:
            upstream.abort()
            raise
        else:
            user.connected(upstream)

    def keep(self, upstream: Upstream) -> None:
        """Keep it for the next request, if there is reason to."""
        if self._closed or not upstream.usable or len(self._idle) >= IDLE_CONNECTIONS_MAX:
            upstream.abort()
        else:
            self._idle.append(upstream)

    def forget(self, upstream: Upstream) -> None:
        """It is closed."""
        if upstream in self._idle:
            self._idle.remove(upstream)

    def close(self) -> None:
        """Close what is idle now and, when its exchange ends, what is busy."""
        self._closed = True
        self._close(self._idle)
        self._idle = []

    def sweep(self, now: float) -> None:
        """Close connections that were idle for long."""
        stale = [upstream for upstream in self._idle if self._stale(upstream, now)]
        if stale:
            self._idle = [upstream for upstream in self._idle if upstream not in stale]
            self._close(stale)

    def _close(self, upstreams: list[Upstream]) -> None:
        for upstream in upstreams:
            upstream.abort()


class Addressed(Protocol):
    """A worker, as far as connections are concerned."""

    @property
    def id(self) -> str: ...

    @property
    def host(self) -> str: ...

    @property
    def port(self) -> int: ...


class Upstreams:
    """All pools, by worker and address; owner of the tasks that open connections."""

    def __init__(self) -> None:
        # One buffer for all connections: a read is parsed before the next one starts.
        self.view = memoryview(bytearray(READ_BYTES))
        self._pools: dict[tuple[str, str, int], Pool] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def pool(self, worker: Addressed) -> Pool:
        """The pool of a worker at its address."""
        key = (worker.id, worker.host, worker.port)
        pool = self._pools.get(key)
        if pool is None:
            pool = self._pools[key] = Pool(self, (worker.host, worker.port), idle_s_max=IDLE_S_MAX)
        return pool

    def unix_pool(self, path: Path) -> Pool:
        """A pool for a Unix socket, which the caller keeps."""
        return Pool(self, path, idle_s_max=UNIX_IDLE_S_MAX)

    def drop(self, worker: Addressed) -> None:
        """The worker has gone, or moved: its idle connections with it. Exchanges go on."""
        pool = self._pools.pop((worker.id, worker.host, worker.port), None)
        if pool is not None:
            pool.close()

    def sweep(self, now: float) -> None:
        """Close connections that were idle for long."""
        for pool in self._pools.values():
            pool.sweep(now)

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run it, and hold on to it until it ends."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (exc := task.exception()) is not None:
            log.error("connecting_failed", exc_info=exc)

    def close(self) -> None:
        """Close everything idle and stop connecting."""
        for task in tuple(self._tasks):
            task.cancel()
        for pool in self._pools.values():
            pool.close()
        self._pools.clear()
