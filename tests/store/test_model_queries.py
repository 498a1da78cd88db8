"""Models, their weights, templates and volumes, on every store."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from stoker.domain.endpoint import ProjectId
from stoker.domain.models import Model, ModelId, ModelSource, SourceKind, Weights, WeightsKey, WeightsState
from stoker.domain.project import Project
from stoker.domain.templates import Template
from stoker.domain.volumes import Volume, VolumeState
from stoker.store import installation, models, projects, templates, volumes
from stoker.store.base import Store
from store.places import Place

P, Q = ProjectId(1), ProjectId(2)
HUGE = "9" * 18
ODD = "0\x00'\"%_\\ é 漢"
SOURCE = ModelSource(kind=SourceKind.HUGGINGFACE, location="owner/name", file="*.gguf", revision="main")


async def begin(store: Store) -> None:
    await store.write(lambda tx: installation.add_default_project(tx, now=0.0))
    await store.write(lambda tx: projects.add(tx, Project(id="uuid-2", number=Q, name="two", created_at=1.5)))


async def read(store: Store, query: Callable[[Connection], Any]) -> Any:
    return await store.read(query)


def a_model(number: int, name: str, *aliases: str, **more: Any) -> Model:
    values: dict[str, Any] = {
        "id": ModelId(f"id-{number}"),
        "number": number,
        "project": P,
        "name": name,
        "aliases": aliases,
        "source": SOURCE,
        "sha256": None,
        "token_secret": "hf",
        "pinned": False,
        "key": WeightsKey("w1"),
        "created_at": 1.25,
        "updated_at": 2.5,
        **more,
    }
    return Model(**values)


def test_models_are_found_by_id_number_name_and_alias(place: Place) -> None:
    async def body(store: Store) -> None:
        await begin(store)
        one = a_model(1, "Llama", "owner/Llama_3", sha256="a" * 64)
        two = a_model(2, "llama", "owner/LlamaX3", "Alias", pinned=True, key=WeightsKey("w2"))
        other = a_model(3, "Llama", project=Q)
        for each in (two, one, other):
            await store.write(lambda tx, each=each: models.add(tx, each))  # type: ignore[misc]
        for reference, found in {
            "Llama": one, "llama": two, "LLAMA": None, "id-1": one, "2": two, "3": None, "owner/Llama_3": one,
            "owner/LlamaX3": two, "owner/Llama%3": None, "alias": None, "Alias": two, "owner": None, HUGE: None,
            ODD: None, "": None, '"': None,
        }.items():  # fmt: skip
            assert await read(store, lambda tx, r=reference: models.find(tx, r, project=P)) == found, reference  # type: ignore[misc]
        assert await read(store, lambda tx: models.named(tx, "1", project=P)) is None
        assert await read(store, models.everything) == (one, two, other)
        assert await read(store, lambda tx: models.page(tx, project=P, after=1, limit=9)) == (two,)
        assert await read(store, lambda tx: models.page(tx, project=P, after=int(HUGE), limit=9)) == ()
        assert await read(store, lambda tx: models.count(tx, project=P)) == 2
        assert {m.id for m in await read(store, lambda tx: models.sharing(tx, WeightsKey("w1")))} == {one.id, other.id}
        changed = replace(one, aliases=("é",), pinned=True, updated_at=9.0)
        await store.write(lambda tx: models.save(tx, changed))
        assert await read(store, lambda tx: models.find(tx, "é", project=P)) == changed
        with pytest.raises(IntegrityError):
            await store.write(lambda tx: models.add(tx, a_model(9, "llama")))
        await store.write(lambda tx: models.remove(tx, changed))
        assert await read(store, lambda tx: models.find(tx, "Llama", project=P)) is None

    place.run(body)


def test_weights_are_read_as_they_were_written_and_replaced(place: Place) -> None:
    async def body(store: Store) -> None:
        made = Weights(
            key=WeightsKey("w1"),
            source=SOURCE,
            sha256="b" * 64,
            project=P,
            token_secret=None,
            state=WeightsState.DOWNLOADING,
            asked=True,
            used_at=1.5,
            done_bytes=2**40,
            total_bytes=2**41,
        )
        assert await read(store, lambda tx: models.find_weights(tx, made.key)) is None
        await store.write(lambda tx: models.put_weights(tx, made))
        assert await read(store, lambda tx: models.find_weights(tx, made.key)) == made
        failed = replace(made, state=WeightsState.FAILED, error="nö\n'", failures=3, retry_at=9.5, total_bytes=None)
        await store.write(lambda tx: models.put_weights(tx, failed))
        assert await read(store, models.all_weights) == (failed,)
        await store.write(lambda tx: models.remove_weights(tx, made.key))
        assert await read(store, models.all_weights) == ()

    place.run(body)


def a_template(number: int, name: str, version: int, **more: Any) -> Template:
    values: dict[str, Any] = {
        "id": f"id-{number}",
        "number": number,
        "project": P,
        "name": name,
        "version": version,
        "spec": {"launch": {"env": {"A": "ß\u0000'"}}, "slots": None, "scaling": {"target": 0.5}},
        "digest": f"{number:064}",
        "created_at": 1.25,
        **more,
    }
    return Template(**values)


def test_versions_of_templates_are_found_exactly_and_go_together(place: Place) -> None:
    async def body(store: Store) -> None:
        await begin(store)
        first, second, shout = a_template(1, "chat", 1), a_template(2, "chat", 2), a_template(3, "CHAT", 1)
        other = a_template(4, "chat", 7, project=Q)
        for each in (second, first, shout, other):
            await store.write(lambda tx, each=each: templates.add(tx, each))  # type: ignore[misc]
        for name, version, found in (
            ("chat", None, second), ("chat", 1, first), ("chat", 999_999_999, None), ("CHAT", None, shout),
            ("Chat", None, None), ("c%", None, None), (ODD, None, None),
        ):  # fmt: skip
            given = await read(store, lambda tx, n=name, v=version: templates.find(tx, n, v, project=P))  # type: ignore[misc]
            assert given == found, (name, version)
        for reference, found in {"2": second, "id-1": first, "4": None, HUGE: None, ODD: None, "chat": None}.items():
            assert await read(store, lambda tx, r=reference: templates.get(tx, r, project=P)) == found, reference  # type: ignore[misc]
        assert await read(store, lambda tx: templates.versions(tx, "chat", project=P)) == (second, first)
        assert await read(store, lambda tx: templates.page(tx, project=P, after=1, limit=1)) == (second,)
        assert await read(store, lambda tx: templates.page(tx, project=P, after=int(HUGE), limit=1)) == ()
        assert await read(store, lambda tx: templates.count(tx, project=P)) == 3
        with pytest.raises(IntegrityError):
            await store.write(lambda tx: templates.add(tx, a_template(9, "chat", 2)))
        await store.write(lambda tx: templates.remove(tx, "chat", project=P))
        assert await read(store, lambda tx: templates.page(tx, project=P, after=0, limit=9)) == (shout,)
        assert await read(store, lambda tx: templates.count(tx, project=Q)) == 1

    place.run(body)


def test_volumes_are_found_exactly_and_change_size_and_state(place: Place) -> None:
    def made(number: int, name: str, project: ProjectId = P) -> Volume:
        return Volume(
            id=f"id-{number}",
            number=number,
            project=project,
            name=name,
            size_gib=0.001 * number,
            provider="process",
            region="local",
            state=VolumeState.CREATING,
            created_at=1.25,
        )

    async def body(store: Store) -> None:
        await begin(store)
        one, two, other = made(1, "data"), made(2, "data-2"), made(3, "data", Q)
        for each in (two, one, other):
            await store.write(lambda tx, each=each: volumes.add(tx, each))  # type: ignore[misc]
        for reference, found in {
            "data": one, "DATA": None, "id-2": two, "2": two, "3": None, "data%": None, HUGE: None, ODD: None, "": None,
        }.items():  # fmt: skip
            assert await read(store, lambda tx, r=reference: volumes.find(tx, r, project=P)) == found, reference  # type: ignore[misc]
        assert await read(store, lambda tx: volumes.named(tx, "data", project=Q)) == other
        assert await read(store, lambda tx: volumes.named(tx, "id-1", project=P)) is None
        changed = replace(one, size_gib=1e6, state=VolumeState.LOST)
        await store.write(lambda tx: volumes.save(tx, changed))
        assert await read(store, volumes.everything) == (changed, two, other)
        assert await read(store, lambda tx: volumes.page(tx, project=P, after=1, limit=9)) == (two,)
        assert await read(store, lambda tx: volumes.count(tx, project=P)) == 2
        with pytest.raises(IntegrityError):
            await store.write(lambda tx: volumes.add(tx, made(9, "data")))
        await store.write(lambda tx: volumes.remove(tx, one))
        assert await read(store, lambda tx: volumes.named(tx, "data", project=P)) is None

    place.run(body)
