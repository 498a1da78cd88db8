"""What must be on a host before a worker starts there: asked by passes and by the reconciler, kept by others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from stoker.control.downloads import Downloads
from stoker.domain.endpoint import Endpoint, Launch
from stoker.domain.models import Hold, WeightsKey


@dataclass(frozen=True, slots=True)
class Provision:
    """What a worker is given: values for the placeholders of its command."""

    fill: Mapping[str, str] = field(default_factory=dict)


class Provisions:
    """See the module."""

    def __init__(self, downloads: Downloads) -> None:
        self._downloads = downloads

    def hold(self, endpoint: Endpoint) -> Hold | None:
        """Why no worker of the present revision may start now."""
        return self._downloads.hold(endpoint)

    def of(self, launch: Launch) -> Provision:
        """What a worker of this launch is given."""
        if launch.weights is None:
            return Provision()
        path = self._downloads.path(WeightsKey(launch.weights))
        # Gone since: the program says what it misses, and the endpoint that the model is being fetched again.
        return Provision({"{weights}": path or "/nonexistent"})
