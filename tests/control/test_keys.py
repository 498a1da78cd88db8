"""Keys: made once, kept as digests, and known to the gateway as long as they are good."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from simulation import virtual
from simulation.world import ADMIN, World, spec, world
from stoker.control import keyring
from stoker.control.keys import Keys
from stoker.control.vault import Vault
from stoker.domain.access import OWN_NAME, KeyDraft, KeyId, Principal, Scope, digest_of
from stoker.domain.endpoint import Access, EndpointId
from stoker.domain.errors import Forbidden, Invalid, NotFound, Unauthenticated
from stoker.link.server import LinkServer
from stoker.store import installation, sqlite
from stoker.store.installation import DEFAULT_PROJECT


class Nobody:
    """Listens to a link and does nothing."""

    def gateway_connected(self) -> None: ...

    def gateway_lost(self) -> None: ...

    def gateway_leaves(self) -> None: ...

    def reported(self, report: object) -> None: ...

    def woken(self, wake: object) -> None: ...

    def worker_down(self, down: object) -> None: ...

    def freed(self, freed: object) -> None: ...

    def leaver_reported(self, incarnation: str, report: object) -> None: ...

    def gateway_left(self, incarnation: str) -> None: ...

    def acknowledged(self, seq: int) -> None: ...


class Patient(LinkServer):
    """A link whose gateway has everything at once."""

    async def wait_acked(self, seq: int, *, timeout_s: float) -> bool:
        return True


def run(body: Callable[[World], Awaitable[None]]) -> None:
    async def main() -> None:
        async with world() as made:
            await body(made)

    virtual.run(main())


def known(w: World, secret: str) -> bool:
    """Does the gateway's table have this key?"""
    return digest_of(secret) in w.stoker.link._keys


async def make(w: World, *scopes: Scope, endpoints: list[EndpointId] | None = None, s: float | None = None) -> str:
    limited = None if endpoints is None else frozenset(endpoints)
    made = w.stoker.keys.create(DEFAULT_PROJECT, name="k", scopes=frozenset(scopes), endpoints=limited, expires_in_s=s)
    return (await made)[1]


def test_a_new_key_is_known_here_and_at_the_gateway_when_it_is_answered() -> None:
    async def body(w: World) -> None:
        secret = await make(w, Scope.INVOKE)
        assert known(w, secret)
        assert w.stoker.link.acked == w.stoker.link.seq
        assert w.stoker.keys.principal(secret).scopes == {Scope.INVOKE}

    run(body)


@pytest.mark.parametrize("secret", [None, "", "sk-unknown", "x" * 100_000, "\N{PILE OF POO}"])
def test_what_is_no_key_is_nobody(secret: str | None) -> None:
    async def body(w: World) -> None:
        with pytest.raises(Unauthenticated):
            w.stoker.keys.principal(secret)

    run(body)


def test_a_revoked_key_is_unknown_here_and_at_the_gateway_and_after_a_new_start() -> None:
    async def body(w: World) -> None:
        key, secret = await w.stoker.keys.create(DEFAULT_PROJECT, name="k", scopes=frozenset({Scope.READ}))
        first = await w.stoker.keys.revoke(str(key.number), project=DEFAULT_PROJECT)
        assert not known(w, secret)
        await asyncio.sleep(10)
        again = await w.stoker.keys.revoke(key.id, project=DEFAULT_PROJECT)
        assert again.revoked_at == first.revoked_at is not None
        await w.crash()
        await w.boot()
        assert not known(w, secret)
        with pytest.raises(Unauthenticated):
            w.stoker.keys.principal(secret)
        with pytest.raises(NotFound):
            await w.stoker.keys.revoke("999", project=DEFAULT_PROJECT)

    run(body)


def test_expired_keys_leave_the_gateway_together_even_when_it_does_not_answer() -> None:
    async def body(w: World) -> None:
        secrets = [await make(w, Scope.READ, s=60) for _ in range(20)]
        last = await make(w, Scope.READ)
        w.gateway.silent = True
        await asyncio.sleep(62.5)
        assert not any(known(w, secret) for secret in secrets)
        assert known(w, last)

    run(body)


def test_keys_that_are_good_are_there_again_after_a_new_start() -> None:
    async def body(w: World) -> None:
        good, expiring = await make(w, Scope.READ), await make(w, Scope.READ, s=5)
        await w.crash()
        await asyncio.sleep(10)
        await w.boot()
        assert (known(w, good), known(w, expiring)) == (True, False)

    run(body)


def test_keys_that_name_an_attached_endpoint_are_in_its_entry_at_once_if_they_may_call_it() -> None:
    async def body(w: World) -> None:
        endpoint = await w.create(spec(access=Access.ATTACHED))
        entry = w.gateway.entry(endpoint.id)
        assert entry is not None
        assert entry.attached == ()
        caller = await make(w, Scope.INVOKE, endpoints=[endpoint.id])
        await make(w, Scope.READ, endpoints=[endpoint.id])
        await make(w, Scope.ADMIN)
        entry = w.gateway.entry(endpoint.id)
        assert entry is not None
        assert entry.attached == (digest_of(caller),), "reading is not calling, and an unlimited key is not attached"
        [key] = [k for k in w.stoker.keys._usable.values() if k.digest == digest_of(caller)]
        await w.stoker.keys.revoke(key.id, project=DEFAULT_PROJECT)
        entry = w.gateway.entry(endpoint.id)
        assert entry is not None
        assert entry.attached == ()

    run(body)


def test_nobody_gives_what_they_lack() -> None:
    async def body(w: World) -> None:
        mine = frozenset({EndpointId("mine")})
        deployer = replace(ADMIN, scopes=frozenset({Scope.DEPLOY}))
        limited = replace(ADMIN, endpoints=mine)

        async def grant(by: Principal, *scopes: Scope, endpoints: frozenset[EndpointId] | None = None) -> None:
            await w.stoker.keys.create(
                DEFAULT_PROJECT, name="k", scopes=frozenset(scopes), endpoints=endpoints, granted_by=by
            )

        before = w.stoker.link.seq
        for by, scopes, endpoints in (
            (deployer, (Scope.ADMIN,), None),
            (deployer, (Scope.READ,), None),
            (limited, (Scope.READ,), None),
            (limited, (Scope.READ,), mine | {EndpointId("other")}),
        ):
            with pytest.raises(Forbidden):
                await grant(by, *scopes, endpoints=endpoints)
        assert w.stoker.link.seq == before
        await grant(ADMIN, Scope.READ, Scope.INVOKE)
        await grant(limited, Scope.ADMIN, endpoints=mine)

    run(body)


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"name": " "}, "/name"),
        ({"name": "a\x1b[31m"}, "/name"),
        ({"scopes": frozenset()}, "/scopes"),
        ({"expires_in_s": 0.0}, "/expires_in_s"),
        ({"expires_in_s": 1e300}, "/expires_in_s"),
        ({"expires_in_s": float("nan")}, "/expires_in_s"),
    ],
)
def test_what_makes_no_sense_is_refused(change: dict[str, object], pointer: str) -> None:
    async def body(w: World) -> None:
        values: dict[str, object] = {"name": "k", "scopes": frozenset({Scope.READ}), **change}
        with pytest.raises(Invalid) as caught:
            await w.stoker.keys.create(DEFAULT_PROJECT, **values)  # type: ignore[arg-type]
        assert [problem.pointer for problem in caught.value.problems] == [pointer]

    run(body)


def test_the_database_holds_the_digest_and_never_the_secret(tmp_path: Path) -> None:
    async def main() -> str:
        store = sqlite.open_file(tmp_path / "stoker.db")
        await store.write(lambda tx: installation.add_default_project(tx, now=0.0))
        keys = Keys(
            store,
            Patient(incarnation="c", term=1, listener=Nobody()),
            Vault(store, keyring.fresh()),
            clock=lambda: 1_000.0,
            changed=lambda _: None,
        )
        made = asyncio.create_task(
            keys.create(DEFAULT_PROJECT, name="k", scopes=frozenset({Scope.ADMIN}), expires_in_s=60)
        )
        _, secret = await made
        await keys.revoke("1", project=DEFAULT_PROJECT)
        await store.close()
        return secret

    secret = asyncio.run(main())
    connection = sqlite3.connect(tmp_path / "stoker.db")
    dump = "\n".join(connection.iterdump())
    connection.close()
    assert digest_of(secret) in dump
    assert secret not in dump
    assert secret.removeprefix("sk-") not in dump
    for file in tmp_path.iterdir():
        assert secret.encode() not in file.read_bytes(), file


def test_a_principal_is_who_the_key_says() -> None:
    async def body(w: World) -> None:
        endpoint = EndpointId("e")
        secret = await make(w, Scope.READ, endpoints=[endpoint])
        principal = w.stoker.keys.principal(secret)
        assert (principal.project, principal.endpoints) == (DEFAULT_PROJECT, frozenset({endpoint}))
        assert principal.key != KeyId("k")

    run(body)


def test_an_endpoint_has_one_key_of_its_own_for_those_who_may_change_it() -> None:
    async def body(w: World) -> None:
        keys, endpoint = w.stoker.keys, await w.create(spec())
        (first, secret), (second, again) = await asyncio.gather(keys.own(ADMIN, endpoint), keys.own(ADMIN, endpoint))
        assert (first.id, secret) == (second.id, again), "at the same time too"
        assert first.owned
        assert keys.principal(secret).scopes == frozenset({Scope.INVOKE})
        assert keys.principal(secret).endpoints == frozenset({endpoint.id})
        with pytest.raises(Forbidden):
            await keys.own(replace(ADMIN, scopes=frozenset({Scope.READ})), endpoint)
        with pytest.raises(NotFound):
            await keys.own(replace(ADMIN, endpoints=frozenset({EndpointId("other")})), endpoint)
        events, _ = await w.stoker.services.views.audit(ADMIN, before=None, limit=10, action="key", target=first.id)
        assert [event.action for event in events] == ["key.reveal", "key.create"]
        pretender = KeyDraft(
            name=OWN_NAME, scopes=frozenset({Scope.ADMIN}), endpoints=frozenset({endpoint.id}), revealable=True
        )
        await keys.make(pretender, project=DEFAULT_PROJECT, by=ADMIN)
        assert (await keys.own(ADMIN, endpoint))[1] == secret, "a wider key is none, whatever its name"
        await keys.disown(endpoint)
        await keys.disown(endpoint)
        with pytest.raises(Unauthenticated):
            keys.principal(secret)
        assert (await keys.own(ADMIN, endpoint))[1] != secret

    run(body)
