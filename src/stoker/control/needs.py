"""Which weights endpoints need on this host, and which their workers have open. Asked by downloads; changes nothing."""

from __future__ import annotations

from collections.abc import Mapping

from stoker.control.away import Away, named
from stoker.control.fleet import Fleet
from stoker.domain.endpoint import Endpoint, EndpointId, Phase
from stoker.domain.models import Weights, WeightsKey


class Needs:
    """See the module. `weights` are all that are known, as they are at the moment of asking."""

    def __init__(self, fleet: Fleet, away: Away, weights: Mapping[WeightsKey, Weights]) -> None:
        self._fleet = fleet
        self._away = away
        self._weights = weights

    def of(self, endpoint: Endpoint) -> frozenset[WeightsKey]:
        """Those that workers of its present revision need on this host."""
        return self._away.needed_here(endpoint, self._weights)

    def active(self) -> tuple[tuple[Endpoint, WeightsKey], ...]:
        """Those of active endpoints, and whose they are."""
        active = (endpoint for endpoint in self._fleet.endpoints() if endpoint.phase is Phase.ACTIVE)
        return tuple((endpoint, key) for endpoint in active for key in self.of(endpoint))

    def waiting(self, key: WeightsKey) -> list[Endpoint]:
        """The endpoints that are told how these come on."""
        return [e for e in self._fleet.endpoints() if key in self.of(e) and e.phase is not Phase.DELETING]

    def used_by(self, key: WeightsKey) -> tuple[Endpoint, ...]:
        """Endpoints that need them now or at their next start, and those of which a worker has them open."""
        open_by = {endpoint for endpoint, keys in self._open().items() if key in keys}
        return tuple(e for e in self._fleet.endpoints() if key in named(e) or e.id in open_by)

    def opened(self) -> frozenset[WeightsKey]:
        """What workers that are not gone have open."""
        return frozenset(key for keys in self._open().values() for key in keys)

    def _open(self) -> dict[EndpointId, set[WeightsKey]]:
        found: dict[EndpointId, set[WeightsKey]] = {}
        for worker in self._fleet.all_workers():
            if worker.gone:
                continue
            revision = self._fleet.revision_of(worker)
            launch = None if revision is None else revision.launch_of(worker.pool)
            if launch is not None and launch.weights is not None:
                found.setdefault(worker.endpoint, set()).add(WeightsKey(launch.weights))
        return found
