"""A Docker provider for tests, on a real engine, of whose containers nothing is left in the end."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from docker_engine import IMAGE, Engine
from providers.workers import clear
from stoker.providers.base import Provider, ProviderOptions, load


@dataclass(frozen=True)
class Installation:
    """One provider, with a folder that its workers see as /counters."""

    provider: Provider
    engine: Engine
    counters: Path
    folder: Path
    options: dict[str, object]

    def connect(self) -> Provider:
        """The same again, as after a restart of Stoker."""
        return load("docker", ProviderOptions(self.folder, self.options))


@contextlib.asynccontextmanager
async def containers(engine: Engine, folder: Path, **more: object) -> AsyncIterator[Installation]:
    counters = folder / "counters"
    counters.mkdir()
    folders = [f"{counters}:/counters:rw", *_texts(more.pop("folders", ()))]
    options = {"host": engine.host, "image": IMAGE, "folders": folders, "log_mib": 1, **more}
    provider = load("docker", ProviderOptions(folder, options))
    try:
        yield Installation(provider, engine, counters, folder, options)
    finally:
        await clear(provider)
        await provider.close()
        assert engine.names() == []


def _texts(value: object) -> list[str]:
    assert isinstance(value, list | tuple)
    return list(value)


def container_of(engine: Engine, worker: str) -> str:
    """The name of its container."""
    return next(name for name in engine.names() if name.endswith(f"-{worker}"))
