"""Endpoints: create, list, get, update, delete."""

from __future__ import annotations

from typing import Annotated
from uuid import uuid4

from fastapi import APIRouter, Query

from stoker.dialects.novita import showing
from stoker.dialects.novita.caller import Caller, Context, KeyedRoute
from stoker.dialects.novita.errors import Refused
from stoker.dialects.novita.mapping import changed, created
from stoker.dialects.novita.names import app_of
from stoker.dialects.novita.products import check_room, products
from stoker.dialects.novita.routes import auths, storages
from stoker.dialects.novita.wire.base import Empty
from stoker.dialects.novita.wire.endpoints import CreatedOut, CreateIn, DeleteIn, EndpointsOut, GotOut, UpdateIn
from stoker.domain.errors import Invalid, NotFound
from stoker.domain.secrets import Credential
from stoker.domain.volumes import Volume

router = APIRouter(route_class=KeyedRoute, tags=["endpoints"])

PAGE_ITEMS = 10
PAGE_ITEMS_MAX = 100


@router.post("/endpoint/create", operation_id="create-endpoint")
async def create_endpoint(body: CreateIn, context: Caller) -> CreatedOut:
    """A new endpoint: of requests, or (`type` async) of jobs that its workers ask for."""
    services, caller, asked = context.services, context.principal, body.endpoint
    if asked.app_name and any(app_of(view.endpoint) == asked.app_name for view in await context.views()):
        raise Refused("SERVERLESS_APP_NAME_IS_EXIST", f"there is an application named {asked.app_name} already")
    doors = await _Doors.of(context)
    spec = created(
        asked,
        asked.name or f"endpoint-{uuid4().hex[:8]}",
        products(services, caller),
        doors,
        url=services.url,
    )
    check_room(services, caller, spec.pools[0])
    endpoint, _ = await services.endpoints.create(caller, spec)
    return CreatedOut(id=endpoint.id)


class _Doors:
    """The project's log-ins and storages that the caller may see, as requests name them."""

    def __init__(self, logins: dict[str, Credential], volumes: dict[str, Volume]) -> None:
        self.logins, self.volumes = logins, volumes

    @classmethod
    async def of(cls, context: Context) -> _Doors:
        return cls(
            {each.id: each for each in await auths.visible(context)},
            {each.id: each for each in await storages.visible(context)},
        )

    def login(self, id: str) -> str:
        """The name of the log-in with that id."""
        if id not in self.logins:
            raise Refused("IMAGE_NOT_FOUND", f"image.authId: there is no registry auth {id[:64]!r}")
        return self.logins[id].name

    def id_of(self, name: str) -> str:
        """The id of the log-in of that name; empty for none."""
        return next((each.id for each in self.logins.values() if each.name == name), "")

    def volume(self, id: str) -> Volume:
        """The storage with that id."""
        if id not in self.volumes:
            raise Refused("NETWORK_STORAGE_NOT_FOUND", f"there is no network storage {id[:64]!r}")
        return self.volumes[id]

    def named(self, name: str) -> Volume | None:
        """The storage of that name."""
        return next((each for each in self.volumes.values() if each.name == name), None)


async def _around(context: Context) -> showing.Surroundings:
    return showing.Surroundings(
        products=products(context.services, context.principal),
        logins={each.name: each.id for each in await auths.visible(context)},
        volumes={each.name: each for each in await storages.visible(context)},
        base=context.services.url,
    )


@router.get("/endpoints", operation_id="list-endpoints")
async def list_endpoints(
    context: Caller,
    page_size: Annotated[int, Query(alias="pageSize", ge=1, le=PAGE_ITEMS_MAX)] = PAGE_ITEMS,
    page_num: Annotated[int, Query(alias="pageNum", ge=0, le=2**31)] = 0,
) -> EndpointsOut:
    """All endpoints of the project, whoever made them. Pages count from 0."""
    views, around = await context.views(), await _around(context)
    page = views[page_num * page_size : (page_num + 1) * page_size]
    return EndpointsOut(
        endpoints=[showing.listed(view, await context.services.views.workers(view.endpoint), around) for view in page],
        total=len(views),
    )


@router.get("/endpoint", operation_id="get-endpoint")
async def get_endpoint(
    context: Caller,
    id: Annotated[str | None, Query(max_length=255)] = None,
    endpoint_id: Annotated[str | None, Query(max_length=255)] = None,
) -> GotOut:
    """An endpoint by id."""
    reference = id or endpoint_id
    if not reference:
        raise Invalid.at("/id", "the id of the endpoint is needed")
    endpoint = await context.endpoint(reference)
    views = context.services.views
    return showing.got(views.endpoint(endpoint), await views.workers(endpoint), await _around(context))


@router.post("/endpoint/update", operation_id="update-endpoint")
async def update_endpoint(body: UpdateIn, context: Caller) -> Empty:
    """Replace what is said. Workers are replaced when what they run is another, new ones first where that fits."""
    services, caller = context.services, context.principal
    endpoint = await context.endpoint(body.reference)
    doors = await _Doors.of(context)
    spec = changed(endpoint, body, products(services, caller), doors)
    if spec.pools[0].hardware != endpoint.spec.pools[0].hardware:
        check_room(services, caller, spec.pools[0])
    await services.endpoints.update(caller, endpoint.id, spec)
    return Empty()


@router.post("/endpoint/delete", operation_id="delete-endpoint")
async def delete_endpoint(body: DeleteIn, context: Caller) -> Empty:
    """Let its requests finish, then forget it."""
    endpoint = await context.endpoint(body.reference)
    try:
        await context.services.endpoints.delete(context.principal, endpoint.id)
    except NotFound as exc:
        raise Refused("SERVERLESS_ENDPOINT_NOT_FOUND", str(exc)) from exc
    await context.services.keys.disown(endpoint)
    return Empty()
