"""Keeps workers cold and makes them warm again: by their engine, which can give back video memory, else by their
provider, which can hold a process still. Called by control's reconciler.
"""

from __future__ import annotations

import asyncio
from functools import partial

import aiohttp

from stoker.control.actions import Call
from stoker.control.managed import Managed
from stoker.domain.errors import Unavailable
from stoker.domain.launch import Launch
from stoker.domain.worker import Address, Worker

# An engine copies its weights to the host's memory, tens of gigabytes at some gigabytes a second.
CALL_TIMEOUT_S = 120.0


def frees(launch: Launch, managed: Managed) -> tuple[str, ...] | None:
    """What a cold worker of this launch lets go of at this provider; `None` when it cannot be kept cold."""
    if launch.sleep is not None:
        return launch.sleep.frees
    return ("vcpu",) if managed.provider.pauses else None


def chilled(worker: Worker, launch: Launch, managed: Managed) -> Call:
    """What keeps this worker cold."""
    if launch.sleep is not None and worker.address is not None:
        return partial(_post, worker.address, launch.sleep.sleep_path)
    return partial(managed.provider.pause, worker.id)


def warmed(worker: Worker, launch: Launch) -> Call | None:
    """What wakes its engine, once it runs; `None` when nothing has to. Harmless for one that is awake."""
    if launch.sleep is None or worker.address is None:
        return None
    return partial(_post, worker.address, launch.sleep.wake_path)


async def _post(address: Address, path: str) -> None:
    url = f"http://{address.host}:{address.port}{path}"
    try:
        async with (
            asyncio.timeout(CALL_TIMEOUT_S),
            aiohttp.ClientSession() as session,
            session.post(url, allow_redirects=False) as response,
        ):
            if response.status >= 300:
                raise Unavailable(f"{path} answered HTTP {response.status}")
    except TimeoutError as exc:
        raise Unavailable(f"{path} was not answered within {CALL_TIMEOUT_S:g} s") from exc
    except (OSError, aiohttp.ClientError) as exc:
        raise Unavailable(f"{path}: {exc}") from exc
