"""Gcore's Everywhere Inference, cloud API v3, as its own clients speak it. Imports nothing heavy: all faces find it."""

from __future__ import annotations

from collections.abc import Sequence

from stoker.domain.endpoint import Endpoint
from stoker.domain.routing import InferenceAddress
from stoker.domain.worker import Worker
from stoker.web import Dialect


def _addresses(endpoint: Endpoint, _workers: Sequence[Worker]) -> Sequence[InferenceAddress]:
    return (InferenceAddress(prefix=f"/gcore/deployment/{endpoint.id}"),)


DIALECT = Dialect(name="gcore", face="stoker.dialects.gcore.face:make", hosts=("api.gcore.com",), addresses=_addresses)
