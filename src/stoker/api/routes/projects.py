"""Projects, and the audit events of one."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response

from stoker.api.once import OnceRoute
from stoker.api.routes.context import Caller, Cursor, Limit, after_of, cursor_of
from stoker.api.wire.base import Page
from stoker.api.wire.tenancy import AuditOut, ProjectIn, ProjectOut

router = APIRouter(route_class=OnceRoute, tags=["projects"])


@router.post("/projects", status_code=201)
async def create_project(body: ProjectIn, context: Caller) -> ProjectOut:
    """Make a project. Send its name as `X-Stoker-Project` to act for it."""
    return ProjectOut.of(await context.services.projects.create(context.principal, body.name))


@router.get("/projects")
async def list_projects(context: Caller, limit: Limit = 100, cursor: Cursor = None) -> Page[ProjectOut]:
    """All projects for a key of the installation, else the key's own."""
    found, last = context.services.projects.page(context.principal, after=after_of(cursor), limit=limit)
    return Page(items=[ProjectOut.of(project) for project in found], next=cursor_of(last))


@router.get("/projects/{ref}")
async def get_project(ref: str, context: Caller) -> ProjectOut:
    """A project by id, number or name."""
    return ProjectOut.of(context.services.projects.find(context.principal, ref))


@router.patch("/projects/{ref}")
async def rename_project(ref: str, body: ProjectIn, context: Caller) -> ProjectOut:
    """Give it another name."""
    return ProjectOut.of(await context.services.projects.rename(context.principal, ref, body.name))


@router.delete("/projects/{ref}", status_code=204)
async def delete_project(ref: str, context: Caller) -> Response:
    """Forget it, when nothing is in it but revoked keys."""
    await context.services.projects.delete(context.principal, ref)
    return Response(status_code=204)


@router.get("/audit")
async def list_audit(
    context: Caller,
    limit: Limit = 100,
    cursor: Cursor = None,
    action: Annotated[str | None, Query(max_length=64)] = None,
    target: Annotated[str | None, Query(max_length=255)] = None,
) -> Page[AuditOut]:
    """Who changed what in the project, newest first. `action` is one or, as in `key.`, the beginning of several;
    `target` the id or the name of what was changed.
    """
    events, last = await context.services.views.audit(
        context.principal, before=after_of(cursor) or None, limit=limit, action=action, target=target
    )
    return Page(items=[AuditOut.of(event) for event in events], next=cursor_of(last))
