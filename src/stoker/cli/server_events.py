"""Server-sent events of the API, over connections that break and end: each event once, in order."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stoker.cli.client import API, LINE_BYTES_MAX, Client
from stoker.cli.errors import CliError, Exit

if TYPE_CHECKING:
    from http.client import HTTPResponse

# The server says something every few seconds.
SILENCE_S_MAX = 120.0
# Without anything new in between. A connection that lasted was none in vain.
TRIES_MAX = 10
LASTED_S = 5.0
RETRY_S = 0.1
RETRY_S_MAX = 1.0


@dataclass(frozen=True, slots=True)
class Event:
    """A server-sent event."""

    id: str
    name: str
    data: str


def followed(
    client: Client,
    path: str,
    *,
    after: str | None = None,
    query: Mapping[str, object] | None = None,
    last: Callable[[Event], bool],
) -> Iterator[Event]:
    """The events of `path` after the one with the id `after`, until `last(event)` or an answer without content. Raises
    `CliError` when none comes of it any more.
    """
    tries = 0
    while True:
        ended, began = False, time.monotonic()
        headers = {} if after is None else {"Last-Event-ID": after}
        try:
            with client.open("GET", API + path, headers=headers, query=query, timeout_s=SILENCE_S_MAX) as response:
                if response.status == 204:
                    return
                for place, event in _events(response):
                    after = place
                    if event is not None:
                        ended, tries = last(event), 0
                        yield event
        except CliError as exc:
            if exc.code is not Exit.UNREACHABLE or tries >= TRIES_MAX:
                raise
        if ended:
            return
        if time.monotonic() - began > LASTED_S:
            tries = 0
        if tries >= TRIES_MAX:
            raise CliError("the events end before what they tell of does", Exit.UNREACHABLE)
        tries += 1
        time.sleep(min(RETRY_S_MAX, RETRY_S * tries))


def _events(response: HTTPResponse) -> Iterator[tuple[str, Event | None]]:
    """Each with the id to go on after; `None` where that is all."""
    fields: dict[str, list[str]] = {}
    while line := response.readline(LINE_BYTES_MAX):
        text = line.decode("utf-8", "replace").rstrip("\r\n")
        if text:
            name, _, value = text.partition(":")
            fields.setdefault(name, []).append(value.removeprefix(" "))
        elif fields:
            if "id" in fields:
                id, data = fields["id"][-1], fields.get("data")
                yield id, None if data is None else Event(id, fields.get("event", [""])[-1], "\n".join(data))
            fields = {}
