"""May this request call that endpoint? Looks credentials up by digest in the table; keeps none, logs none.

A secret is compared by its SHA-256 alone, so that how long a look-up takes says nothing of how near a guess came.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from urllib.parse import unquote_to_bytes

from stoker.domain.access import digest_of
from stoker.domain.endpoint import Access
from stoker.domain.routing import KEY_PLACES
from stoker.gateway.head import Request
from stoker.gateway.table import Table
from stoker.link.messages import EndpointEntry, KeyEntry

# Longer than any key: not worth hashing.
SECRET_BYTES_MAX = 1_024


class Verdict(Enum):
    """ALLOWED; UNKNOWN: no credential that the table knows; FORBIDDEN: a known one that does not reach this far."""

    ALLOWED = "allowed"
    UNKNOWN = "unknown"
    FORBIDDEN = "forbidden"


class Caller:
    """Who asks, as far as the table knows: `key`, found in one of `places`; the first of them that knows it counts.

    Wherever a known key stood it is not for the worker to see: `authorization_verified` and `api_key_verified` say so
    of the two usual headers, `lines` are the other header lines without it, `target` is the target without it.
    `wall` gives seconds since the epoch.
    """

    __slots__ = ("api_key_verified", "authorization_verified", "key", "lines", "target")

    def __init__(
        self, request: Request, table: Table, wall: Callable[[], float], places: tuple[str, ...] = KEY_PLACES
    ) -> None:
        self.key: KeyEntry | None = None
        self.authorization_verified = False
        self.api_key_verified = False
        self.lines = request.lines
        self.target = request.target
        if places == KEY_PLACES:
            # What nearly every request comes with, without looking further.
            if request.authorization is not None:
                self.key = self._authorization(request, b"bearer", table, wall)
            if request.api_key is not None:
                known = _known(request.api_key, table, wall)
                self.api_key_verified = known is not None
                self.key = self.key or known
            return
        for place in places:
            if place == "bearer":
                known = self._authorization(request, b"bearer", table, wall)
            elif place == "header:x-api-key":
                known = None if request.api_key is None else _known(request.api_key, table, wall)
                self.api_key_verified = known is not None
            else:
                known = self._elsewhere(request, place, table, wall)
            if known is not None and self.key is None:
                self.key = known

    def _authorization(
        self, request: Request, scheme: bytes, table: Table, wall: Callable[[], float]
    ) -> KeyEntry | None:
        value = request.authorization
        length = len(scheme)
        if value is None or value[:length].lower() != scheme or value[length : length + 1] != b" ":
            return None
        known = _known(value[length + 1 :].strip(), table, wall)
        if known is not None:
            self.authorization_verified = True
        return known

    def _elsewhere(self, request: Request, place: str, table: Table, wall: Callable[[], float]) -> KeyEntry | None:
        kind, _, name = place.partition(":")
        wanted = name.lower().encode()
        if kind == "scheme":
            return self._authorization(request, wanted, table, wall)
        return self._header(wanted, table, wall) if kind == "header" else self._query(name.encode(), table, wall)

    def _header(self, wanted: bytes, table: Table, wall: Callable[[], float]) -> KeyEntry | None:
        for line in self.lines:
            name, _, value = line.partition(b":")
            if name.lower() == wanted and (known := _known(value.strip(), table, wall)) is not None:
                self.lines = [other for other in self.lines if other is not line]
                return known
        return None

    def _query(self, wanted: bytes, table: Table, wall: Callable[[], float]) -> KeyEntry | None:
        path, mark, query = self.target.partition(b"?")
        if not mark:
            return None
        found: KeyEntry | None = None
        left: list[bytes] = []
        for pair in query.split(b"&"):
            name, _, value = pair.partition(b"=")
            known = _known(unquote_to_bytes(value), table, wall) if name == wanted else None
            if known is None:
                left.append(pair)
            else:
                found = found or known
        if found is not None:
            self.target = path + b"?" + b"&".join(left) if left else path
        return found

    def may_call(self, entry: EndpointEntry) -> Verdict:
        """What the endpoint's access says of this caller."""
        if entry.access == Access.OPEN:
            return Verdict.ALLOWED
        key = self.key
        if key is None:
            return Verdict.UNKNOWN
        if entry.access == Access.ATTACHED:
            return Verdict.ALLOWED if key.digest in entry.attached else Verdict.FORBIDDEN
        permitted = key.invoke and key.project == entry.project and (key.endpoints is None or entry.id in key.endpoints)
        return Verdict.ALLOWED if permitted else Verdict.FORBIDDEN


def _known(secret: bytes, table: Table, wall: Callable[[], float]) -> KeyEntry | None:
    if len(secret) > SECRET_BYTES_MAX:
        return None
    key = table.keys.get(digest_of(secret.decode("latin-1")))
    if key is not None and key.expires_at is not None and wall() >= key.expires_at:
        return None
    if key is not None:
        table.keys_used.add(key.id)
    return key
