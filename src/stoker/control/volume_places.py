"""What volumes lie in: folders of this host, for processes, or what another provider keeps. Called by `volumes`."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from stoker.domain.errors import Unavailable
from stoker.domain.volumes import Mount, Volume, VolumeMount
from stoker.models.cache import size_of
from stoker.providers.base import HoldsVolumes


@dataclass(frozen=True, slots=True)
class Look:
    """Is it there, and how much is in it (`None`: nobody can say)?"""

    there: bool
    bytes: int | None = None


class Place(Protocol):
    """Where the volumes of one provider lie. Everything may be repeated, and raises `Unavailable` or `OSError`."""

    # Can what is there be made smaller?
    shrinks: bool

    async def make(self, volume: Volume) -> None:
        """Have it there. Raises `Invalid` when that can never be."""

    async def resize(self, volume: Volume) -> None:
        """Have it of the size that it says now. Raises `Invalid` when that can never be."""

    async def remove(self, volume: Volume) -> None:
        """Have it gone, with all that is in it."""

    async def look(self, volume: Volume) -> Look:
        """See what is there."""

    def mount(self, volume: Volume, wanted: VolumeMount) -> Mount:
        """What a provider is told of it."""


class Folders:
    """Processes share the host's folders: a quota is measured and keeps workers from starting, it stops no write."""

    shrinks = True

    def __init__(self, root: Path) -> None:
        self._root = root

    def folder(self, volume: Volume) -> Path:
        """Where it is on the host."""
        return self._root / volume.id

    async def make(self, volume: Volume) -> None:
        try:
            await asyncio.to_thread(lambda: self.folder(volume).mkdir(parents=True, exist_ok=True, mode=0o700))
        except OSError as exc:
            # The row stays, and the next look tries again.
            raise Unavailable(f"the volume's folder cannot be made: {exc}") from exc

    async def resize(self, volume: Volume) -> None:
        """Nothing but the bound changes."""

    async def remove(self, volume: Volume) -> None:
        folder = self.folder(volume)
        aside = folder.with_name(f".{folder.name}")

        def remove() -> None:
            with contextlib.suppress(FileNotFoundError):
                folder.rename(aside)
            shutil.rmtree(aside, ignore_errors=True)
            if aside.exists():
                raise Unavailable(f"what is in {aside} cannot be removed; the next look tries again")

        try:
            await asyncio.to_thread(remove)
        except OSError as exc:
            raise Unavailable(f"the volume cannot be removed: {exc}; the next look tries again") from exc

    async def look(self, volume: Volume) -> Look:
        return await asyncio.to_thread(self._look, self.folder(volume))

    def _look(self, folder: Path) -> Look:
        return Look(there=True, bytes=size_of(folder)) if folder.is_dir() else Look(there=False)

    def mount(self, volume: Volume, wanted: VolumeMount) -> Mount:
        return Mount(name=volume.name, source=str(self.folder(volume)), path=wanted.path, read_only=wanted.read_only)


class Held:
    """Those that a provider keeps by itself, known to it by their ids."""

    shrinks = False

    def __init__(self, provider: HoldsVolumes) -> None:
        self._provider = provider

    async def make(self, volume: Volume) -> None:
        await self._provider.make_volume(volume.id, size_gib=volume.size_gib)

    async def resize(self, volume: Volume) -> None:
        await self.make(volume)

    async def remove(self, volume: Volume) -> None:
        await self._provider.remove_volume(volume.id)

    async def look(self, volume: Volume) -> Look:
        return Look(there=volume.id in await self._provider.volumes())

    def mount(self, volume: Volume, wanted: VolumeMount) -> Mount:
        place = wanted.path or f"/volumes/{volume.name}"
        return Mount(name=volume.name, source=place, path=place, read_only=wanted.read_only, held=volume.id)
