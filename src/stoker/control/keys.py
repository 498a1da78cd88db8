"""Keys: the one door through which they are made, changed and revoked, and where callers of control are recognised.

Usable keys are kept in memory, bearer keys by digest and signing keys by access id, for the gateway's table and for
every request to control.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from sqlalchemy import Connection

from stoker.control import audit, ids
from stoker.control.loop import Loop
from stoker.control.table import key_entry_of
from stoker.control.vault import Vault
from stoker.domain.access import OWN_NAME, ApiKey, KeyDraft, KeyId, KeyPatch, Principal, Scope, digest_of, reach
from stoker.domain.authorisation import Action, admit, authorise, visible
from stoker.domain.endpoint import Endpoint, EndpointId, ProjectId
from stoker.domain.errors import Conflict, Forbidden, Invalid, NotFound, Unauthenticated
from stoker.link.server import LinkServer
from stoker.policy.grants import check_description, check_expiry, check_grant, check_name, check_reach, patched
from stoker.store import audit as audit_rows
from stoker.store import installation
from stoker.store import keys as rows
from stoker.store.base import Store

# Longer than any key; a longer text is refused before it is hashed.
SECRET_CHARS_MAX = 512
ACK_WAIT_S = 1.0
KEYS_MAX = 10_000
EXPIRY_PERIOD_S = 1.0
USES_PERIOD_S = 60.0


class Keys:
    """See the module. `load` before use."""

    def __init__(
        self,
        store: Store,
        link: LinkServer,
        vault: Vault,
        *,
        clock: Callable[[], float],
        changed: Callable[[EndpointId], None],
    ) -> None:
        """`changed(endpoint)` is called for every endpoint that a new, changed or dropped key names."""
        self._store = store
        self._link = link
        self._vault = vault
        self._clock = clock
        self._changed = changed
        self._usable: dict[str, ApiKey] = {}
        self._signing: dict[str, ApiKey] = {}
        self._used: dict[KeyId, float] = {}
        self._owning = asyncio.Lock()

    async def load(self) -> None:
        """Read the usable keys and put them into the gateway's table."""
        now = self._clock()
        for key in await self._store.read(lambda tx: rows.usable(tx, now=now)):
            self._put(key)

    def loops(self) -> tuple[Loop, ...]:
        """What is to be done again and again."""
        return (
            Loop("expire keys", self.expire, period_s=EXPIRY_PERIOD_S),
            Loop("save uses of keys", self.save_used, period_s=USES_PERIOD_S),
        )

    def _put(self, key: ApiKey) -> None:
        if key.access_id is not None:
            self._signing[key.access_id] = key
        if key.digest is not None:
            self._usable[key.digest] = key
            self._link.put_key(key_entry_of(key))

    # Callers

    def principal(self, secret: str | None) -> Principal:
        """Who calls with this key. Raises `Unauthenticated`."""
        if not secret:
            raise Unauthenticated("a key is needed: send it as `Authorization: Bearer sk-...` or `X-API-Key: sk-...`")
        key = self._usable.get(digest_of(secret)) if len(secret) <= SECRET_CHARS_MAX else None
        if key is None or not key.usable(self._clock()):
            raise Unauthenticated("the key is not known here, has expired or was revoked")
        return self._principal(key)

    def signing(self, access_id: str) -> tuple[Principal, str]:
        """Who signs with this id, and the secret that the signature has to be checked with before anything is believed.
        Raises `Unauthenticated`.
        """
        key = self._signing.get(access_id)
        if key is None or key.sealed is None or not key.usable(self._clock()):
            raise Unauthenticated("the key is not known here, has expired or was revoked")
        return self._principal(key), self._vault.open("key", key.id, key.sealed)

    def _principal(self, key: ApiKey) -> Principal:
        self._used[key.id] = self._clock()
        return Principal(
            key=key.id,
            project=key.project,
            scopes=key.scopes,
            endpoints=key.endpoints,
            installation=key.installation,
        )

    def attached_to(self, endpoint: EndpointId) -> Iterable[str]:
        """Digests of the usable keys that name this endpoint and may call it."""
        return (
            digest
            for digest, key in self._usable.items()
            if key.endpoints is not None and endpoint in key.endpoints and Scope.INVOKE in reach(key.scopes)
        )

    def used(self, keys: Iterable[str]) -> None:
        """The gateway had requests with these keys."""
        now = self._clock()
        self._used.update((KeyId(key), now) for key in keys)

    async def save_used(self) -> None:
        """Write down which keys were used since the last time."""
        used, self._used = self._used, {}
        if used:
            await self._store.write(lambda tx: rows.used(tx, used))

    # Making

    async def make(self, draft: KeyDraft, *, project: ProjectId, by: Principal | None) -> tuple[ApiKey, str]:
        """Make a key: the record, and the secret that is shown this once. `by` cannot give more than it has (`None`:
        Stoker itself).

        Returns when the gateway knows the key, or after `ACK_WAIT_S`. Raises `Invalid`, `Conflict` and `Forbidden`.
        """
        check_name(draft.name)
        check_expiry(draft.expires_in_s)
        check_description(draft.description)
        if not draft.scopes:
            raise Invalid.at("/scopes", f"name at least one scope of {', '.join(Scope)}")
        if draft.installation and (draft.endpoints is not None or Scope.ADMIN not in draft.scopes):
            raise Invalid.at("/installation", "a key of the installation has scope admin and is not limited")
        if by is not None:
            admit(by, Action.KEY_CREATE)
            check_grant(by, draft)
        now = self._clock()
        access_id, secret = ids.signing_pair() if draft.signing else (None, ids.api_key())

        def add(tx: Connection) -> ApiKey:
            if rows.count(tx, project=project) >= KEYS_MAX:
                raise Conflict(f"a project has at most {KEYS_MAX} keys; revoke some first")
            id = KeyId(ids.uuid7(now))
            kept = draft.revealable or draft.signing
            key = ApiKey(
                id=id,
                number=installation.next_number(tx, "key"),
                project=project,
                name=draft.name,
                digest=None if draft.signing else digest_of(secret),
                access_id=access_id,
                hint=(access_id or secret)[:8],
                scopes=draft.scopes,
                endpoints=draft.endpoints,
                created_at=now,
                expires_at=None if draft.expires_in_s is None else now + draft.expires_in_s,
                sealed=self._vault.seal("key", id, secret) if kept else None,
                installation=draft.installation,
                limits=draft.limits,
                description=draft.description,
            )
            rows.add(tx, key)
            self._audit(tx, by, Action.KEY_CREATE, key, after=key)
            return key

        key = await self._store.write(add)
        self._put(key)
        await self._tell([key])
        return key, secret

    async def create(
        self,
        project: ProjectId,
        *,
        name: str,
        scopes: frozenset[Scope],
        endpoints: frozenset[EndpointId] | None = None,
        expires_in_s: float | None = None,
        installation: bool = False,
        granted_by: Principal | None = None,
    ) -> tuple[ApiKey, str]:
        """A plain bearer key; see `make`."""
        draft = KeyDraft(
            name=name, scopes=scopes, endpoints=endpoints, expires_in_s=expires_in_s, installation=installation
        )
        return await self.make(draft, project=project, by=granted_by)

    async def _tell(self, keys: Iterable[ApiKey]) -> None:
        for endpoint in {endpoint for key in keys for endpoint in key.endpoints or ()}:
            self._changed(endpoint)
        await self._link.wait_acked(self._link.seq, timeout_s=ACK_WAIT_S)

    # Reading

    async def get(self, by: Principal, reference: str) -> ApiKey:
        """The key of that id or number. Raises `NotFound`."""
        return self._fresh(await self._store.read(lambda tx: _found(tx, by, Action.KEY_READ, reference)))

    async def page(self, by: Principal, *, after: int, limit: int) -> tuple[tuple[ApiKey, ...], int | None]:
        """Keys that are not revoked and reach no further than the caller's, and the number to go on after."""
        admit(by, Action.KEY_LIST)
        found = await self._store.read(lambda tx: rows.page(tx, project=by.project, after=after, limit=limit + 1))
        shown = tuple(self._fresh(key) for key in found[:limit] if _visible(by, key))
        return shown, found[limit - 1].number if len(found) > limit else None

    def _fresh(self, key: ApiKey) -> ApiKey:
        """With uses that are not written down yet."""
        last = self._used.get(key.id)
        return key if last is None else replace(key, last_used_at=last)

    async def reveal(self, by: Principal, reference: str) -> tuple[ApiKey, str]:
        """The key with its secret; that it was shown is recorded before it is. Raises `NotFound`, `Conflict` for one
        that is not revealable.
        """

        def show(tx: Connection) -> ApiKey:
            key = _found(tx, by, Action.KEY_REVEAL, reference)
            if key.installation and not by.installation:
                raise Forbidden("a key of the installation is shown to such a key only")
            if reach(key.scopes) - reach(by.scopes):
                raise Forbidden("this key has scopes that the caller lacks")
            if key.sealed is None:
                raise Conflict("this key was not made revealable: only its digest is kept")
            self._audit(tx, by, Action.KEY_REVEAL, key)
            return key

        key = await self._store.write(show)
        assert key.sealed is not None
        return key, self._vault.open("key", key.id, key.sealed)

    async def own(self, by: Principal, endpoint: Endpoint) -> tuple[ApiKey, str]:
        """The key that an endpoint has for itself, and its secret: made when it is first asked for, shown again after
        that, revoked by `disown`. It calls this endpoint and does nothing else, so whoever may change the endpoint may
        have it. Raises `NotFound`, `Forbidden`, `Conflict`.
        """
        authorise(by, Action.ENDPOINT_REVEAL, project=endpoint.project, endpoint=endpoint.id, what="such endpoint")
        async with self._owning:
            key = self._own_of(endpoint.id)
            if key is None:
                draft = KeyDraft(
                    name=OWN_NAME,
                    scopes=frozenset({Scope.INVOKE}),
                    endpoints=frozenset({endpoint.id}),
                    revealable=True,
                )
                return await self.make(draft, project=endpoint.project, by=None)
        assert key.sealed is not None
        found, sealed = key, key.sealed
        await self._store.write(lambda tx: self._audit(tx, by, Action.KEY_REVEAL, found))
        return key, self._vault.open("key", key.id, sealed)

    async def disown(self, endpoint: Endpoint) -> None:
        """Revoke the key that the endpoint has for itself, if it has one. For an endpoint that is being deleted."""
        key = self._own_of(endpoint.id)
        if key is not None:
            await self.revoke(key.id, project=endpoint.project)

    def _own_of(self, endpoint: EndpointId) -> ApiKey | None:
        owners = frozenset({endpoint})
        return next((key for key in self._usable.values() if key.endpoints == owners and key.owned), None)

    # Changing

    async def update(self, by: Principal, reference: str, patch: KeyPatch) -> ApiKey:
        """Change name, endpoints, expiry or limits, here and at the gateway. Raises `NotFound`, `Invalid`, `Forbidden`,
        `Conflict` for a key that is revoked.
        """
        if "name" in patch.fields:
            check_name(patch.name)
        if "description" in patch.fields:
            check_description(patch.description)
        if "expires_in_s" in patch.fields:
            check_expiry(patch.expires_in_s)
        now = self._clock()

        def save(tx: Connection) -> tuple[ApiKey, ApiKey]:
            before = _found(tx, by, Action.KEY_UPDATE, reference)
            if before.revoked_at is not None:
                raise Conflict("the key is revoked")
            if before.installation and not by.installation:
                raise Forbidden("a key of the installation is changed by such a key only")
            after = patched(before, patch, now=now)
            check_reach(by, after)
            rows.save(tx, after)
            self._audit(tx, by, Action.KEY_UPDATE, after, before=before, after=after)
            return before, after

        before, after = await self._store.write(save)
        if after.usable(now):
            self._put(after)
        await self._tell([before, after])
        return self._fresh(after)

    async def revoke(self, reference: str, *, project: ProjectId | None = None, by: Principal | None = None) -> ApiKey:
        """Make a key useless, here and at the gateway. By Stoker itself it is of `project`. Raises `NotFound`."""
        now = self._clock()

        def revoke(tx: Connection) -> ApiKey:
            if by is None:
                assert project is not None
                key = rows.find(tx, reference, project=project)
                if key is None:
                    raise NotFound(f"no key {reference[:64]!r}")
            else:
                key = _found(tx, by, Action.KEY_REVOKE, reference)
                if key.installation and not by.installation:
                    raise Forbidden("a key of the installation is revoked by such a key only")
            if key.revoked_at is None:
                rows.revoke(tx, key.id, now=now)
                self._audit(tx, by, Action.KEY_REVOKE, key, before=key)
            return key

        key = await self._store.write(revoke)
        await self._drop([key])
        return replace(key, revoked_at=key.revoked_at or now)

    async def _drop(self, keys: Sequence[ApiKey]) -> None:
        for key in keys:
            if key.access_id is not None:
                self._signing.pop(key.access_id, None)
            if key.digest is not None:
                self._usable.pop(key.digest, None)
                self._link.drop_key(key.digest)
        await self._tell(keys)

    async def expire(self) -> None:
        """Drop the keys whose time is over."""
        now = self._clock()
        known = (*self._usable.values(), *self._signing.values())
        # All at once: with no gateway to acknowledge, each would keep the next one waiting in its table.
        if expired := [key for key in known if not key.usable(now)]:
            await self._drop(expired)

    def _audit(
        self,
        tx: Connection,
        by: Principal | None,
        action: Action,
        key: ApiKey,
        *,
        before: ApiKey | None = None,
        after: ApiKey | None = None,
    ) -> None:
        audit_rows.add(
            tx,
            audit.draft(
                by,
                action,
                at=self._clock(),
                project=key.project,
                target=key.id,
                name=key.name,
                before=None if before is None else audit.key_facts(before),
                after=None if after is None else audit.key_facts(after),
            ),
        )


def _visible(by: Principal, key: ApiKey) -> bool:
    return visible(by, Action.KEY_READ, project=key.project, limited_to=key.endpoints)


def _found(tx: Connection, by: Principal, action: Action, reference: str) -> ApiKey:
    key = rows.find(tx, reference, project=by.project)
    if key is None:
        raise NotFound(f"no key {reference[:64]!r}")
    authorise(by, action, project=key.project, limited_to=key.endpoints, what=f"key {reference[:64]!r}")
    return key
