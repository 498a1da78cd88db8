"""What is asked of the daemon about single containers: a bounded number of calls at once, each safe to repeat."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from typing import Any

from aiodocker import Docker
from aiodocker.exceptions import DockerError

from stoker.domain.errors import Invalid, Unavailable
from stoker.domain.secrets import RegistryLogin
from stoker.providers.docker import logs
from stoker.providers.docker.daemon import asking, connection
from stoker.providers.docker.images import Images
from stoker.providers.docker.options import DockerOptions

# The daemon works on a few starts at a time however many are asked for, and each waits for its answer.
STARTS_AT_ONCE = 16
LOOKS_AT_ONCE = 16


class Calls:
    """Containers are known by their names or ids; those that are not there any more are no error."""

    def __init__(self, options: DockerOptions) -> None:
        self._options = options
        self._starts, self._looks = asyncio.Semaphore(STARTS_AT_ONCE), asyncio.Semaphore(LOOKS_AT_ONCE)
        self._connected: tuple[Docker, Images] | None = None

    @property
    def docker(self) -> Docker:
        """The connection."""
        return self._connection()[0]

    def _connection(self) -> tuple[Docker, Images]:
        # Within the loop in which it is used, which is not there yet when the settings are read.
        if self._connected is None:
            docker = connection(self._options)
            self._connected = docker, Images(docker, timeout_s=self._options.pull_timeout_s)
        return self._connected

    async def show(self, container: str) -> dict[str, Any] | None:
        """One in full; `None` when there is none."""
        try:
            async with self._looks, asking("look at a container"):
                found: dict[str, Any] | None = await unless(404, self.docker.containers.container(container).show())
                return found
        except Invalid as exc:
            raise Unavailable(str(exc)) from exc

    async def said(self, container: str, count: int) -> list[str]:
        """The last lines of its output; none where there is no such container."""
        async with self._looks, asking("read the output"):
            return [line.text async for line in logs.stream(self.docker, container, tail=count, follow=False)]

    async def create(
        self, name: str, body: dict[str, Any], login: RegistryLogin | None, said: Callable[[str], None]
    ) -> None:
        """Have one of that name, and its image before, of which `said` hears."""
        docker, images = self._connection()
        for _ in range(2):
            async with self._starts, asking("create the container"):
                try:
                    await docker.containers.create(body, name=name)
                    return
                except DockerError as exc:
                    if exc.status == 409:
                        # Somebody else has just done it.
                        return
                    if exc.status != 404:
                        raise
            await images.bring(body["Image"], login, said)
        raise Unavailable(f"the image {body['Image']} went away as soon as it was there")

    async def begin(self, container: str) -> None:
        """Start one that was created."""
        async with self._starts, asking("start the container"):
            await self.docker.containers.container(container).start()

    async def remove(self, container: str) -> None:
        """Have it gone, whatever it does."""
        async with asking("remove the container"):
            # Conflict: it is being removed already.
            await unless(404, unless(409, self.docker.containers.container(container).delete(v=True, force=True)))

    async def close(self) -> None:
        """Let go of the connection."""
        if self._connected is not None:
            docker, self._connected = self._connected[0], None
            await docker.close()
            # The library leaves one that was handed to it.
            await docker.connector.close()


async def created(calls: Calls, container: str) -> bool:
    """Is it there, and has not begun?"""
    with contextlib.suppress(Invalid, Unavailable):
        found = await calls.show(container)
        return found is not None and found["State"]["Status"] == "created"
    return False


async def unless(status: int, call: Coroutine[Any, Any, Any]) -> Any:
    """What it answers; `None` when the daemon says `status`."""
    try:
        return await call
    except DockerError as exc:
        if exc.status != status:
            raise
        return None
