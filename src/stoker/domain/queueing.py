"""What an endpoint's owner says about tasks: whether there are any, how long they live, how they are tried again and
where their end is told.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum

from stoker.domain.errors import Invalid
from stoker.domain.limits import within

ATTEMPTS_MAX = 100
RETRY_ON_MAX = 32
_CLASS = re.compile(r"[1-5](?:xx|\d\d)\Z")
# What can be told of a task; each is an end of it.
EVENTS = ("task.succeeded", "task.failed", "task.cancelled", "task.expired")


class Mode(StrEnum):
    """How an endpoint is called. HTTP: by requests. QUEUE: by tasks. MIXED: by both."""

    HTTP = "http"
    QUEUE = "queue"
    MIXED = "mixed"


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """Up to `attempts_max` attempts; after the first the next one waits for `backoff_s`, then twice as long each time,
    up to `backoff_s_max`, each wait between a half and all of it at random.

    `retry_on` says after what: statuses (`503`), classes of them (`5xx`), `connection` (a worker had it and gave no
    whole answer), `timeout`. All else is final.
    """

    attempts_max: int = 3
    backoff_s: float = 2.0
    backoff_s_max: float = 300.0
    retry_on: tuple[str, ...] = ("408", "425", "429", "5xx", "connection")

    def __post_init__(self) -> None:
        within("/attempts_max", self.attempts_max, 1, ATTEMPTS_MAX)
        within("/backoff_s", self.backoff_s, 0, 86_400)
        within("/backoff_s_max", self.backoff_s_max, 0, 86_400)
        if len(self.retry_on) > RETRY_ON_MAX:
            raise Invalid.at("/retry_on", f"at most {RETRY_ON_MAX} reasons to try again")
        for index, reason in enumerate(self.retry_on):
            if reason not in ("connection", "timeout") and not _CLASS.match(reason):
                detail = "a status (503), a class of them (5xx), connection or timeout"
                raise Invalid.at(f"/retry_on/{index}", detail)


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueSpec:
    """What holds for tasks that do not say otherwise. `path` is where they are posted to. At most `backlog_max` wait.
    One that has not started within `ttl_s` expires; one attempt takes at most `execution_timeout_s`; a record with its
    result stays for `retention_s` after its end.

    `cancel_path` is where a worker is told that the task which it has is cancelled; it then has `cancel_grace_s` to end
    the request itself, before that is aborted. Without one it is aborted at once.

    `pull`: workers ask for tasks themselves and are sent none. One that is not heard of for `lease_s` has lost those
    that it had.
    """

    path: str = "/"
    backlog_max: int = 100_000
    ttl_s: float | None = 86_400.0
    execution_timeout_s: float = 600.0
    retention_s: float = 86_400.0
    retries: RetryPolicy = field(default_factory=RetryPolicy)
    cancel_path: str | None = None
    cancel_grace_s: float = 10.0
    pull: bool = False
    lease_s: float = 30.0

    def __post_init__(self) -> None:
        for pointer, path in (("/queue/path", self.path), ("/queue/cancel_path", self.cancel_path)):
            if path is not None and not _is_path(path):
                raise Invalid.at(pointer, "a path begins with / and has at most 1024 ASCII characters, none blank")
        if self.cancel_path is not None and self.pull:
            raise Invalid.at("/queue/cancel_path", "workers that ask for tasks are told when they ping")
        within("/queue/cancel_grace_s", self.cancel_grace_s, 0, 3_600)
        within("/queue/backlog_max", self.backlog_max, 1, 10_000_000)
        if self.ttl_s is not None:
            within("/queue/ttl_s", self.ttl_s, 1, 2_592_000)
        within("/queue/execution_timeout_s", self.execution_timeout_s, 0.1, 604_800)
        within("/queue/retention_s", self.retention_s, 1, 31_536_000)
        within("/queue/lease_s", self.lease_s, 3, 3_600)

    @property
    def ping_s(self) -> int:
        """How often a worker that asks for tasks says that it is there: three times in `lease_s`, in whole seconds."""
        return max(1, min(10, int(self.lease_s / 3)))


def _is_path(path: str) -> bool:
    return path.startswith("/") and len(path) <= 1_024 and path.isascii() and path.isprintable() and " " not in path


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhooksSpec:
    """Where the end of every task is told that does not say otherwise (`url`), the project's secret that all webhooks
    of the endpoint are signed with, and which events are told.
    """

    url: str | None = None
    secret: str | None = None
    events: tuple[str, ...] = EVENTS

    def __post_init__(self) -> None:
        if self.url is not None and self.secret is None:
            raise Invalid.at("/webhooks/secret", "webhooks are signed: name a secret of the project")
        if self.url is not None and not 1 <= len(self.url) <= 2_048:
            raise Invalid.at("/webhooks/url", "a URL has at most 2048 characters")
        for index, event in enumerate(self.events):
            if event not in EVENTS:
                raise Invalid.at(f"/webhooks/events/{index}", f"there are the events {', '.join(EVENTS)}")
