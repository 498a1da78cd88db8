"""What workers find on a host before they start, wired: models and their weights, volumes, and what becomes of both.

Made, loaded and closed by `stoker.app`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from stoker.control.away import away_of
from stoker.control.downloads import Downloads
from stoker.control.fleet import Fleet
from stoker.control.loop import Loop
from stoker.control.models import Models
from stoker.control.provisions import Provisions
from stoker.control.vault import Vault
from stoker.control.volumes import Volumes
from stoker.domain.endpoint import EndpointId
from stoker.models.fetcher import Fetcher
from stoker.providers.base import HoldsVolumes, Provider
from stoker.settings import Settings


class Supplies:
    """One of each. `load` it before its `loops` run."""

    def __init__(
        self,
        fleet: Fleet,
        vault: Vault,
        fetcher: Fetcher,
        settings: Settings,
        providers: Mapping[str, Provider],
        *,
        told: Callable[[EndpointId], None],
        clock: Callable[[], float],
        new_id: Callable[[], str],
    ) -> None:
        """`told(endpoint)` is called when something has changed for an endpoint whose workers wait."""
        self.downloads = Downloads(
            fleet,
            fetcher,
            vault,
            at_once=settings.downloads_at_once,
            clock=clock,
            told=told,
            away=away_of(settings, providers),
        )
        self.volumes = Volumes(
            fleet,
            settings.volumes_folder,
            clock=clock,
            new_id=new_id,
            told=told,
            held={name: provider for name, provider in providers.items() if isinstance(provider, HoldsVolumes)},
        )
        self.provisions = Provisions(self.downloads, self.volumes)
        self.models = Models(
            fleet.store,
            self.downloads,
            named=settings.models,
            rules=settings.allow_private_urls,
            clock=clock,
            new_id=new_id,
        )

    async def load(self) -> None:
        """Read what is known, and look at what is there."""
        await self.downloads.load()
        await self.volumes.load()

    def loops(self) -> tuple[Loop, ...]:
        """What is to be done again and again."""
        return (self.downloads.loop, self.volumes.loop)
