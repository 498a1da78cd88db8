"""Follow an operation to its end, showing the endpoint's events as they come."""

from __future__ import annotations

import time
from typing import Any

from stoker.cli import durations, output
from stoker.cli.client import Client
from stoker.cli.errors import CliError, Exit

# How long the API may hold an answer back: short, because the events are asked for in between.
POLL_S = 0.5
EVENTS_MAX = 100
LOG_LINES = 20
DEFAULT_TIMEOUT_S = 1800.0


def follow(client: Client, changed: Any, progress: output.Progress, *, timeout_s: float) -> Any:
    """Wait until the operation in `changed` (an answer of the API) has ended; returns the endpoint as it is then,
    `None` when it is gone.

    Raises `CliError`: exit code 5 after `timeout_s`, 1 with the last lines of output when the operation has failed.
    """
    endpoint, operation = changed["endpoint"], changed["operation"]
    if operation is None:
        return endpoint
    deadline = time.monotonic() + timeout_s
    events = _Events(client, endpoint["id"], operation["created_at"])
    while operation["ended_at"] is None:
        if time.monotonic() > deadline:
            raise CliError(
                f"{endpoint['name']}: not done after {timeout_s:g} s; it goes on in the background",
                Exit.TIMED_OUT,
                details=(f"see `stoker show {endpoint['slug']}`",),
            )
        operation = client.get(f"/operations/{operation['id']}", wait_s=POLL_S)
        for event in events.new():
            progress.say(event["message"])
        progress.now(f"{operation['kind']} {endpoint['name']}")
    if operation["state"] != "success":
        raise _failure(client, endpoint, operation)
    return _final(client, endpoint["id"])


class _Events:
    """The endpoint's events since the operation began, each once."""

    def __init__(self, client: Client, endpoint: str, since: str | None) -> None:
        self._client = client
        self._path = f"/endpoints/{endpoint}/events"
        self._since = None if since is None else durations.moment(since)
        self._after: int | None = None

    def new(self) -> list[Any]:
        try:
            items = self._client.get(self._path, after=self._after, limit=EVENTS_MAX)["items"]
        except CliError as exc:
            if exc.status == 404:
                # A deleted endpoint takes its events with it.
                return []
            raise
        if items:
            self._after = max(item["number"] for item in items)
        return [item for item in items if self._since is None or durations.moment(item["at"]) >= self._since]


def _final(client: Client, endpoint: str) -> Any:
    try:
        return client.get(f"/endpoints/{endpoint}")
    except CliError as exc:
        if exc.status == 404:
            return None
        raise


def _failure(client: Client, endpoint: Any, operation: Any) -> CliError:
    message = f"{endpoint['name']}: {operation['kind']} did not succeed: {operation['message'] or operation['state']}"
    details: list[str] = []
    try:
        lines = list(client.lines(f"/endpoints/{endpoint['id']}/logs", query={"tail": LOG_LINES}, timeout_s=10))
    except CliError:
        # The failure itself is what matters; its log may be gone with the endpoint.
        lines = []
    if lines:
        details += ["last output:", *(f"  {entry['text']}" for entry in lines)]
    details.append(f"see `stoker show {endpoint['slug']}` and `stoker logs {endpoint['slug']}`")
    code = Exit.TIMED_OUT if operation["state"] == "timeout" else Exit.FAILED
    return CliError(message, code, details=tuple(details))
