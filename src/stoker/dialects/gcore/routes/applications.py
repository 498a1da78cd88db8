"""Applications: the catalogue of templates, and deployments of several components made of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from fastapi import APIRouter

from stoker.dialects.gcore import applications
from stoker.dialects.gcore.applications import CHAT, Component, Shown
from stoker.dialects.gcore.caller import PAGE_ITEMS_MAX, Anywhere, Caller, Context, KeyedRoute
from stoker.dialects.gcore.flavors import flavors, place_of
from stoker.dialects.gcore.routes import keys
from stoker.dialects.gcore.routes.catalogue import check_regions
from stoker.dialects.gcore.routes.deployments import shown
from stoker.dialects.gcore.routes.tasks import keep
from stoker.dialects.gcore.wire.applications import (
    ApplicationIn,
    ApplicationOut,
    ApplicationPatch,
    ComponentPatch,
    Part,
    PricedApplicationIn,
    TemplateOut,
)
from stoker.dialects.gcore.wire.base import Page
from stoker.dialects.gcore.wire.catalogue import PriceOut
from stoker.dialects.gcore.wire.deployments import TasksOut
from stoker.domain.access import ApiKey
from stoker.domain.endpoint import Access, Endpoint, EndpointSpec
from stoker.domain.errors import Conflict, Invalid, NotFound, Problem, StokerError
from stoker.domain.operation import Operation
from stoker.domain.views import EndpointView

router = APIRouter(route_class=KeyedRoute, tags=["applications"])

PREFIX = "/v3/inference/applications/{project_id}/deployments"
CREATE, UPDATE, DELETE = (f"{verb}_inference_application" for verb in ("create", "update", "delete"))


# Templates


async def _models(context: Context) -> list[str]:
    page, _ = await context.services.models.page(context.principal, after=0, limit=PAGE_ITEMS_MAX)
    return [view.name for view in page if view.available]


async def _template(context: Context) -> TemplateOut:
    return applications.template(flavors(context.services, context.principal), await _models(context))


@router.get("/v3/inference/applications/catalog", operation_id="list-application-templates")
async def list_application_templates(context: Anywhere) -> Page[TemplateOut]:
    """The templates: there is one."""
    return Page.of([await _template(context)], limit=PAGE_ITEMS_MAX, offset=0)


@router.get("/v3/inference/applications/catalog/{application_name}", operation_id="get-application-template")
async def get_application_template(application_name: str, context: Anywhere) -> TemplateOut:
    """A template by name."""
    if application_name != CHAT:
        raise NotFound(f"no application {application_name[:64]!r}")
    return await _template(context)


# Deployments of them


async def _parts(context: Context) -> dict[str, list[tuple[Part, EndpointView]]]:
    """The components of all applications of the project, by the applications' names."""
    found: dict[str, list[tuple[Part, EndpointView]]] = {}
    for view in await context.views():
        part = applications.part_of(view.endpoint.spec)
        if part is not None:
            found.setdefault(part.deployment, []).append((part, view))
    return found


async def _found(context: Context, name: str) -> list[tuple[Part, EndpointView]]:
    parts = (await _parts(context)).get(name)
    if parts is None:
        raise NotFound(f"no application deployment {name[:64]!r}")
    return parts


async def _shown(
    context: Context, name: str, parts: Iterable[tuple[Part, EndpointView]], known: Sequence[ApiKey]
) -> ApplicationOut:
    return applications.application(
        name,
        [
            Shown(part, applications.present(view.endpoint.spec, part), await shown(context, view, known))
            for part, view in parts
        ],
    )


@router.post(PREFIX, operation_id="create-application")
async def create_application(body: ApplicationIn, context: Caller) -> TasksOut:
    """A deployment for each component; a task for each of them. All of them or none."""
    _check_name(body.application_name)
    if body.name in await _parts(context):
        raise Conflict(f"there is an application deployment named {body.name!r} already")
    attached = await keys.named(context, body.api_keys) if body.api_keys else []
    wanted = applications.wanted(body.components_configuration)
    specs = await _specs(context, body.name, wanted, body.regions, keyed=bool(attached))
    made: list[tuple[Endpoint, Operation]] = []
    try:
        for spec in specs:
            created = await context.services.endpoints.create(context.principal, spec)
            made.append(created)
    except StokerError:
        # What was looked at may have changed since, or a name be taken.
        for endpoint, _ in made:
            await context.services.endpoints.delete(context.principal, endpoint.id)
        raise
    for endpoint, operation in made:
        await keep(context, operation, endpoint.spec.name, body.model_dump(mode="json", exclude_unset=True), CREATE)
        if attached:
            await _attach(context, endpoint, attached)
    return TasksOut(tasks=[operation.id for _, operation in made])


def _check_name(name: str) -> None:
    if name != CHAT:
        raise Invalid.at("/application_name", f"no application {name[:64]!r}")


async def _specs(
    context: Context,
    name: str,
    components: Sequence[Component],
    regions: Sequence[int],
    *,
    keyed: bool,
    known: dict[str, EndpointSpec] | None = None,
) -> list[EndpointSpec]:
    """The endpoints that the components are to be, looked at by all who would refuse one. Raises `Invalid`."""
    place, models = place_of(context.services, context.principal), await _models(context)
    specs = [
        applications.endpoint_of(
            name,
            component,
            regions,
            place,
            default_model=next(iter(models), None),
            keyed=keyed,
            before=(known or {}).get(component.name),
        )
        for component in components
    ]
    for component, spec in zip(components, specs, strict=True):
        try:
            await context.services.endpoints.preview(context.principal, spec)
        except Invalid as exc:
            at = f"/components_configuration/{component.name}"
            raise Invalid(str(exc), problems=tuple(Problem(at, problem.detail) for problem in exc.problems)) from exc
    return specs


async def _attach(context: Context, endpoint: Endpoint, attached: Sequence[ApiKey]) -> None:
    part = applications.part_of(endpoint.spec)
    await keys.attach(context, endpoint, attached if part is not None and part.exposed else ())


@router.get(PREFIX, operation_id="list-applications")
async def list_applications(context: Caller) -> Page[ApplicationOut]:
    """All applications of the project."""
    known = await keys.visible(context)
    found = [await _shown(context, name, parts, known) for name, parts in (await _parts(context)).items()]
    return Page(count=len(found), results=found)


@router.get(PREFIX + "/{deployment_name}", operation_id="get-application")
async def get_application(deployment_name: str, context: Caller) -> ApplicationOut:
    """An application by name."""
    parts = await _found(context, deployment_name)
    return await _shown(context, deployment_name, parts, await keys.visible(context))


@router.patch(PREFIX + "/{deployment_name}", operation_id="update-application")
async def update_application(deployment_name: str, body: ApplicationPatch, context: Caller) -> TasksOut:
    """Change what is said of some components, take away those that are null, and add those that are new."""
    parts = await _found(context, deployment_name)
    now = await _shown(context, deployment_name, parts, await keys.visible(context))
    there = {part.component: view.endpoint for part, view in parts}
    changes = body.components_configuration or {}
    removed = _removed(changes, there)
    wanted = [_wanted(part, view, changes.get(part.component)) for part, view in parts if part.component not in removed]
    wanted += [
        applications.patched(name, None, patch)
        for name, patch in changes.items()
        if patch is not None and name not in there
    ]
    known = {name: endpoint.spec for name, endpoint in there.items()}
    if body.api_keys is None:
        # Whoever does not see the keys leaves it closed all the same.
        attached = await keys.named(context, now.api_keys) if now.api_keys else []
        keyed = any(spec.access is Access.ATTACHED for spec in known.values())
    else:
        attached = await keys.named(context, body.api_keys)
        keyed = bool(attached)
    specs = await _specs(context, deployment_name, wanted, body.regions or now.regions, keyed=keyed, known=known)
    tasks: list[tuple[Endpoint, Operation | None]] = []
    for component, spec in zip(wanted, specs, strict=True):
        endpoint = there.get(component.name)
        endpoints, caller = context.services.endpoints, context.principal
        if endpoint is None:
            tasks.append(await endpoints.create(caller, spec))
        else:
            tasks.append(await endpoints.update(caller, endpoint.id, spec))
    if body.api_keys is not None or attached:
        for endpoint, _ in tasks:
            await _attach(context, endpoint, attached)
    tasks += [await _delete(context, there[name]) for name in removed]
    return await _noted(context, tasks, UPDATE, body.model_dump(mode="json", exclude_unset=True))


def _removed(changes: dict[str, ComponentPatch | None], there: dict[str, Endpoint]) -> list[str]:
    removed = [name for name, patch in changes.items() if patch is None]
    for name in removed:
        if applications.COMPONENTS.get(name, False):
            raise Invalid.at(f"/components_configuration/{name}", "this component is required")
    return [name for name in removed if name in there]


def _wanted(part: Part, view: EndpointView, patch: ComponentPatch | None) -> Component:
    before = applications.present(view.endpoint.spec, part)
    return before if patch is None else applications.patched(part.component, before, patch)


async def _delete(context: Context, endpoint: Endpoint) -> tuple[Endpoint, Operation]:
    deleted = await context.services.endpoints.delete(context.principal, endpoint.id)
    await keys.let_go(context, endpoint)
    return deleted


async def _noted(
    context: Context, tasks: Sequence[tuple[Endpoint, Operation | None]], kind: str, data: object
) -> TasksOut:
    begun = [(endpoint, operation) for endpoint, operation in tasks if operation is not None]
    for endpoint, operation in begun:
        await keep(context, operation, endpoint.spec.name, data, kind)
    return TasksOut(tasks=[operation.id for _, operation in begun])


@router.delete(PREFIX + "/{deployment_name}", operation_id="delete-application")
async def delete_application(deployment_name: str, context: Caller) -> TasksOut:
    """Let the requests of all components finish, then forget them."""
    parts = await _found(context, deployment_name)
    return await _noted(context, [await _delete(context, view.endpoint) for _, view in parts], DELETE, None)


@router.post("/v2/pricing/inference/applications", operation_id="preview-application-price")
async def preview_application_price(body: PricedApplicationIn, context: Anywhere) -> PriceOut:
    """No price, as for deployments."""
    _check_name(body.application_name)
    place = place_of(context.services, context.principal)
    for component in applications.wanted(body.components_configuration):
        flavor = place.flavors.get(component.flavor)
        if flavor is None:
            raise Invalid.at(f"/components_configuration/{component.name}/flavor", "no such flavor")
        check_regions(place, flavor, body.regions, "/regions/{}")
    return PriceOut()
