"""Brings images to the daemon's host: one pull at a time for each, with its progress in words."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from aiodocker import Docker
from aiodocker.exceptions import DockerError

from stoker.domain.errors import Invalid, Unavailable
from stoker.domain.secrets import RegistryLogin
from stoker.providers.docker.daemon import asking

SAY_EVERY_S = 10.0
# What a registry says of an image that it will not hand out, today or tomorrow.
_REFUSALS = (
    "denied",
    "unauthorized",
    "not found",
    "manifest unknown",
    "no matching manifest",
    "invalid reference",
    "authentication required",
    "no basic auth credentials",
)


@dataclass(slots=True)
class Progress:
    """How far a pull is, by layer: bytes here, and bytes in all."""

    layers: dict[str, tuple[int, int]] = field(default_factory=dict)

    def take(self, entry: Mapping[str, Any]) -> None:
        """One line of the daemon's progress."""
        layer, detail = entry.get("id"), entry.get("progressDetail") or {}
        if not isinstance(layer, str):
            return
        if entry.get("status") == "Downloading" and detail.get("total"):
            self.layers[layer] = (int(detail.get("current", 0)), int(detail["total"]))
        elif entry.get("status") in ("Download complete", "Pull complete") and layer in self.layers:
            self.layers[layer] = (self.layers[layer][1],) * 2

    def __str__(self) -> str:
        here, whole = (sum(sizes[index] for sizes in self.layers.values()) for index in (0, 1))
        return f"{100 * here // whole}% of {whole / 2**20:.0f} MiB" if whole else "its layers are being looked at"


async def pull(
    docker: Docker, image: str, login: RegistryLogin | None, *, said: Callable[[str], None], timeout_s: float
) -> None:
    """Fetch it from its registry. Raises `Invalid` when that refuses, `Unavailable` when it may be tried again."""
    named = image if login is None else with_registry(image)
    auth = None if login is None else {"username": login.username, "password": login.password}
    progress, begun_at = Progress(), time.monotonic()
    said(f"pulling the image {image}")
    said_at = begun_at
    try:
        async with asking(f"pull the image {image}", timeout_s=timeout_s):
            async for entry in docker.images.pull(named, auth=auth, stream=True):
                progress.take(entry)
                if time.monotonic() - said_at >= SAY_EVERY_S:
                    said_at = time.monotonic()
                    said(f"pulling the image {image}: {progress}")
    except Unavailable as exc:
        said(str(exc))
        if any(words in str(exc).lower() for words in _REFUSALS):
            raise Invalid(str(exc)) from exc
        raise
    said(f"pulled the image {image} in {time.monotonic() - begun_at:.0f} s")


def with_registry(image: str) -> str:
    """The same image with its registry's host, which a log-in needs.

    >>> with_registry("nginx:1"), with_registry("me/mine"), with_registry("local.test:5000/x")
    ('docker.io/library/nginx:1', 'docker.io/me/mine', 'local.test:5000/x')
    """
    first, slash, _ = image.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        return image
    return f"docker.io/{image}" if slash else f"docker.io/library/{image}"


class Images:
    """What is there already is not fetched, and what several workers need at once is fetched once."""

    def __init__(self, docker: Docker, *, timeout_s: float) -> None:
        self._docker = docker
        self._timeout_s = timeout_s
        # Those that are being pulled, and how many wait for each.
        self._locks: dict[str, tuple[asyncio.Lock, int]] = {}

    async def bring(self, image: str, login: RegistryLogin | None, said: Callable[[str], None]) -> None:
        """Raises as `pull` does."""
        lock, waiting = self._locks.get(image, (asyncio.Lock(), 0))
        self._locks[image] = lock, waiting + 1
        try:
            async with lock:
                if not await self._there(image):
                    await pull(self._docker, image, login, said=said, timeout_s=self._timeout_s)
        finally:
            lock, waiting = self._locks.pop(image)
            if waiting > 1:
                self._locks[image] = lock, waiting - 1

    async def _there(self, image: str) -> bool:
        async with asking(f"look for the image {image}"):
            try:
                await self._docker.images.inspect(image)
            except DockerError as exc:
                if exc.status == 404:
                    return False
                raise
        return True
