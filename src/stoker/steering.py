"""What the command line asks of the Stoker that runs on a data folder: a new gateway, or its end. By signals and files,
so that neither needs its API.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time

from stoker.domain.errors import Unavailable
from stoker.roles import Held, hold, holder
from stoker.settings import Settings


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
    """End workers whose Stoker is gone, without one."""
    from stoker.providers import base as providers

    options = {
        "ports": settings.worker_ports,
        "log_mib": settings.worker_log_mib,
        "workers_kept": settings.workers_kept,
    }
    try:
        # Held so that no Stoker starts meanwhile, and to let the roles of a killed one go first.
        with hold(settings.paths.supervisor_lock), hold(settings.paths.control_lock, wait_s=timeout_s):
            provider = providers.load("process", providers.ProviderOptions(settings.data_dir, options))
            found = [observed.id for observed in await provider.list()]
            deadline = time.monotonic() + timeout_s
            while left := await provider.list():
                if time.monotonic() >= deadline:
                    raise Unavailable(f"{len(left)} workers are still there after {timeout_s:g} s")
                for observed in left:
                    await provider.stop(observed.id, grace_s=10.0)
                await asyncio.sleep(0.1)
            await provider.close()
            return len(found)
    except Held as exc:
        raise Unavailable(str(exc)) from exc
