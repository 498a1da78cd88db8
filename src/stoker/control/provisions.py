"""What must be on a host before a worker starts there: asked by passes and by the reconciler, kept by others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from stoker.control.downloads import Downloads
from stoker.control.volumes import Volumes
from stoker.domain.endpoint import Endpoint
from stoker.domain.fetching import ModelFetch
from stoker.domain.launch import Launch
from stoker.domain.models import Hold, WeightsKey
from stoker.domain.volumes import Mount, variable_of


@dataclass(frozen=True, slots=True)
class Provision:
    """What a worker is given: values for the placeholders of its command, more of an environment, what it sees of the
    host's files, and the weights that come to its provider before it starts.
    """

    fill: Mapping[str, str] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    mounts: tuple[Mount, ...] = ()
    fetch: ModelFetch | None = None


class Provisions:
    """See the module."""

    def __init__(self, downloads: Downloads, volumes: Volumes) -> None:
        self._downloads = downloads
        self._volumes = volumes

    def hold(self, endpoint: Endpoint) -> Hold | None:
        """Why no worker of the present revision may start now."""
        return self._downloads.hold(endpoint) or self._volumes.hold(endpoint)

    def of(self, endpoint: Endpoint, launch: Launch, models_at: str | None = None) -> Provision:
        """What a worker of this launch is given. `models_at`: where it sees its provider's own cache of models."""
        mounts = self._volumes.mounts(endpoint.project, launch.volumes)
        places = {mount.name: mount.path or mount.source for mount in mounts}
        fill = {f"{{volume:{name}}}": place for name, place in places.items()}
        fetch = None
        if launch.weights is not None and models_at is not None:
            fetch = self._downloads.elsewhere(WeightsKey(launch.weights), launch.models)
        if fetch is not None:
            fill["{weights}"] = f"{models_at}/{fetch.place}"
        elif launch.weights is not None:
            path = self._downloads.path(WeightsKey(launch.weights))
            # Gone since: the program says what it misses, and the endpoint that the model is being fetched again.
            fill["{weights}"] = path or "/nonexistent"
            if path is not None:
                mounts = (*mounts, Mount(name="weights", source=path, path=path, read_only=True))
        return Provision(fill, {variable_of(name): place for name, place in places.items()}, mounts, fetch)
