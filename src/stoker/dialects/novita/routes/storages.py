"""Network storages: volumes of the project."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from stoker.dialects.novita.caller import Caller, Context, KeyedRoute
from stoker.dialects.novita.errors import Refused
from stoker.dialects.novita.products import products
from stoker.dialects.novita.wire.base import Empty
from stoker.dialects.novita.wire.catalogue import (
    StorageIdIn,
    StorageIn,
    StorageMadeOut,
    StorageOut,
    StoragePatch,
    StoragesOut,
)
from stoker.domain.endpoint import PoolSpec
from stoker.domain.errors import Conflict, Forbidden, Invalid, NotFound, Problem
from stoker.domain.volumes import Volume, VolumeState

router = APIRouter(route_class=KeyedRoute, tags=["network storages"])

PAGE_ITEMS_MAX = 1_000
_PAGE = 500
_DEFAULT = PoolSpec().provider
_FIELDS = {"/name": "/storageName", "/size_gib": "/storageSize", "/region": "/clusterId"}
Text = Annotated[str | None, Query(max_length=500)]
PageNo = Annotated[int, Query(alias="pageNo", ge=0, le=2**31)]
PageSize = Annotated[int, Query(alias="pageSize", ge=1, le=PAGE_ITEMS_MAX)]
StorageName = Annotated[Text, Query(alias="storageName")]
StorageId = Annotated[Text, Query(alias="storageId")]


async def all_of(context: Context) -> list[Volume]:
    """All volumes of the project that are not going. Raises `Forbidden`."""
    found: list[Volume] = []
    after: int | None = 0
    while after is not None:
        page, after = await context.services.volumes.page(context.principal, after=after, limit=_PAGE)
        found += page
    return [each for each in found if each.state is not VolumeState.DELETING]


async def visible(context: Context) -> list[Volume]:
    """Those that the caller may see."""
    try:
        return await all_of(context)
    except Forbidden:
        return []


def _shown(volume: Volume) -> StorageOut:
    return StorageOut(
        id=volume.id,
        storage_id=volume.id,
        storage_name=volume.name,
        storage_size=max(1, round(volume.size_gib)),
        cluster_id=volume.region,
        cluster_name=volume.region,
    )


def _renamed(exc: Invalid) -> Invalid:
    problems = tuple(Problem(_FIELDS.get(p.pointer, p.pointer), p.detail) for p in exc.problems)
    return Invalid(str(exc), problems=problems)


@router.post("/networkstorage/create", operation_id="create-storage")
async def create_storage(body: StorageIn, context: Caller) -> StorageMadeOut:
    """A new, empty storage in a cluster, where endpoints run there that have no cards."""
    places = products(context.services, context.principal)[-1].places
    beside = next((provider for region, provider in places if region == body.cluster_id), _DEFAULT)
    try:
        made = await _made(context, body, beside)
    except Invalid as exc:
        if beside == _DEFAULT or "/provider" not in {problem.pointer for problem in exc.problems}:
            raise
        # Not every provider keeps storages.
        made = await _made(context, body, _DEFAULT)
    return StorageMadeOut(id=made.id, storage_id=made.id)


async def _made(context: Context, body: StorageIn, provider: str) -> Volume:
    try:
        return await context.services.volumes.create(
            context.principal,
            name=body.storage_name,
            size_gib=float(body.storage_size),
            provider=provider,
            region=body.cluster_id,
        )
    except Invalid as exc:
        raise _renamed(exc) from exc


async def _listed(
    context: Context, number: int, size: int, name: str | None, id: str | None, *, first: int = 1
) -> StoragesOut:
    found = [
        _shown(each)
        for each in await all_of(context)
        if (not name or name.casefold() in each.name) and (not id or each.id == id)
    ]
    begin = max(0, number - first) * size
    return StoragesOut(data=found[begin : begin + size], total=len(found))


@router.get("/networkstorages/list", operation_id="list-storages")
async def list_storages(
    context: Caller, number: PageNo = 1, size: PageSize = 20, name: StorageName = None, id: StorageId = None
) -> StoragesOut:
    """All of the project. Pages count from 1."""
    return await _listed(context, number, size, name, id)


@router.get("/networkstorages", operation_id="list-storages-short")
async def list_storages_short(
    context: Caller, number: PageNo = 1, size: PageSize = PAGE_ITEMS_MAX, name: StorageName = None, id: StorageId = None
) -> StoragesOut:
    """The same, where the cloud's own command line looks for it."""
    return await _listed(context, number, size, name, id)


async def _found(context: Context, id: str) -> Volume:
    for each in await all_of(context):
        if each.id == id:
            return each
    raise Refused("NETWORK_STORAGE_NOT_FOUND", f"there is no network storage {id[:64]!r}")


@router.post("/networkstorage/update", operation_id="update-storage")
async def update_storage(body: StoragePatch, context: Caller) -> Empty:
    """Let it hold more, or less. Its name is for good: endpoints refer to it."""
    volume = await _found(context, body.storage_id)
    if body.storage_name is not None and body.storage_name != volume.name:
        raise Invalid.at("/storageName", f"the name is for good: {volume.name}")
    if body.storage_size is not None:
        await context.services.volumes.resize(context.principal, volume.id, float(body.storage_size))
    return Empty()


@router.post("/networkstorage/delete", operation_id="delete-storage")
async def delete_storage(body: StorageIdIn, context: Caller) -> Empty:
    """Remove it with all that is in it, unless an endpoint has it."""
    volume = await _found(context, body.reference)
    try:
        await context.services.volumes.delete(context.principal, volume.id)
    except NotFound as exc:
        raise Refused("NETWORK_STORAGE_NOT_FOUND", str(exc)) from exc
    except Conflict as exc:
        raise Refused("NETWORK_STORAGE_IN_USE", str(exc)) from exc
    return Empty()
