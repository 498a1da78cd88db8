"""What was used: facts of single requests, and their sums by hour together with the time of workers. Pure data.

Made by the gateway (requests) and by control (workers); read by usage, scaling and simulation.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

HOUR_S = 3_600
# nginx's word for a client that left before its answer was complete.
CLIENT_LEFT = 499


@dataclass(frozen=True, slots=True)
class RequestFact:
    """One request that has ended. `at`: when it arrived, in seconds since the epoch; `wait_s` until it had a slot, and
    `service_s` from there to its end; `first_byte_s` from there to the answer's head. `None`: there was none, or nobody
    knows. `status` is that of the answer, 499 where the client left first. `key` is the id of the key it came with.
    """

    at: float
    wait_s: float
    service_s: float | None
    first_byte_s: float | None
    prompt_tokens: int | None
    completion_tokens: int | None
    status: int
    key: str | None


def failed(status: int) -> bool:
    """Does an answer with this status count as an error: was the request not served, and not for its own fault?"""
    return status == 429 or status >= 500


class By(StrEnum):
    """What usage is summed by."""

    ENDPOINT = "endpoint"
    KEY = "key"
    PROJECT = "project"
    HOUR = "hour"


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestUsage:
    """Requests summed up. `metered` of them told their tokens; without any, the numbers of tokens are unknown."""

    requests: int = 0
    errors: int = 0
    metered: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0

    def plus(self, other: RequestUsage) -> RequestUsage:
        """The sum."""
        return RequestUsage(
            requests=self.requests + other.requests,
            errors=self.errors + other.errors,
            metered=self.metered + other.metered,
            prompt_tokens=self.prompt_tokens + other.prompt_tokens,
            completion_tokens=self.completion_tokens + other.completion_tokens,
        )

    def since(self, before: RequestUsage) -> RequestUsage:
        """What was added since `before`; nothing where a sum is smaller now."""
        return RequestUsage(
            requests=max(0, self.requests - before.requests),
            errors=max(0, self.errors - before.errors),
            metered=max(0, self.metered - before.metered),
            prompt_tokens=max(0, self.prompt_tokens - before.prompt_tokens),
            completion_tokens=max(0, self.completion_tokens - before.completion_tokens),
        )

    @property
    def empty(self) -> bool:
        """Is there nothing in it?"""
        return not (self.requests or self.errors or self.metered)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerUsage:
    """The time of workers. `started_s`: from their start to their end, which is for how long they held their hardware;
    `ready_s`: of that, the time after they were ready. For `priced_s` of it there was a price; `cost` is what that
    time cost, in the unit of the price.
    """

    started_s: float = 0.0
    ready_s: float = 0.0
    priced_s: float = 0.0
    cost: float = 0.0

    def plus(self, other: WorkerUsage) -> WorkerUsage:
        """The sum."""
        return WorkerUsage(
            started_s=self.started_s + other.started_s,
            ready_s=self.ready_s + other.ready_s,
            priced_s=self.priced_s + other.priced_s,
            cost=self.cost + other.cost,
        )


@dataclass(frozen=True, slots=True)
class Hardware:
    """What time of workers is told apart by: the pool, and what one worker of it held (as in `2x h100`, or `cpu`)."""

    pool: str
    hardware: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageRow:
    """What one endpoint, key, project or hour used. `name` is what people call it. `workers` is `None` where time of
    workers cannot be told apart, which is so by key.
    """

    group: str
    name: str
    requests: RequestUsage
    workers: WorkerUsage | None
    hardware: tuple[tuple[Hardware, WorkerUsage], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageReport:
    """Usage of whole hours from `since` to `until`, in seconds since the epoch. `omitted`: groups only in the total.
    `facts_dropped`: facts of single requests that were not kept since the start of the gateway and of control.
    """

    by: By
    since: float
    until: float
    rows: tuple[UsageRow, ...]
    total: UsageRow
    omitted: int
    facts_dropped: int
