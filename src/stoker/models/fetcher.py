"""Brings the weights of a source to this host, or finds that they are here. The one way in which weights get READY.

May be cancelled or killed at any moment and called again: it goes on where it was. Called by control's downloads.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from stoker.domain.addresses import UrlRefused
from stoker.domain.errors import Unavailable
from stoker.domain.models import FetchFailed, Weights, WeightsKey
from stoker.domain.weights import WeightsSize
from stoker.models import headers
from stoker.models.cache import Cache, check_sum, located, size_of
from stoker.models.listing import listing
from stoker.models.transfer import Meter, Pace, Session, transfer


@dataclass(slots=True)
class Progress:
    """How far a fetch has come, in bytes; read by others while it goes on."""

    done_bytes: int = 0
    total_bytes: int | None = None


# (key, bytes still to come) -> when there is room for them. Raises `FetchFailed`.
MakeRoom = Callable[[WeightsKey, int], Awaitable[None]]


class Fetcher(Protocol):
    """What control needs of this room."""

    async def fetch(self, weights: Weights, *, token: str | None, progress: Progress, make_room: MakeRoom) -> Path:
        """Where the weights lie, once they are complete. Raises `FetchFailed`."""

    async def present(self, weights: Weights) -> Path | None:
        """Where complete weights lie now, or `None`."""

    async def measure(self, path: Path) -> WeightsSize | None:
        """How much memory the weights there take; `None` where that is not known."""

    async def sizes(self) -> dict[WeightsKey, int]:
        """The bytes of what is kept, by key."""

    async def missing(self, needed: int, *, kept: int) -> tuple[int, str]:
        """See `Cache.missing`."""

    async def remove(self, key: WeightsKey) -> None:
        """Forget them."""

    async def tidy(self, known: frozenset[WeightsKey]) -> None:
        """Remove what is of none of these."""

    async def close(self) -> None:
        """Let go of connections."""


class HostFetcher:
    """See `Fetcher`. Opens URLs through `session` alone."""

    def __init__(self, cache: Cache, session: Session, *, hf_endpoint: str, pace: Pace) -> None:
        self._cache = cache
        self._session = session
        self._hf_endpoint = hf_endpoint.rstrip("/")
        self._pace = pace

    async def fetch(self, weights: Weights, *, token: str | None, progress: Progress, make_room: MakeRoom) -> Path:
        try:
            if weights.source.local:
                return await asyncio.to_thread(_found, weights, progress)
            done = await asyncio.to_thread(self._cache.completed, weights.key)
            if done is not None:
                progress.done_bytes = progress.total_bytes = await asyncio.to_thread(size_of, done)
                return done
            return await self._download(weights, token, progress, make_room)
        except UrlRefused as exc:
            raise FetchFailed(str(exc), permanent=True) from exc
        except Unavailable as exc:
            raise FetchFailed(str(exc)) from exc
        except OSError as exc:
            raise FetchFailed(f"cannot write the model: {exc.strerror or exc}; make room or mend the disk") from exc

    async def _download(self, weights: Weights, token: str | None, progress: Progress, make_room: MakeRoom) -> Path:
        source = weights.source
        files = await listing(self._session, source, sha256=weights.sha256, token=token, hf_endpoint=self._hf_endpoint)
        folder = await asyncio.to_thread(self._cache.parts, weights.key)
        sizes = {file.name: file.size for file in files}

        async def sized(name: str, size: int) -> None:
            sizes[name] = size
            known = [each for each in sizes.values() if each is not None]
            progress.total_bytes = sum(known) if len(known) == len(sizes) else None
            kept = await asyncio.to_thread(size_of, folder)
            await make_room(weights.key, max(0, sum(known) - kept))

        def moved(count: int) -> None:
            progress.done_bytes += count

        for file in files:
            if file.size is not None:
                await sized(file.name, file.size)
                break
        limit = self._cache.bytes_max or 2**63
        for file in files:
            before = progress.done_bytes
            meter = Meter(sized=lambda size, name=file.name: sized(name, size), moved=moved)  # type: ignore[misc]
            try:
                await transfer(self._session, file, folder, bytes_max=limit, pace=self._pace, meter=meter)
            except BaseException:
                progress.done_bytes = before
                raise
        return await asyncio.to_thread(self._cache.complete, weights.key)

    async def present(self, weights: Weights) -> Path | None:
        def look() -> Path | None:
            try:
                return located(weights.source) if weights.source.local else self._cache.completed(weights.key)
            except (FetchFailed, OSError):
                return None

        return await asyncio.to_thread(look)

    async def measure(self, path: Path) -> WeightsSize | None:
        return await asyncio.to_thread(headers.size_of, path)

    async def sizes(self) -> dict[WeightsKey, int]:
        return await asyncio.to_thread(self._cache.sizes)

    async def missing(self, needed: int, *, kept: int) -> tuple[int, str]:
        return await asyncio.to_thread(lambda: self._cache.missing(needed, kept=kept))

    async def remove(self, key: WeightsKey) -> None:
        await asyncio.to_thread(self._cache.remove, key)

    async def tidy(self, known: frozenset[WeightsKey]) -> None:
        await asyncio.to_thread(self._cache.tidy, known)

    async def close(self) -> None:
        """The session is closed by whoever opened it."""


def _found(weights: Weights, progress: Progress) -> Path:
    """A source of this host: it is where it should be, and what it should be."""
    path = located(weights.source)
    progress.total_bytes = size_of(path)

    def moved(count: int) -> None:
        progress.done_bytes += count

    if weights.sha256 is not None:
        check_sum(path, weights.sha256, moved=moved)
    progress.done_bytes = progress.total_bytes
    return path
