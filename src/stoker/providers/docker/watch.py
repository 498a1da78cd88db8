"""Follows the daemon's events about our containers, and says that something has changed. Comes back by itself."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

import aiohttp
import structlog
from aiodocker import Docker

from stoker.domain.errors import StokerError
from stoker.providers.docker.containers import INSTALLATION
from stoker.providers.docker.daemon import asking, failing

log = structlog.get_logger(__name__)

AGAIN_S = 1.0
# What a list shows differently afterwards.
_TELLING = ["create", "start", "die", "oom", "pause", "unpause", "destroy"]


async def watch(docker: Docker, installation: str, changed: Callable[[], None]) -> None:
    """Until cancelled. After every interruption `changed` is called, since something may have been missed."""
    while True:
        try:
            await _follow(docker, installation, changed)
            log.warning("docker_events_ended", retry_s=AGAIN_S)
        except (StokerError, TimeoutError) as exc:
            log.warning("docker_events_lost", error=str(exc), retry_s=AGAIN_S)
        await asyncio.sleep(AGAIN_S)


async def _follow(docker: Docker, installation: str, changed: Callable[[], None]) -> None:
    async with asking("reach the daemon"):
        await docker.version()
    filters = {"type": ["container"], "label": [f"{INSTALLATION}={installation}"], "event": _TELLING}
    url = f"{docker.docker_host}/{docker.api_version}/events"
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=10.0)
    with failing("follow the daemon's events"):
        async with docker.session.get(url, params={"filters": json.dumps(filters)}, timeout=timeout) as response:
            response.raise_for_status()
            changed()
            async for _ in response.content:
                changed()
