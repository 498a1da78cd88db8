"""Volumes that the daemon keeps, found again by our labels. Nobody bounds their size."""

from __future__ import annotations

from typing import Any

from aiodocker import Docker
from aiodocker.exceptions import DockerError

from stoker.domain.errors import Invalid, Unavailable
from stoker.providers.docker.containers import INSTALLATION, VOLUME, name_of
from stoker.providers.docker.daemon import asking


async def make(docker: Docker, volume: str, installation: str) -> None:
    """Have it there; one that is stays as it is."""
    labels = {INSTALLATION: installation, VOLUME: volume}
    async with asking("make the volume"):
        await _store(docker).create({"Name": name_of(volume, installation), "Labels": labels})


async def remove(docker: Docker, volume: str, installation: str) -> None:
    """Have it gone; an unknown one is success. Raises `Unavailable`, also while a container has it."""
    name = name_of(volume, installation)
    try:
        async with asking("remove the volume"):
            try:
                await (await _store(docker).get(name)).delete()
            except DockerError as exc:
                if exc.status != 404:
                    raise
    except Invalid as exc:
        raise Unavailable(str(exc)) from exc


async def known(docker: Docker, installation: str) -> frozenset[str]:
    """Those of this installation."""
    try:
        async with asking("list the volumes"):
            answer = await _store(docker).list(filters={"label": [f"{INSTALLATION}={installation}"]})
    except Invalid as exc:
        raise Unavailable(str(exc)) from exc
    return frozenset(each["Labels"][VOLUME] for each in answer["Volumes"] or () if VOLUME in (each["Labels"] or {}))


def _store(docker: Docker) -> Any:
    # The library does not say what its calls return.
    return docker.volumes
