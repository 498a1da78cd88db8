"""Makes the fetcher that the settings describe. Called by control when it starts."""

from __future__ import annotations

from stoker.models.cache import Cache
from stoker.models.fetcher import HostFetcher
from stoker.models.transfer import Pace, Session
from stoker.settings import Settings


def open_fetcher(settings: Settings, session: Session) -> HostFetcher:
    """With the cache, the hub and the pace that the settings name."""
    limit, pace = settings.models_cache_gib, settings.download_mib_per_s
    cache = Cache(settings.paths.models, bytes_max=None if limit is None else int(limit * 2**30))
    return HostFetcher(
        cache,
        session,
        hf_endpoint=settings.hf_endpoint,
        pace=Pace(None if pace is None else pace * 2**20),
    )
