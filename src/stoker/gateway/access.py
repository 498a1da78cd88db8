"""May this request call that endpoint? Looks credentials up by digest in the table; keeps none."""

from __future__ import annotations

from enum import Enum

from stoker.domain.access import digest_of
from stoker.domain.endpoint import Access
from stoker.gateway.head import Request
from stoker.gateway.table import Table
from stoker.link.messages import EndpointEntry, KeyEntry


class Verdict(Enum):
    """ALLOWED; UNKNOWN: no credential that the table knows; FORBIDDEN: a known one that does not reach this far."""

    ALLOWED = "allowed"
    UNKNOWN = "unknown"
    FORBIDDEN = "forbidden"


class Caller:
    """Who asks, as far as the table knows: `key`, and which of the two headers held it."""

    __slots__ = ("api_key_verified", "authorization_verified", "key")

    def __init__(self, request: Request, table: Table) -> None:
        self.key: KeyEntry | None = None
        self.authorization_verified = False
        self.api_key_verified = False
        if request.api_key is not None:
            self.key = _known(request.api_key, table)
            self.api_key_verified = self.key is not None
        authorization = request.authorization
        if authorization is not None and authorization[:7].lower() == b"bearer ":
            bearer = _known(authorization[7:].strip(), table)
            if bearer is not None:
                self.key = bearer
                self.authorization_verified = True

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


def _known(secret: bytes, table: Table) -> KeyEntry | None:
    entry = table.keys.get(digest_of(secret.decode("latin-1")))
    if entry is not None:
        table.keys_used.add(entry.id)
    return entry
