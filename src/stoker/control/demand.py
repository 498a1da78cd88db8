"""What asks for workers though no request of it is at a gateway, wired: requests that are announced, tickets for them,
and queues elsewhere. Tasks are `stoker.queue`'s.

Made and closed by `stoker.app`.
"""

from __future__ import annotations

from collections.abc import Callable

from stoker.control.fleet import Fleet
from stoker.control.load import Load, Told
from stoker.control.loop import Loop
from stoker.control.managed import Providers
from stoker.control.queue_depths import PERIOD_S, Messages, QueueDepths
from stoker.control.reservations import Reservations
from stoker.control.signals import Gateway
from stoker.control.sqs import SqsQueues
from stoker.control.vault import Vault
from stoker.domain.addresses import UrlRules
from stoker.link.server import LinkServer

SWEEP_PERIOD_S = 1.0
# Whether workers have fallen silent, who report every few seconds.
SILENCE_PERIOD_S = 15.0


class Demand:
    """One of each."""

    def __init__(
        self,
        fleet: Fleet,
        link: LinkServer,
        gateway: Gateway,
        reconciler: Told,
        providers: Providers,
        vault: Vault,
        *,
        rules: UrlRules,
        messages: Messages | None,
        clock: Callable[[], float],
        new_id: Callable[[], str],
    ) -> None:
        """`messages` asks queues elsewhere (`None`: over the network)."""
        self._sqs = SqsQueues(rules, vault.secret, clock=clock)
        self.depths = QueueDepths(fleet, messages or self._sqs.messages, clock=clock)
        self.reservations = Reservations(fleet, link, gateway, clock=clock, new_id=new_id)
        self.load = Load(
            fleet,
            self.reservations,
            reconciler,
            changed=gateway.demand_changed,
            machines=providers.machines,
            proves=vault.is_of_worker,
            clock=clock,
        )

    def loops(self) -> tuple[Loop, ...]:
        """What is to be done again and again."""
        return (
            Loop("queue depths", self.depths.step, period_s=PERIOD_S),
            Loop("forget reservations", self.reservations.sweep, period_s=SWEEP_PERIOD_S),
            Loop("forget announcements", self.load.sweep, period_s=SILENCE_PERIOD_S),
        )

    async def close(self) -> None:
        """Let go of connections."""
        await self._sqs.close()
