"""Workergroups, on both of their paths: create, list, update, delete."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter

from stoker.dialects.vast import launching, mapping, search, showing
from stoker.dialects.vast.caller import Caller, Context, Id, KeyedRoute
from stoker.dialects.vast.errors import NoGroup
from stoker.dialects.vast.launching import Asked, Login
from stoker.dialects.vast.mapping import Group
from stoker.dialects.vast.routes import endpoints, templates
from stoker.dialects.vast.wire.base import Deleted, Done, Identified, Made
from stoker.dialects.vast.wire.endpoints import Kept, ParamsIn
from stoker.dialects.vast.wire.groups import GroupIn, GroupKept, GroupsOut, Spend, SpendOut
from stoker.domain.authorisation import Action
from stoker.domain.endpoint import Endpoint, EndpointSpec
from stoker.domain.errors import Invalid, NotFound
from stoker.domain.hardware import HardwareRequest

router = APIRouter(route_class=KeyedRoute, tags=["workergroups"])

PREFIXES = ("/api/v0/autojobs", "/api/v0/workergroups")
NO_ENDPOINT = "Please assign your workergroup to a valid endpoint identifier"


async def found(context: Context, id: int | None, action: Action = Action.ENDPOINT_READ) -> tuple[Endpoint, Group]:
    """A workergroup and its endpoint. Raises `NoGroup`."""
    if id is None:
        raise NoGroup(id)
    try:
        endpoint = await context.numbered(id // mapping.GROUPS, action)
    except NotFound:
        raise NoGroup(id) from None
    for group in mapping.groups_of(endpoint):
        if group.id == id:
            return endpoint, group
    raise NoGroup(id)


def _search_text(value: str | list[Any] | dict[str, Any] | None) -> str | None:
    """All forms that guides show as the one that is kept."""
    if value is None or isinstance(value, str):
        return value
    terms = value if isinstance(value, list) else [_term(field, ops) for field, ops in value.items()]
    return " ".join(str(term) for term in terms)


def _term(field: str, ops: Any) -> str:
    if not isinstance(ops, dict):
        ops = {"eq": ops}
    return " ".join(f"{field} {op} {_spelled(value)}" for op, value in ops.items())


def _spelled(value: Any) -> str:
    if isinstance(value, list):
        return "[" + ",".join(_spelled(each) for each in value) + "]"
    return str(value).replace(" ", "_")


async def _asked(context: Context, body: GroupIn) -> tuple[Asked | None, dict[str, Any]]:
    """What it is to run, if it says that, and how that is remembered."""
    if body.template_hash is not None or body.template_id is not None:
        template = await templates.found(context, body.template_hash, body.template_id)
        about = {"template_hash": body.template_hash or templates.hash_of(template), "template_id": template.number}
        return launching.of_template(template.spec), about
    if body.launch_args is None:
        return None, {}
    asked = launching.of_arguments(body.launch_args)
    # What is kept is shown again: of a log-in, everything but the password.
    text = body.launch_args if asked.login is None else launching.masked(body.launch_args)
    return asked, {"launch_args": text, "template_hash": None, "template_id": None}


def _login(body: GroupIn, asked: Asked) -> Login | None:
    if body.docker_login_user and body.docker_login_pass:
        return Login(body.docker_login_repo or "docker.io", body.docker_login_user, body.docker_login_pass)
    return asked.login


def _hardware(context: Context, text: str | None, asked: Asked | None, gpu_ram: float | None) -> HardwareRequest:
    """What was asked for; where that was nothing, what the template says."""
    query = search.parsed(text or "")
    if asked is not None and not search.said(text) and asked.query:
        query = dict(asked.query)
    regions = tuple(context.services.views.regions)
    wanted = search.hardware(query, gpu_ram_gb=gpu_ram, regions=regions)
    if asked is not None and asked.disk_gib and wanted.disk_gib is None and wanted.gpu_count:
        # Images of machines without cards are stand-ins, whose disks nobody counts.
        return search.with_disk(wanted, asked.disk_gib)
    return wanted


async def _endpoint(context: Context, body: GroupIn) -> tuple[Endpoint | None, EndpointSpec]:
    """The one it is to belong to, and its spec: of an unknown name, that of one to be made. Raises `Invalid`."""
    if body.endpoint_id is None and body.endpoint_name is None:
        raise Invalid.at("/endpoint_id", NO_ENDPOINT)
    try:
        if body.endpoint_id is not None:
            found = await context.numbered(body.endpoint_id, Action.ENDPOINT_UPDATE)
        else:
            found = await context.named(body.endpoint_name or "", Action.ENDPOINT_UPDATE)
    except NotFound:
        if body.endpoint_id is not None:
            raise Invalid.at("/endpoint_id", NO_ENDPOINT) from None
        said = body.model_dump(exclude_none=True, include=set(ParamsIn.model_fields) - set(Identified.model_fields))
        kept = mapping.given(Kept(), ParamsIn(**said))
        return None, endpoints.bare(context, body.endpoint_name or "", kept)
    return found, found.spec


async def _create(body: GroupIn, context: Caller) -> Made:
    """A new workergroup of an endpoint, which runs what its template or its arguments say."""
    asked, about = await _asked(context, body)
    if asked is None:
        raise Invalid.at("/template_hash", "say template_hash, template_id, or search_params with launch_args")
    text = _search_text(body.search_params)
    hardware = _hardware(context, text, asked, body.gpu_ram)
    providers = endpoints.providers_for(context, hardware)
    asked = await templates.with_login(context, asked, _login(body, asked))
    present, spec = await _endpoint(context, body)
    group = mapping.changed_group(GroupKept(), body, **about, search_params=text, created_at=context.services.clock())
    endpoint, name = await _joined(context, present, spec, asked, group, hardware, providers)
    id = next(each.id for each in mapping.groups_of(endpoint) if each.pool.name == name)
    return Made(id=id, result=id)


async def _joined(
    context: Context,
    present: Endpoint | None,
    before: EndpointSpec,
    asked: Asked,
    group: GroupKept,
    hardware: HardwareRequest,
    providers: Sequence[str],
) -> tuple[Endpoint, str]:
    """The endpoint with one more workergroup, at the first provider that can run what it asks for, and its pool. Where
    none is present it is made together with it.
    """
    kept = mapping.kept_of(before)
    for provider in providers:
        spec, changed, name = mapping.joined(before, kept, asked, group, hardware, provider)
        try:
            return await endpoints.apply(context, present, spec, changed), name
        except Invalid as exc:
            runs = not any(problem.pointer.endswith("/launch/image") for problem in exc.problems)
            if runs or provider == providers[-1]:
                raise
    raise AssertionError("there is at least one provider")


async def _list(context: Caller) -> GroupsOut:
    """All workergroups of all endpoints."""
    results = []
    for view in await context.views():
        groups = mapping.groups_of(view.endpoint)
        key = await endpoints.key_of(context, view.endpoint) if groups else ""
        results += [showing.group_out(view.endpoint, group, key=key) for group in groups]
    return GroupsOut(results=results)


async def _update(id: Id, body: GroupIn, context: Caller) -> Done:
    """Change what it runs or where. What clients send when nothing was asked for changes nothing."""
    endpoint, group = await found(context, id, Action.ENDPOINT_UPDATE)
    if body.endpoint_id is None and body.endpoint_name is None:
        raise Invalid.at("/endpoint_id", NO_ENDPOINT)
    other = await _endpoint_named(context, body)
    if other.id != endpoint.id:
        raise Invalid.at("/endpoint_id", "a workergroup stays with its endpoint here: make one in the other")
    kept = group.kept or GroupKept()
    asked, about = await _asked(context, body)
    text = _search_text(body.search_params)
    text = text if search.said(text) else kept.search_params
    changed = mapping.changed_group(kept, body, **about, search_params=text)
    known = asked if asked is not None else await _known(context, kept)
    hardware = _hardware(context, text, known, changed.gpu_ram)
    if asked is not None:
        asked = await templates.with_login(context, asked, _login(body, asked))
    spec = mapping.regrouped(endpoint.spec, group.pool.name, changed, hardware, asked)
    await endpoints.apply(context, endpoint, spec, mapping.kept_of(endpoint.spec))
    return Done()


async def _endpoint_named(context: Context, body: GroupIn) -> Endpoint:
    try:
        if body.endpoint_id is not None:
            return await context.numbered(body.endpoint_id)
        return await context.named(body.endpoint_name or "")
    except NotFound as exc:
        raise Invalid.at("/endpoint_id", str(exc)) from None


async def _known(context: Context, kept: GroupKept) -> Asked | None:
    """What its template says by now, if it has one that is still there."""
    if kept.template_id is None:
        return None
    try:
        return launching.of_template((await templates.found(context, None, kept.template_id)).spec)
    except Invalid:
        return None


async def _delete(id: Id, context: Caller, body: Identified | None = None) -> Deleted:
    """An end to a workergroup and its workers; the endpoint stays."""
    endpoint, group = await found(context, id, Action.ENDPOINT_UPDATE)
    workers = await context.services.views.workers(endpoint)
    spec = mapping.left(endpoint.spec, group.pool.name)
    await endpoints.apply(context, endpoint, spec, mapping.kept_of(endpoint.spec))
    own = [view.worker for view in workers if view.worker.pool == group.pool.name and not view.worker.gone]
    return Deleted(deleted_workers=sorted(worker.number for worker in own))


@router.get("/api/v0/serverless/workergroups/spend", operation_id="spend")
async def spend(context: Caller) -> SpendOut:
    """What each workergroup costs in an hour, by the prices of the machines that its workers are on."""
    found = []
    for view in await context.views():
        workers = [each.worker for each in await context.services.views.workers(view.endpoint)]
        placed = [worker for worker in workers if not worker.gone and worker.placement is not None]
        for group in mapping.groups_of(view.endpoint):
            prices = [
                worker.placement.price for worker in placed if worker.placement and worker.pool == group.pool.name
            ]
            known = [price for price in prices if price is not None]
            found.append(Spend(id=group.id, hourly_spend=sum(known) if len(known) == len(prices) else None))
    return SpendOut(workergroups=found, data_timestamp=context.services.clock())


for prefix in PREFIXES:
    described = prefix == PREFIXES[0]
    for method, path, name, function in (
        ("POST", prefix, "create-workergroup", _create),
        ("GET", prefix, "list-workergroups", _list),
        ("PUT", prefix + "/{id}", "update-workergroup", _update),
        ("DELETE", prefix + "/{id}", "delete-workergroup", _delete),
    ):
        router.add_api_route(path, function, methods=[method], operation_id=name, include_in_schema=described)
