"""Volumes that Stoker makes: claims, found again by our labels. The cluster bounds their size."""

from __future__ import annotations

from stoker.domain.errors import Invalid, Unavailable
from stoker.providers.kubernetes import pods
from stoker.providers.kubernetes.cluster import Cluster, Refused, asking
from stoker.providers.kubernetes.options import KubernetesOptions

CLAIM = "persistent_volume_claim"


async def make(cluster: Cluster, volume: str, size_gib: float, options: KubernetesOptions, installation: str) -> None:
    """Have it there, or one that is there be at least so large."""
    body = pods.claim(volume, size_gib, options, installation)
    async with asking("make the claim"):
        try:
            await cluster.create(CLAIM, body)
            return
        except Refused as exc:
            if exc.status != 409:
                raise
    async with asking("make the claim larger"):
        larger = {"spec": {"resources": body["spec"]["resources"]}}
        await cluster.merge(CLAIM, body["metadata"]["name"], larger)


async def remove(cluster: Cluster, volume: str, installation: str) -> None:
    """Have it gone; an unknown one is success. Raises `Unavailable`."""
    try:
        async with asking("delete the claim"):
            await cluster.delete(CLAIM, pods.claim_of(volume, installation))
    except Invalid as exc:
        raise Unavailable(str(exc)) from exc


async def known(cluster: Cluster, installation: str) -> frozenset[str]:
    """Those of this installation."""
    try:
        async with asking("list the claims"):
            found = await cluster.claims(f"{pods.INSTALLATION}={installation},{pods.VOLUME}")
    except Invalid as exc:
        raise Unavailable(str(exc)) from exc
    return frozenset(claim["metadata"]["labels"][pods.VOLUME] for claim in found)
