"""Which weights come to this host, and which are fetched by their workers' providers without it. Asked by downloads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from stoker.control.managed import models_at
from stoker.domain.addresses import UrlRules
from stoker.domain.endpoint import Endpoint
from stoker.domain.fetching import ModelFetch
from stoker.domain.models import Weights, WeightsKey
from stoker.providers.base import Provider
from stoker.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Away:
    """Providers (names) that fetch what their workers need by themselves, and how: the hub's address, which addresses
    may be opened, and the most bytes in a second (`None`: no limit).
    """

    providers: frozenset[str] = frozenset()
    hub: str = ""
    rules: UrlRules = field(default_factory=UrlRules)
    bytes_per_s: float | None = None

    def needed_here(self, endpoint: Endpoint, weights: Mapping[WeightsKey, Weights]) -> frozenset[WeightsKey]:
        """Those that workers of its present revision need on this host: what lies here can only be shown to them."""
        pools = {pool.name: pool.provider for pool in endpoint.spec.pools}
        return frozenset(
            key
            for pool, launch in endpoint.launches.items()
            if launch.weights is not None
            and not self._comes_there(weights.get(key := WeightsKey(launch.weights)), pools.get(pool))
        )

    def _comes_there(self, weights: Weights | None, provider: str | None) -> bool:
        return provider in self.providers and weights is not None and not weights.source.local

    def fetch(self, weights: Weights, name: str) -> ModelFetch | None:
        """What a provider is told of them; `None` for what lies on this host. `name` is the model's."""
        if weights.source.local:
            return None
        return ModelFetch(
            key=weights.key,
            name=name,
            source=weights.source,
            sha256=weights.sha256,
            hub=self.hub,
            rules=self.rules,
            bytes_per_s=self.bytes_per_s,
            token_secret=weights.token_secret,
        )


def named(endpoint: Endpoint) -> frozenset[WeightsKey]:
    """The weights that workers of its present revision need, wherever."""
    return frozenset(WeightsKey(launch.weights) for launch in endpoint.launches.values() if launch.weights is not None)


def away_of(settings: Settings, providers: Mapping[str, Provider]) -> Away:
    """Where models are fetched without this host."""
    pace = settings.download_mib_per_s
    return Away(
        providers=frozenset(name for name, provider in providers.items() if models_at(provider) is not None),
        hub=settings.hf_endpoint,
        rules=settings.allow_private_urls,
        bytes_per_s=None if pace is None else pace * 2**20,
    )
