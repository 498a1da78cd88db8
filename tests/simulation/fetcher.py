"""A host that weights come to in virtual time: so many bytes a second, resumed, failing when told."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path

from stoker.domain.models import FetchFailed, Weights, WeightsKey
from stoker.domain.weights import WeightsSize
from stoker.models.fetcher import MakeRoom, Progress

GIB = 2**30


@dataclass
class FakeFetcher:
    """See `stoker.models.fetcher.Fetcher`. `fails` has errors for the next fetches, by the source's location;
    `measure_s` is how long it looks at what has come.
    """

    size: int = 100 * GIB
    bytes_per_s: int = GIB
    limit: int | None = None
    measure_s: float = 0.0
    here: dict[WeightsKey, int] = field(default_factory=dict)
    fails: dict[str, list[FetchFailed]] = field(default_factory=dict)
    fetched: list[str] = field(default_factory=list)
    tokens: list[str | None] = field(default_factory=list)
    running: int = 0
    running_most: int = 0

    async def fetch(self, weights: Weights, *, token: str | None, progress: Progress, make_room: MakeRoom) -> Path:
        self.fetched.append(weights.source.location)
        self.tokens.append(token)
        self.running += 1
        self.running_most = max(self.running, self.running_most)
        try:
            return await self._fetch(weights, progress, make_room)
        finally:
            self.running -= 1

    async def _fetch(self, weights: Weights, progress: Progress, make_room: MakeRoom) -> Path:
        key = weights.key
        if fails := self.fails.get(weights.source.location):
            raise fails.pop(0)
        progress.total_bytes = self.size
        progress.done_bytes = self.here.get(key, 0)
        await make_room(key, self.size - progress.done_bytes)
        while progress.done_bytes < self.size:
            await asyncio.sleep(1)
            progress.done_bytes = min(self.size, progress.done_bytes + self.bytes_per_s)
            self.here[key] = progress.done_bytes
        return Path(f"/models/{key}/model.gguf")

    async def present(self, weights: Weights) -> Path | None:
        done = self.here.get(weights.key, 0) >= self.size
        return Path(f"/models/{weights.key}/model.gguf") if done else None

    async def measure(self, path: Path) -> WeightsSize | None:
        await asyncio.sleep(self.measure_s)
        return WeightsSize(total=self.size)

    async def sizes(self) -> dict[WeightsKey, int]:
        return dict(self.here)

    async def missing(self, needed: int, *, kept: int) -> tuple[int, str]:
        return (0 if self.limit is None else kept + needed - self.limit), "the test's disk is full"

    async def remove(self, key: WeightsKey) -> None:
        self.here.pop(key, None)

    async def tidy(self, known: frozenset[WeightsKey]) -> None:
        for key in set(self.here) - known:
            del self.here[key]

    async def close(self) -> None:
        """Holds nothing."""
