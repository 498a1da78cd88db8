"""What the command line asks of the Stoker that runs on a data folder: a new gateway, or its end. By signals and files,
so that neither needs its API.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from typing import TYPE_CHECKING

from stoker.domain.errors import Unavailable
from stoker.roles import Held, hold, holder
from stoker.settings import Settings

if TYPE_CHECKING:
    from stoker.providers.base import Provider

# What a worker without a Stoker is given to end, and how often it is looked whether it has.
GRACE_S = 10.0
FIRST_LOOK_S, LOOK_MOST_S = 0.1, 1.0


def upgrade(settings: Settings, *, timeout_s: float) -> int:
    """Have the running Stoker replace its gateway without loss. The new one's process id.

    Raises `Unavailable` when none runs, or when the new one does not take over.
    """
    paths = settings.paths
    pid = holder(paths.supervisor_lock)
    if pid is None:
        raise Unavailable(f"no Stoker runs on {settings.data_dir}")
    paths.upgrade.unlink(missing_ok=True)
    os.kill(pid, signal.SIGHUP)
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        with contextlib.suppress(FileNotFoundError):
            if (text := paths.upgrade.read_text(encoding="utf-8")).endswith("\n"):
                word, _, rest = text.strip().partition(" ")
                if word == "done":
                    return int(rest)
                raise Unavailable(rest)
        time.sleep(0.05)
    raise Unavailable(f"no new gateway after {timeout_s:g} s; see what `stoker up` says")


def down(settings: Settings, *, timeout_s: float) -> str:
    """Stop everything on this data folder, workers included, as Ctrl-C does. Says what was done.

    Raises `Unavailable` when it is not done within `timeout_s`.
    """
    paths = settings.paths
    pid = holder(paths.supervisor_lock)
    if pid is None:
        stopped = asyncio.run(_stop_leftovers(settings, timeout_s=timeout_s))
        return f"Stoker was not running; stopped {stopped} leftover workers" if stopped else "Stoker was not running"
    # The lock is held, so the process that wrote its id there is still the one that runs.
    os.kill(pid, signal.SIGINT)
    deadline = time.monotonic() + timeout_s
    while holder(paths.supervisor_lock) is not None:
        if time.monotonic() >= deadline:
            raise Unavailable(
                f"process {pid} is still draining after {timeout_s:g} s; `stoker down` again cuts requests"
            )
        time.sleep(0.1)
    return "stopped"


async def _stop_leftovers(settings: Settings, *, timeout_s: float) -> int:
    """End workers whose Stoker is gone, without one, wherever they run."""
    from stoker.providers.opening import open_providers

    try:
        # Held so that no Stoker starts meanwhile, and to let the roles of a killed one go first.
        with hold(settings.paths.supervisor_lock), hold(settings.paths.control_lock, wait_s=timeout_s):
            providers = open_providers(settings)
            deadline = time.monotonic() + timeout_s
            ends = await asyncio.gather(*(_stop_all(each, deadline) for each in providers.values()))
            for each in providers.values():
                await each.close()
    except Held as exc:
        raise Unavailable(str(exc)) from exc
    failed = [f"{name}: {end}" for name, end in zip(providers, ends, strict=True) if isinstance(end, Unavailable)]
    if failed:
        raise Unavailable(f"workers may still run at {'; '.join(failed)}")
    return sum(end for end in ends if isinstance(end, int))


async def _stop_all(provider: Provider, deadline: float) -> int | Unavailable:
    """How many ran of which none is left, or why that is not known. The others of a provider that is away are no worse
    off for it.
    """
    try:
        left, pause_s = await provider.list(), FIRST_LOOK_S
        found = sum(observed.running for observed in left)
        while left:
            if time.monotonic() >= deadline:
                return Unavailable(f"{len(left)} workers are still there when the time is up")
            for observed in left:
                await provider.stop(observed.id, grace_s=GRACE_S)
            await asyncio.sleep(pause_s)
            left, pause_s = await provider.list(), min(LOOK_MOST_S, pause_s * 2)
    except Unavailable as exc:
        return exc
    return found
