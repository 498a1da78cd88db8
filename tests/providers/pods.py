"""A Kubernetes provider for tests, on a cluster of which nothing is left in the end."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from cluster.running import IMAGE, Cluster
from providers.workers import clear, until
from stoker.providers.base import Provider, ProviderOptions, load


@dataclass(frozen=True)
class Installation:
    """One provider. Its pods are processes of this machine, and see its files."""

    provider: Provider
    cluster: Cluster
    folder: Path
    options: dict[str, object]

    def connect(self) -> Provider:
        """The same again, as after a restart of Stoker."""
        return load("kubernetes", ProviderOptions(self.folder, self.options))


@contextlib.asynccontextmanager
async def pods(cluster: Cluster, folder: Path, **more: object) -> AsyncIterator[Installation]:
    options = {"kubeconfig": str(cluster.kubeconfig), "image": IMAGE, "log_mib": 1, **more}
    provider = load("kubernetes", ProviderOptions(folder, options))
    try:
        yield Installation(provider, cluster, folder, options)
    finally:
        await clear(provider)
        await provider.close()

        async def nothing() -> bool:
            return (cluster.all("Pod"), cluster.all("Secret")) == ([], [])

        await until(nothing, what="end of all that was made")
