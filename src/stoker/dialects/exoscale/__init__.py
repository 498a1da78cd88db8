"""Exoscale's Dedicated Inference, API v2, as its own clients speak it. Imports nothing heavy: all faces find it."""

from __future__ import annotations

from collections.abc import Sequence

from stoker.domain.endpoint import Endpoint
from stoker.domain.routing import InferenceAddress
from stoker.domain.worker import Worker
from stoker.web import Dialect

_ZONES = ("at-vie-1", "at-vie-2", "bg-sof-1", "ch-dk-2", "ch-gva-2", "de-fra-1", "de-muc-1", "hr-zag-1")


def _addresses(endpoint: Endpoint, _workers: Sequence[Worker]) -> Sequence[InferenceAddress]:
    return (InferenceAddress(prefix=f"/exoscale/deployment/{endpoint.id}"),)


DIALECT = Dialect(
    name="exoscale",
    face="stoker.dialects.exoscale.face:make",
    hosts=tuple(f"api-{zone}.exoscale.com" for zone in _ZONES),
    addresses=_addresses,
)
