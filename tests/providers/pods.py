"""A Kubernetes provider for tests, on a cluster of which nothing is left in the end."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from cluster.running import IMAGE, Cluster
from providers.workers import clear, ended, observed, until
from stoker.domain.worker import Exit
from stoker.providers.base import Provider, ProviderOptions, Tells, load

LASTING = "echo up; exec sleep 600"
STUBBORN = "trap '' TERM; echo up; while :; do sleep 0.05; done"


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


async def known_end(provider: Provider, name: str) -> Exit:
    """Its end, once that is listed: of a pod that somebody else has removed nothing is until the watch tells of it."""

    async def ask() -> Exit | None:
        found = await observed(provider, name)
        return None if found is None else found.exit

    return await until(ask, what=f"end of {name}")


class Told:
    """What a provider tells by itself."""

    def __init__(self, provider: Provider) -> None:
        self.changes, self.said = 0, list[tuple[str, str]]()
        assert isinstance(provider, Tells)
        provider.attach(changed=self._changed, said=lambda worker, text: self.said.append((worker, text)))

    def _changed(self) -> None:
        self.changes += 1

    async def more(self, than: int) -> None:
        async def ask() -> bool:
            return self.changes > than

        await until(ask, what="another change")

    async def hears(self, worker: str, text: str) -> None:
        async def ask() -> bool:
            return any(who == worker and text in what for who, what in self.said)

        await until(ask, what=f"{text!r} of {worker}")


async def reason(found: Installation, name: str) -> str:
    return (await ended(found.provider, name)).reason
