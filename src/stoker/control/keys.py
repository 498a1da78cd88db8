"""Keys: the one door through which they are made and revoked, and where callers of control are recognised.

Usable keys are kept in memory by digest, for the gateway's table and for every request to control.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from sqlalchemy import Connection

from stoker.control import ids
from stoker.control.table import key_entry_of
from stoker.domain.access import ApiKey, KeyId, Principal, Scope, digest_of, reach
from stoker.domain.endpoint import EndpointId, ProjectId
from stoker.domain.errors import Forbidden, Invalid, NotFound, Unauthenticated
from stoker.link.server import LinkServer
from stoker.store import installation
from stoker.store import keys as rows
from stoker.store.base import Store

NAME_CHARS_MAX = 255
# Longer than any key; a longer text is refused before it is hashed.
SECRET_CHARS_MAX = 512
ACK_WAIT_S = 1.0
# A hundred years; beyond some thousand there is no date for it.
EXPIRES_S_MAX = 3_153_600_000.0


class Keys:
    """See the module. `load` before use."""

    def __init__(
        self,
        store: Store,
        link: LinkServer,
        *,
        clock: Callable[[], float],
        changed: Callable[[EndpointId], None],
    ) -> None:
        """`changed(endpoint)` is called for every endpoint that a new or dropped key names."""
        self._store = store
        self._link = link
        self._clock = clock
        self._changed = changed
        self._usable: dict[str, ApiKey] = {}

    async def load(self) -> None:
        """Read the usable keys and put them into the gateway's table."""
        now = self._clock()
        for key in await self._store.read(lambda tx: rows.usable(tx, now=now)):
            self._usable[key.digest] = key
            self._link.put_key(key_entry_of(key))

    def principal(self, secret: str | None) -> Principal:
        """Who calls with this key. Raises `Unauthenticated`."""
        if not secret:
            raise Unauthenticated("a key is needed: send it as `Authorization: Bearer sk-...` or `X-API-Key: sk-...`")
        key = self._usable.get(digest_of(secret)) if len(secret) <= SECRET_CHARS_MAX else None
        if key is None or not key.usable(self._clock()):
            raise Unauthenticated("the key is not known here, has expired or was revoked")
        return Principal(key=key.id, project=key.project, scopes=key.scopes, endpoints=key.endpoints)

    def attached_to(self, endpoint: EndpointId) -> Iterable[str]:
        """Digests of the usable keys that name this endpoint and may call it."""
        return (
            digest
            for digest, key in self._usable.items()
            if key.endpoints is not None and endpoint in key.endpoints and Scope.INVOKE in reach(key.scopes)
        )

    async def create(
        self,
        project: ProjectId,
        *,
        name: str,
        scopes: frozenset[Scope],
        endpoints: frozenset[EndpointId] | None = None,
        expires_in_s: float | None = None,
        granted_by: Principal | None = None,
    ) -> tuple[ApiKey, str]:
        """Make a key: the record, and the secret that is shown this once. `granted_by` cannot give more than it has.

        Returns when the gateway knows the key, or after `ACK_WAIT_S`. Raises `Invalid` and `Forbidden`.
        """
        if not name.strip() or len(name) > NAME_CHARS_MAX or not name.isprintable():
            raise Invalid.at("/name", f"a key's name has between 1 and {NAME_CHARS_MAX} printable characters")
        if not scopes:
            raise Invalid.at("/scopes", f"name at least one scope of {', '.join(Scope)}")
        if expires_in_s is not None and not 0 < expires_in_s <= EXPIRES_S_MAX:
            raise Invalid.at("/expires_in_s", f"expires_in_s must be above 0 and at most {EXPIRES_S_MAX:.0f}")
        if granted_by is not None:
            _check_grant(granted_by, scopes, endpoints)
        now = self._clock()
        secret = ids.api_key()

        def add(tx: Connection) -> ApiKey:
            key = ApiKey(
                id=KeyId(ids.uuid7(now)),
                number=installation.next_number(tx, "key"),
                project=project,
                name=name,
                digest=digest_of(secret),
                hint=secret[:8],
                scopes=scopes,
                endpoints=endpoints,
                created_at=now,
                expires_at=None if expires_in_s is None else now + expires_in_s,
            )
            rows.add(tx, key)
            return key

        key = await self._store.write(add)
        self._usable[key.digest] = key
        self._link.put_key(key_entry_of(key))
        await self._tell([key])
        return key, secret

    async def _tell(self, keys: Iterable[ApiKey]) -> None:
        for endpoint in {endpoint for key in keys for endpoint in key.endpoints or ()}:
            self._changed(endpoint)
        await self._link.wait_acked(self._link.seq, timeout_s=ACK_WAIT_S)

    async def revoke(self, reference: str, *, project: ProjectId) -> ApiKey:
        """Make a key useless, here and at the gateway. Raises `NotFound`."""
        now = self._clock()
        key = await self._store.read(lambda tx: rows.find(tx, reference, project=project))
        if key is None:
            raise NotFound(f"no key {reference[:64]!r}")
        await self._store.write(lambda tx: rows.revoke(tx, key.id, now=now))
        await self._drop([key])
        return replace(key, revoked_at=key.revoked_at or now)

    async def _drop(self, keys: Sequence[ApiKey]) -> None:
        for key in keys:
            self._usable.pop(key.digest, None)
            self._link.drop_key(key.digest)
        await self._tell(keys)

    async def expire(self) -> None:
        """Drop the keys whose time is over. Called every second."""
        now = self._clock()
        # All at once: with no gateway to acknowledge, each would keep the next one waiting in its table.
        if expired := [key for key in self._usable.values() if not key.usable(now)]:
            await self._drop(expired)


def _check_grant(by: Principal, scopes: frozenset[Scope], endpoints: frozenset[EndpointId] | None) -> None:
    beyond = reach(scopes) - reach(by.scopes)
    if beyond:
        raise Forbidden(f"a key cannot give scopes that it lacks: {', '.join(sorted(beyond))}")
    if by.endpoints is not None and (endpoints is None or not endpoints <= by.endpoints):
        raise Forbidden("a key limited to some endpoints cannot make one that reaches further")
