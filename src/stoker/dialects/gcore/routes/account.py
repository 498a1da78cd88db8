"""Projects and regions, which clients look up by name."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query

from stoker.dialects.gcore.caller import PAGE_ITEMS_MAX, Anywhere, Context, KeyedRoute, Limit, Offset
from stoker.dialects.gcore.flavors import flavors
from stoker.dialects.gcore.wire.base import Page, moment
from stoker.dialects.gcore.wire.catalogue import ProjectOut, RegionOut
from stoker.domain.endpoint import FIRST_PROJECT
from stoker.domain.errors import NotFound
from stoker.domain.project import Project

router = APIRouter(route_class=KeyedRoute, tags=["account"])

# An installation is one client of its own.
CLIENT = 1
_PAGE = 500
Name = Annotated[str | None, Query(max_length=255)]


def _project(project: Project) -> ProjectOut:
    return ProjectOut(
        id=project.number,
        client_id=CLIENT,
        created_at=moment(project.created_at),
        is_default=project.number == FIRST_PROJECT,
        name=project.name,
    )


def _projects(context: Context) -> list[Project]:
    found: list[Project] = []
    after: int | None = 0
    while after is not None:
        page, after = context.services.projects.page(context.principal, after=after, limit=_PAGE)
        found += page
    return found


@router.get("/v1/projects", operation_id="list-projects")
async def list_projects(
    context: Anywhere,
    limit: Limit = 100,
    offset: Offset = 0,
    name: Name = None,
    include_deleted: bool = False,
    order_by: Literal["created_at.asc", "created_at.desc", "name.asc", "name.desc"] = "created_at.desc",
) -> Page[ProjectOut]:
    """The projects that the caller may act for. Deleted ones are gone."""
    found = [each for each in _projects(context) if name in (None, each.name)]
    # By number first: those made in one moment stay in their order.
    found.sort(key=lambda each: each.number if order_by.startswith("created_at") else 0)
    if order_by.startswith("name"):
        found.sort(key=lambda each: each.name)
    if order_by.endswith(".desc"):
        found.reverse()
    return Page.of([_project(each) for each in found], limit=limit, offset=offset)


@router.get("/v1/projects/{project_id}", operation_id="get-project")
async def get_project(project_id: int, context: Anywhere) -> ProjectOut:
    """A project by number."""
    return _project(context.services.projects.find(context.principal, str(project_id)))


def _regions(context: Context) -> list[RegionOut]:
    services, caller = context.services, context.principal
    # When the caller's project was made is the time that is known.
    since = moment(services.projects.find(caller, str(caller.project)).created_at)
    carded = {region for flavor in flavors(services, caller) if flavor.gpus for region, _ in flavor.providers}
    return [
        RegionOut(
            id=number,
            display_name=name,
            keystone_name=name,
            keystone_id=number,
            slug=name,
            created_at=since,
            created_on=since,
            has_ai_gpu=number in carded,
        )
        for name, number in sorted(services.views.regions.items(), key=lambda pair: pair[1])
    ]


@router.get("/v1/regions", operation_id="list-regions")
async def list_regions(
    context: Anywhere,
    limit: Annotated[int, Query(ge=0, le=PAGE_ITEMS_MAX)] = 100,
    offset: Offset = 0,
    display_name: Name = None,
    product: Literal["containers", "inference"] | None = None,
    show_volume_types: bool = False,
    order_by: Literal["created_at.asc", "created_at.desc", "display_name.asc", "display_name.desc"] = (
        "created_at.desc"
    ),
) -> Page[RegionOut]:
    """The regions of this installation, all of them for inference. They are all of one age: by number, or by name."""
    found = [each for each in _regions(context) if display_name is None or _same(each.display_name, display_name)]
    if product == "containers":
        found = []
    if order_by.startswith("display_name"):
        found.sort(key=lambda each: each.display_name, reverse=order_by.endswith(".desc"))
    return Page.of(found, limit=limit or PAGE_ITEMS_MAX, offset=offset)


def _same(one: str, other: str) -> bool:
    return one.casefold() == other.casefold()


@router.get("/v1/regions/{region_id}", operation_id="get-region")
async def get_region(region_id: int, context: Anywhere, show_volume_types: bool = False) -> RegionOut:
    """A region by number."""
    for region in _regions(context):
        if region.id == region_id:
            return region
    raise NotFound(f"no region {region_id}")
