"""Projects, audit events, secrets and registry credentials, on every store."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from stoker.domain.access import KeyId, Sealed
from stoker.domain.endpoint import EndpointSpec, ProjectId
from stoker.domain.project import AUDITED_CHARS_MAX, AuditDraft, Outcome, Project
from stoker.domain.secrets import Credential, Secret
from stoker.store import audit, endpoints, installation, keys, projects, secrets
from stoker.store.base import Store
from store.places import Place
from store.rows import a_key, an_endpoint

P, Q = ProjectId(1), ProjectId(2)
HUGE = "9" * 18
ODD = "0\x00'\"%_\\ é 漢"


async def begin(store: Store) -> None:
    """Projects 1 and 2."""
    await store.write(lambda tx: installation.add_default_project(tx, now=0.0))
    await store.write(lambda tx: projects.add(tx, Project(id="uuid-2", number=Q, name="Team", created_at=1.5)))


def a_secret(number: int, name: str, **more: Any) -> Secret:
    values: dict[str, Any] = {
        "id": f"id-{number}",
        "number": number,
        "project": P,
        "name": name,
        "description": "für '\"%",
        "sealed": Sealed(text=f"cipher-{number}", by="m1"),
        "created_at": 1.25,
        "updated_at": 2.5,
        **more,
    }
    return Secret(**values)


def a_credential(number: int, name: str, **more: Any) -> Credential:
    values: dict[str, Any] = {
        "id": f"id-{number}",
        "number": number,
        "project": P,
        "name": name,
        "registry": "ghcr.io",
        "username": "bot",
        "sealed": Sealed(text=f"cipher-{number}", by="m1"),
        "created_at": 1.25,
        "updated_at": 2.5,
        **more,
    }
    return Credential(**values)


async def read(store: Store, query: Callable[[Connection], Any]) -> Any:
    return await store.read(query)


def test_projects_are_listed_by_number_named_exactly_and_renamed(place: Place) -> None:
    async def body(store: Store) -> None:
        await begin(store)
        assert [(p.number, p.name) for p in await read(store, projects.everything)] == [(1, "default"), (2, "Team")]
        for name, taken in {"Team": True, "team": False, "default": True, "T%": False, ODD: False}.items():
            assert await read(store, lambda tx, n=name: projects.name_taken(tx, n)) is taken, name  # type: ignore[misc]
        await store.write(lambda tx: projects.rename(tx, Q, "Ämter"))
        assert (await read(store, projects.everything))[1] == Project(
            id="uuid-2", number=Q, name="Ämter", created_at=1.5
        )
        with pytest.raises(IntegrityError):
            await store.write(
                lambda tx: projects.add(tx, Project(id="x", number=ProjectId(3), name="Ämter", created_at=0))
            )

    place.run(body)


def test_what_is_in_a_project_is_counted_and_an_empty_one_goes_with_its_revoked_keys(place: Place) -> None:
    async def body(store: Store) -> None:
        await begin(store)
        assert await read(store, lambda tx: projects.contents(tx, Q)) == {}
        await store.write(lambda tx: keys.add(tx, a_key(1, project=Q)))
        await store.write(lambda tx: secrets.add(tx, a_secret(1, "a", project=Q)))
        await store.write(lambda tx: secrets.add(tx, a_credential(2, "a", project=Q)))
        await store.write(lambda tx: endpoints.add(tx, an_endpoint(1, "e", project=Q)))
        assert await read(store, lambda tx: projects.contents(tx, Q)) == {
            "endpoints": 1,
            "keys": 1,
            "secrets": 1,
            "registry credentials": 1,
        }
        with pytest.raises(IntegrityError):
            await store.write(lambda tx: projects.remove(tx, Q))
        assert len(await read(store, projects.everything)) == 2
        await store.write(lambda tx: keys.revoke(tx, KeyId("k1"), now=9.0))
        await store.write(lambda tx: secrets.remove(tx, a_secret(1, "a")))
        await store.write(lambda tx: secrets.remove(tx, a_credential(2, "a")))
        await store.write(lambda tx: endpoints.remove(tx, an_endpoint(1, "e").id))
        assert await read(store, lambda tx: projects.contents(tx, Q)) == {}
        await store.write(lambda tx: projects.remove(tx, Q))
        assert [p.number for p in await read(store, projects.everything)] == [1]

    place.run(body)


def drafted(action: str, *, at: float = 1.5, **more: Any) -> AuditDraft:
    values: dict[str, Any] = {"at": at, "project": P, "action": action, **more}
    return AuditDraft(**values)


async def audited(store: Store, **more: Any) -> list[str]:
    asked: dict[str, Any] = {"project": P, "before": None, "limit": 100, "action": None, "target": None, **more}
    return [event.action for event in await store.read(lambda tx: audit.page(tx, **asked))]


def test_audit_events_are_read_newest_first_and_by_what_is_asked_for(place: Place) -> None:
    async def body(store: Store) -> None:
        await begin(store)
        await store.write(lambda tx: keys.add(tx, a_key(1, name="Bäckerei")))
        drafts = [
            drafted("key.create", by=KeyId("k1"), target="t1", name="one", before=None, after={"a": "ß\0"}),
            drafted("key.revoke", target="t2", name="t1", outcome=Outcome.ACCEPTED, operation="o1"),
            drafted("key_ring.read", name="x" * 300),
            drafted("secret.create", project=Q),
            drafted("endpoint.update", before={"text": "y" * AUDITED_CHARS_MAX}, after={}),
        ]
        for each in drafts:
            await store.write(lambda tx, each=each: audit.add(tx, each))  # type: ignore[misc]
        assert await audited(store) == ["endpoint.update", "key_ring.read", "key.revoke", "key.create"]
        assert await audited(store, project=Q) == ["secret.create"]
        assert await audited(store, action="key.") == ["key.revoke", "key.create"]
        assert await audited(store, action="key") == ["key_ring.read", "key.revoke", "key.create"]
        # Neither wild cards nor another case are the same word.
        for none in ("KEY.", "Key.create", "key%", "key_", "%", "key.create.more", ODD):
            expected = ["key_ring.read"] if none == "key_" else []
            assert await audited(store, action=none) == expected, none
        assert await audited(store, target="t1") == ["key.revoke", "key.create"], "by id or name"
        assert await audited(store, target="T1") == []
        newest, *_, oldest = await read(
            store, lambda tx: audit.page(tx, project=P, before=None, limit=9, action=None, target=None)
        )
        assert (oldest.by, oldest.key_name, oldest.after) == ("k1", "Bäckerei", '{"a":"ß\\u0000"}')
        too_long = AUDITED_CHARS_MAX + len('{"text":""}')
        assert newest.before == f'{{"too_long":{too_long}}}'
        assert await audited(store, before=newest.number, limit=1) == ["key_ring.read"]
        assert await audited(store, before=int(HUGE), limit=1) == ["endpoint.update"]

    place.run(body)


@pytest.mark.parametrize("made", [a_secret, a_credential])
def test_what_is_sealed_is_read_as_it_was_written_and_found_exactly(place: Place, made: Any) -> None:
    find = secrets.find_secret if made is a_secret else secrets.find_credential
    page = secrets.secrets_page if made is a_secret else secrets.credentials_page

    async def body(store: Store) -> None:
        await begin(store)
        one, two, other = made(1, "Token"), made(2, "token"), made(3, "Token", project=Q)
        for each in (two, one, other):
            await store.write(lambda tx, each=each: secrets.add(tx, each))  # type: ignore[misc]
        for reference, found in {
            "Token": one, "token": two, "TOKEN": None, "id-2": two, "1": one, "3": None, HUGE: None, ODD: None,
            "": None, "Tok%": None,
        }.items():  # fmt: skip
            assert await read(store, lambda tx, r=reference: find(tx, r, project=P)) == found, reference  # type: ignore[misc]
        assert await read(store, lambda tx: page(tx, project=P, after=0, limit=9)) == (one, two)
        assert await read(store, lambda tx: page(tx, project=P, after=1, limit=9)) == (two,)
        assert await read(store, lambda tx: page(tx, project=P, after=int(HUGE), limit=9)) == ()
        assert await read(store, lambda tx: secrets.count(tx, type(one), project=P)) == 2
        changed = replace(two, sealed=Sealed(text="new", by="m2"), updated_at=9.5)
        await store.write(lambda tx: secrets.save(tx, changed))
        assert await read(store, lambda tx: find(tx, "token", project=P)) == changed
        with pytest.raises(IntegrityError):
            await store.write(lambda tx: secrets.add(tx, made(9, "Token")))
        await store.write(lambda tx: secrets.remove(tx, one))
        assert await read(store, lambda tx: page(tx, project=P, after=0, limit=9)) == (changed,)

    place.run(body)


def test_endpoints_that_use_something_are_found_whatever_its_name(place: Place) -> None:
    names = ("hf", "h_", "h%", "HF")

    def uses(name: str) -> Callable[[EndpointSpec], bool]:
        return lambda spec: spec.labels.get("uses") == name

    async def body(store: Store) -> None:
        await begin(store)
        for number, name in enumerate(names, 1):
            made = an_endpoint(number, f"e{number}")
            made = replace(made, spec=replace(made.spec, labels={"uses": name}))
            await store.write(lambda tx, made=made: endpoints.add(tx, made))  # type: ignore[misc]
        for number, name in enumerate(names, 1):
            found = await read(store, lambda tx, n=name: secrets.users(tx, uses(n), project=P, mentioning=n))  # type: ignore[misc]
            assert found == (f"s{number}",), name
        assert await read(store, lambda tx: secrets.users(tx, uses("hf"), project=Q, mentioning="hf")) == ()

    place.run(body)


def test_a_rotation_finds_all_that_old_keys_encrypt_in_pieces(place: Place) -> None:
    async def body(store: Store) -> None:
        await begin(store)
        ids = ["00-b", "0-a", "A", "a", "B-1"]
        for number, id in enumerate(ids, 1):
            each = a_secret(number, f"n{number}", id=id)
            await store.write(lambda tx, each=each: secrets.add(tx, each))  # type: ignore[misc]
        await store.write(lambda tx: secrets.add(tx, a_credential(1, "c", sealed=Sealed(text="c", by="m2"))))
        await store.write(lambda tx: keys.add(tx, a_key(1)))
        assert await read(store, secrets.sealed_by) == {"m1": 5, "m2": 1}
        seen: list[str] = []
        after = ""
        while found := await read(
            store,
            lambda tx, a=after: secrets.sealed_after(tx, "secret", by=("m1", "m0"), after=a, limit=2),  # type: ignore[misc]
        ):
            for id, sealed in found:
                seen.append(id)
                again = Sealed(text=sealed.text + "!", by="m2")
                await store.write(lambda tx, id=id, s=again: secrets.reseal(tx, "secret", id, s))  # type: ignore[misc]
            after = found[-1][0]
        assert sorted(seen) == sorted(ids), "each once, whatever the order of letters is"
        assert await read(store, secrets.sealed_by) == {"m2": 6}
        assert await read(store, lambda tx: secrets.sealed_after(tx, "key", by=("m1",), after="", limit=9)) == ()
        assert await read(store, lambda tx: secrets.sealed_after(tx, "secret", by=(), after="", limit=9)) == ()

    place.run(body)
