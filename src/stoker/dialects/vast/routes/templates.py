"""Templates, which are Stoker's own: made here or there, named by number, by hash or as `NAME@VERSION`."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shlex
from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Query

from stoker.dialects.vast import launching
from stoker.dialects.vast.caller import Caller, Context, KeyedRoute
from stoker.dialects.vast.launching import Asked, Login
from stoker.dialects.vast.wire.templates import (
    ABOUT,
    About,
    TemplateIn,
    TemplateMade,
    TemplateOut,
    TemplatesOut,
    about_of,
)
from stoker.domain.endpoint import slug_of
from stoker.domain.errors import Conflict, Invalid, NotFound
from stoker.domain.templates import Template

router = APIRouter(route_class=KeyedRoute, tags=["templates"])

PREFIX = "/api/v0/template"
HASH_CHARS = 32
_PAGE = 500


def hash_of(template: Template) -> str:
    """What clients name its content by."""
    return template.digest[:HASH_CHARS]


async def _all(context: Context) -> list[Template]:
    found: list[Template] = []
    after: int | None = 0
    while after is not None:
        page, after = await context.services.templates.page(context.principal, after=after, limit=_PAGE)
        found += page
    return found


async def found(context: Context, hash: str | None, number: int | None) -> Template:
    """The template of that hash, name or number. Raises `Invalid`."""
    if hash is not None:
        for template in await _all(context):
            if hash in (hash_of(template), template.digest):
                return template
    try:
        return await context.services.templates.get(context.principal, hash if hash is not None else str(number))
    except NotFound:
        field = "template_id" if hash is None else "template_hash"
        raise Invalid.at(f"/{field}", f"no template by that {field} is available") from None


async def with_login(context: Context, asked: Asked, login: Login | None) -> Asked:
    """With the registry's log-in as one of the project's credentials, named by what it is for."""
    if login is None:
        return asked
    digest = hashlib.sha256(f"{login.registry}\0{login.username}\0{login.password}".encode()).hexdigest()
    name = f"vast-{digest[:16]}"
    # One that is there already is the same, as its name says; if there are too many, the endpoint's door tells.
    with contextlib.suppress(Conflict):
        await context.services.credentials.create(
            context.principal, name=name, registry=login.registry, username=login.username, password=login.password
        )
    return replace(asked, launch=replace(asked.launch, credential=name))


def _shown(template: Template) -> TemplateOut:
    spec = template.spec
    said = spec.get("launch") or {}
    about = about_of(spec, template.name)
    return TemplateOut(
        id=template.number,
        hash_id=hash_of(template),
        name=about.name,
        image=said.get("image"),
        tag=about.tag,
        env=about.env,
        onstart=about.onstart,
        runtype=about.runtype or "args",
        extra_filters=about.extra_filters or {},
        recommended_disk_space=about.recommended_disk_space,
        desc=about.desc,
        creator_id=template.project,
        created_at=template.created_at,
    )


@router.post(PREFIX, operation_id="create-template")
async def create_template(body: TemplateIn, context: Caller) -> TemplateMade:
    """A template, or the one that says the same already."""
    image = body.image if not body.tag or ":" in body.image.rpartition("/")[2] else f"{body.image}:{body.tag}"
    command: tuple[str, ...] = ()
    if body.onstart:
        command = ("sh", "-c", body.onstart)
    elif body.args_str:
        command = tuple(_words(body.args_str))
    asked = Asked(launch=launching.launch(image, body.env or "", command))
    if body.docker_login_user and body.docker_login_pass:
        login = Login(body.docker_login_repo or "docker.io", body.docker_login_user, body.docker_login_pass)
        asked = await with_login(context, asked, login)
    name = body.name or image
    about = About(
        name=name,
        tag=body.tag,
        runtype=body.runtype,
        extra_filters=body.extra_filters,
        recommended_disk_space=_disk(body.recommended_disk_space),
        desc=None if body.desc is None else body.desc[:500],
        env=body.env,
        onstart=body.onstart,
    )
    spec = {"launch": _document(asked), "annotations": {ABOUT: _bounded(about)}}
    slug = slug_of(name) or "template"
    made = await context.services.templates.add(
        context.principal, name=f"t-{slug}"[:63] if slug.isdigit() else slug, spec=spec
    )
    return TemplateMade(msg="Template created", template=_shown(made))


def _bounded(about: About) -> str:
    text = about.model_dump_json(exclude_none=True)
    if len(text) > 4_096:
        text = about.model_copy(update={"env": None, "onstart": None}).model_dump_json(exclude_none=True)
    if len(text) > 4_096:
        raise Invalid.at("/extra_filters", "extra_filters is too long")
    return text


def _words(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as exc:
        raise Invalid.at("/args_str", f"args_str: {exc}") from exc


def _disk(value: str | float | None) -> float | None:
    try:
        number = None if value in (None, "") else float(value)
    except ValueError:
        raise Invalid.at("/recommended_disk_space", "recommended_disk_space is a number") from None
    if number is not None and not 0 < number <= 100_000:
        raise Invalid.at("/recommended_disk_space", "recommended_disk_space is above 0 and at most 100000")
    return number


def _document(asked: Asked) -> dict[str, Any]:
    launch = asked.launch
    said: dict[str, Any] = {"image": launch.image, "env": dict(launch.env), "command": list(launch.command)}
    said |= {"credential": launch.credential, "port": launch.port, "ports": list(launch.ports)}
    return {name: value for name, value in said.items() if value}


@router.get(PREFIX, operation_id="list-templates")
async def list_templates(
    context: Caller,
    select_filters: Annotated[str | None, Query(max_length=4_096)] = None,
    select_cols: Annotated[str | None, Query(max_length=4_096)] = None,
) -> TemplatesOut:
    """All templates, or those whose fields are as the filters say; always with all columns."""
    filters = _filters(select_filters)
    templates = [_shown(template) for template in await _all(context)]
    matching = [t for t in templates if all(_fits(t.model_dump().get(f), ops) for f, ops in filters.items())]
    return TemplatesOut(templates_found=len(matching), templates=matching)


def _filters(text: str | None) -> dict[str, dict[str, Any]]:
    try:
        value = json.loads(text or "{}")
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict) or any(not isinstance(ops, dict) for ops in value.values()):
        raise Invalid.at("/select_filters", "select_filters is no JSON object of filters")
    return value


def _fits(value: Any, ops: dict[str, Any]) -> bool:
    """Of the filters those that compare for equality; the others let everything through."""
    for op, wanted in ops.items():
        if op == "eq" and value != wanted:
            return False
        if op == "neq" and value == wanted:
            return False
        if op == "in" and value not in (wanted if isinstance(wanted, list) else [wanted]):
            return False
        if op == "notin" and value in (wanted if isinstance(wanted, list) else [wanted]):
            return False
    return True
