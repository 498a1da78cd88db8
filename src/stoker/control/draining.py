"""The end of everything: refuse requests, let those in flight finish, end every worker. Asked for by the role's order
to drain.
"""

from __future__ import annotations

import asyncio

import structlog

from stoker.control.fleet import Fleet, Watch
from stoker.control.managed import Providers
from stoker.control.reconciler import Reconciler
from stoker.control.signals import Gateway
from stoker.control.table import Publisher

log = structlog.get_logger(__name__)

PUT_AWAY_WAIT_S = 5.0
LOOK_S = 0.5


async def drain(
    fleet: Fleet,
    publisher: Publisher,
    gateway: Gateway,
    reconciler: Reconciler,
    providers: Providers,
    *,
    hurry: asyncio.Event,
) -> None:
    """Returns when no worker is left. `hurry` cuts what still runs."""
    publisher.closing = True
    reconciler.closing = True
    for endpoint in fleet.endpoints():
        gateway.publish(endpoint)
    reconciler.wake_all()
    with fleet.watching() as watch:
        await _drained(fleet, reconciler, watch, hurry)
    # What providers still keep of ended workers is looked at once more, so that no folder or container stays.
    for managed in providers.all():
        await managed.observer.observe()
        await managed.actions.finished(timeout_s=PUT_AWAY_WAIT_S)


async def _drained(fleet: Fleet, reconciler: Reconciler, watch: Watch, hurry: asyncio.Event) -> None:
    hurried, said = False, 0
    while live := [worker for worker in fleet.all_workers() if not worker.gone]:
        if hurry.is_set() and not hurried:
            hurried = True
            await reconciler.cut()
        if len(live) != said:
            said = len(live)
            log.info("draining", workers=said)
        await watch.changed(timeout_s=LOOK_S)
