"""Tasks: requests that are kept until a worker has answered them, their states, attempts and webhooks.

Frozen values that refuse to exist when they make no sense: `Invalid` carries a JSON pointer to the place.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NewType

from stoker.domain.access import Sealed
from stoker.domain.endpoint import EndpointId, ProjectId
from stoker.domain.errors import Invalid
from stoker.domain.limits import within
from stoker.domain.queueing import EVENTS, RetryPolicy

TaskNumber = NewType("TaskNumber", int)

INPUT_BYTES_MAX = 10 * 1024 * 1024
# Bodies up to this size lie in the database, larger ones in files.
INLINE_BYTES_MAX = 64 * 1024
BATCH_MAX = 1_000
PRIORITY_MAX = 1_000
HEADERS_MAX = 64
HEADER_CHARS_MAX = 4_096
TARGET_CHARS_MAX = 4_096
URL_CHARS_MAX = 2_048
KEY_CHARS_MAX = 1_024
REASON_CHARS_MAX = 1_000
_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._:-]{0,254}\Z")
_METHOD = re.compile(r"[A-Z]{1,20}\Z")
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}\Z")
# What belongs to a connection, or to Stoker.
_OWN_HEADERS = frozenset(
    {
        "connection",
        "content-length",
        "content-type",
        "cookie",
        "expect",
        "forwarded",
        "host",
        "keep-alive",
        "proxy-authorization",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)


class TaskState(StrEnum):
    """Where a task is. The last four are final: they never change."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"

    @property
    def final(self) -> bool:
        """Does it stay so?"""
        return not TRANSITIONS[self]


# A running task is queued again for another attempt, or because no worker had it after all. TTL counts until the start
# alone, so that nothing expires while it runs.
TRANSITIONS: Mapping[TaskState, frozenset[TaskState]] = {
    TaskState.QUEUED: frozenset({TaskState.RUNNING, TaskState.CANCELLED, TaskState.EXPIRED}),
    TaskState.RUNNING: frozenset({TaskState.QUEUED, TaskState.SUCCEEDED, TaskState.FAILED, TaskState.CANCELLED}),
    TaskState.SUCCEEDED: frozenset(),
    TaskState.FAILED: frozenset(),
    TaskState.CANCELLED: frozenset(),
    TaskState.EXPIRED: frozenset(),
}
FINAL = tuple(state for state in TaskState if state.final)


class Outcome(StrEnum):
    """How an attempt ended. ANSWERED: a worker gave a whole answer, of whatever status. BROKEN: one had it and gave
    none. TIMED_OUT: it took longer than it may. ABORTED: it was cancelled.
    """

    ANSWERED = "answered"
    BROKEN = "broken"
    TIMED_OUT = "timed_out"
    ABORTED = "aborted"


class OnDuplicate(StrEnum):
    """What a second task with the same id is. SAME: the first one again when it asks for the same, else a conflict.
    EXISTING: the first one, whatever it asks for. REFUSE: a conflict.
    """

    SAME = "same"
    EXISTING = "existing"
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookSpec:
    """Where the end of a task is told. `secret` names the secret of the project that signs it; `key` is the id of a key
    that came with the task and is kept encrypted. `form` names who wrote it down: the empty one is Stoker's own, which
    is always signed.
    """

    url: str
    secret: str | None = None
    key: str | None = None
    form: str = ""
    events: tuple[str, ...] = EVENTS

    def __post_init__(self) -> None:
        if not 1 <= len(self.url) <= URL_CHARS_MAX:
            raise Invalid.at("/webhook/url", f"a URL has at most {URL_CHARS_MAX} characters")
        for index, event in enumerate(self.events):
            if event not in EVENTS:
                raise Invalid.at(f"/webhook/events/{index}", f"there are the events {', '.join(EVENTS)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """A body: in `inline`, or in the file of that name in the spool; `size` in bytes."""

    size: int
    inline: bytes | None = None
    file: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskDraft:
    """What a caller asks for. Left out (`None`) is as the endpoint says. `input` is the request's body. `webhook_key`
    is a key itself, where `webhook_secret` names one; `webhook_form` is for faces that speak for another cloud.
    """

    input: bytes
    content_type: str
    id: str | None = None
    method: str = "POST"
    target: str | None = None
    port: int | None = None
    headers: tuple[tuple[str, str], ...] = ()
    priority: int = 0
    ttl_s: float | None = None
    execution_timeout_s: float | None = None
    retries: RetryPolicy | None = None
    webhook_url: str | None = None
    webhook_secret: str | None = None
    webhook_key: str | None = field(default=None, repr=False)
    webhook_form: str = ""
    webhook_events: tuple[str, ...] | None = None
    on_duplicate: OnDuplicate = OnDuplicate.SAME

    def __post_init__(self) -> None:
        if self.id is not None and not _ID.match(self.id):
            raise Invalid.at("/id", "an id has up to 255 letters, digits, dots, dashes, colons and underscores")
        if not _METHOD.match(self.method):
            raise Invalid.at("/method", "a method is a word of capital letters")
        if self.target is not None:
            check_target("/path", self.target)
        if self.port is not None:
            within("/port", self.port, 1, 65_535)
        within("/priority", self.priority, -PRIORITY_MAX, PRIORITY_MAX)
        if self.ttl_s is not None:
            within("/ttl_s", self.ttl_s, 1, 2_592_000)
        if self.execution_timeout_s is not None:
            within("/execution_timeout_s", self.execution_timeout_s, 0.1, 604_800)
        if len(self.content_type) > 255 or not _printable(self.content_type):
            raise Invalid.at("/content_type", "a content type has at most 255 printable characters")
        if self.webhook_key is not None and not (0 < len(self.webhook_key) <= KEY_CHARS_MAX):
            raise Invalid.at("/webhook/key", f"a key has between 1 and {KEY_CHARS_MAX} characters")
        if self.webhook_key is not None and self.webhook_secret is not None:
            raise Invalid.at("/webhook/key", "either a key or the name of a secret")
        self._check_headers()

    def _check_headers(self) -> None:
        if len(self.headers) > HEADERS_MAX:
            raise Invalid.at("/headers", f"at most {HEADERS_MAX} headers")
        for name, value in self.headers:
            lower = name.lower()
            if not _HEADER.match(name) or "_" in name:
                raise Invalid.at("/headers", f"{name[:64]!r} is not a name for a header")
            if lower in _OWN_HEADERS or lower.startswith(("x-stoker-", "x-forwarded-")):
                raise Invalid.at(f"/headers/{name}", "this header is not a task's to say")
            if len(value) > HEADER_CHARS_MAX or not _printable(value):
                raise Invalid.at(f"/headers/{name}", f"a value has at most {HEADER_CHARS_MAX} printable characters")


def check_target(pointer: str, target: str) -> None:
    """Refuse what is no path of a request, with or without a query. Raises `Invalid`."""
    if len(target) > TARGET_CHARS_MAX or not target.startswith("/") or not _printable(target) or set(target) & {*" #"}:
        raise Invalid.at(
            pointer, f"a path begins with / and has at most {TARGET_CHARS_MAX} ASCII characters, none blank"
        )


def _printable(text: str) -> bool:
    return text.isascii() and (text.isprintable() or not text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A recorded task. Times are seconds since the epoch.

    `id` is unique at its endpoint; `number` everywhere. `not_before` is when it may be attempted; `expires_at` counts
    until it is first started. `attempts` are those that a worker had; `deliveries` counts leases as well that came to
    nothing. While it runs, `lease` is the id of its attempt, held by `holder` until `lease_until`. `status`, `worker`
    and `reason` are those of the last attempt. `cancelling`: it is to end as soon as it can. `port` is one that the
    endpoint declares, where it is not the one that requests go to.
    """

    number: TaskNumber
    id: str
    endpoint: EndpointId
    project: ProjectId
    state: TaskState
    priority: int
    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    content_type: str
    input: Body
    digest: str
    retries: RetryPolicy
    execution_timeout_s: float
    retention_s: float
    created_at: float
    not_before: float
    webhook: WebhookSpec | None = None
    expires_at: float | None = None
    started_at: float | None = None
    ended_at: float | None = None
    attempts: int = 0
    deliveries: int = 0
    lease: str | None = None
    holder: str | None = None
    lease_until: float | None = None
    cancelling: bool = False
    status: int | None = None
    worker: str | None = None
    reason: str = ""
    result: Body | None = None
    result_type: str | None = None
    retry_of: str | None = None
    port: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One time that a worker had the task. `number` counts from 1."""

    number: int
    worker: str | None
    began_at: float
    ended_at: float
    outcome: Outcome
    status: int | None
    reason: str


class DeliveryState(StrEnum):
    """PENDING: it is tried, again and again. DELIVERED: it was taken. FAILED: it is given up."""

    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """A webhook to be sent: written with the state that it tells of. `payload` never changes, nor does `id`, so that
    its receiver can tell a repetition. `secret` names what it is signed with, or `key` is the id of it; `form` is as in
    `WebhookSpec`.
    """

    id: str
    number: int
    task: TaskNumber
    task_id: str
    endpoint: EndpointId
    project: ProjectId
    event: str
    url: str
    secret: str | None
    payload: bytes
    created_at: float
    next_at: float
    state: DeliveryState = DeliveryState.PENDING
    tries: int = 0
    status: int | None = None
    error: str = ""
    ended_at: float | None = None
    key: str | None = None
    form: str = ""


@dataclass(frozen=True, slots=True)
class EndedAttempt:
    """What a gateway tells of an attempt that has ended. `seq` counts ends from 1; `size` is that of the answer, `body`
    is left out where it is long.
    """

    seq: int
    id: str
    state: str
    reason: str = ""
    worker: str | None = None
    status: int | None = None
    content_type: str | None = None
    retry_after: str | None = None
    size: int = 0
    body: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptKey:
    """A key that came with a task, encrypted. `id` is what its webhook says of it."""

    id: str
    task: TaskNumber
    sealed: Sealed


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueDemand:
    """What scaling is told of a queue. `ready` of the `queued` may go now. `oldest_age_s` is how long the first one has
    waited, `None` when none does; `arrivals_per_s` is of the last minute. Since the start: `came` in all, `begun` and
    `stopped` attempts.
    """

    queued: int = 0
    ready: int = 0
    running: int = 0
    oldest_age_s: float | None = None
    arrivals_per_s: float = 0.0
    came: int = 0
    begun: int = 0
    stopped: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueTotals:
    """What metrics tell of a queue: how it stands, and how many tasks came and ended, by state, since a start."""

    demand: QueueDemand
    arrived: int
    ended: Mapping[TaskState, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueView:
    """An endpoint's queue as it stands. `ready` may go now, others wait for their next attempt."""

    queued: int
    ready: int
    running: int
    oldest_age_s: float | None
    arrivals_per_s: float
    paused: bool
    counts: Mapping[str, int] = field(default_factory=dict)
