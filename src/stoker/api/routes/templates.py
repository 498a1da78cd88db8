"""Templates: parts of endpoints' documents, and how a document that names one is completed."""

from __future__ import annotations

import json

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from stoker.api.once import OnceRoute
from stoker.api.routes.context import Caller, Cursor, Limit, after_of, cursor_of
from stoker.api.wire.base import Page
from stoker.api.wire.templates import TemplateIn, TemplateOut
from stoker.domain.templates import merged
from stoker.web import services_of

router = APIRouter(route_class=OnceRoute, tags=["templates"])


class SpecRoute(OnceRoute):
    """A route that takes endpoints' documents: one that names a template is laid over that first (RFC 7396), so that
    all else sees a whole document.
    """

    async def prepare(self, request: Request) -> None:
        if request.method not in ("POST", "PUT") or b'"template"' not in (raw := await request.body()):
            return
        try:
            document = json.loads(raw)
        except (ValueError, RecursionError):
            # Told by whoever reads it.
            return
        named = document.get("template") if isinstance(document, dict) else None
        if isinstance(named, str):
            template = await services_of(request).templates.resolve(request.state.principal, named)
            whole = merged(template.spec, document) | {"template": template.reference}
            # Where `Request.body` keeps what it has read.
            request._body = json.dumps(whole).encode()


@router.post("/templates", status_code=201)
async def add_template(body: TemplateIn, context: Caller) -> TemplateOut:
    """Add a template, or a new version of one; what says the same as the newest is that one."""
    template = await context.services.templates.add(context.principal, name=body.name, spec=body.checked())
    return TemplateOut.of(template, reveal=True)


@router.get("/templates")
async def list_templates(context: Caller, limit: Limit = 100, cursor: Cursor = None) -> Page[TemplateOut]:
    """All versions of the project's templates, oldest first."""
    found, last = await context.services.templates.page(context.principal, after=after_of(cursor), limit=limit)
    items = [TemplateOut.of(template, reveal=context.reveals) for template in found]
    return Page(items=items, next=cursor_of(last))


@router.get("/templates/{ref}")
async def get_template(ref: str, context: Caller) -> TemplateOut:
    """A version by id, number or `name@version`; by name the newest."""
    return TemplateOut.of(await context.services.templates.get(context.principal, ref), reveal=context.reveals)


@router.delete("/templates/{ref}", status_code=204)
async def delete_template(ref: str, context: Caller) -> Response:
    """Forget all versions of a template; refused while an endpoint names one."""
    await context.services.templates.delete(context.principal, ref)
    return Response(status_code=204)
