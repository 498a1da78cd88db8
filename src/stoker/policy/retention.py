"""Which ended workers' output is no longer kept. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from stoker.domain.endpoint import EndpointId
from stoker.domain.logging import Logging
from stoker.domain.worker import WorkerId


@dataclass(frozen=True, slots=True)
class Output:
    """What is kept of one ended worker: so many bytes, the last of them written then."""

    worker: WorkerId
    bytes: int
    at: float


def outdated(
    outputs: Iterable[Output],
    *,
    endpoints: Mapping[WorkerId, EndpointId],
    rules: Mapping[EndpointId, Logging],
    now: float,
) -> frozenset[WorkerId]:
    """The workers whose output goes: too old or too much for its endpoint, or of a worker or an endpoint that is
    forgotten.
    """
    gone: set[WorkerId] = set()
    sums: dict[EndpointId, int] = {}
    for output in sorted(outputs, key=lambda output: output.at, reverse=True):
        endpoint = endpoints.get(output.worker)
        rule = None if endpoint is None else rules.get(endpoint)
        if endpoint is None or rule is None:
            gone.add(output.worker)
            continue
        sums[endpoint] = sums.get(endpoint, 0) + output.bytes
        if now - output.at > rule.retention_s or sums[endpoint] > rule.bytes_max:
            gone.add(output.worker)
    return frozenset(gone)
