"""Templates: the one door through which they are added, found and deleted. What an endpoint took from one stays with
the endpoint: nothing changes for it when there is a new version.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from sqlalchemy import Connection

from stoker.control import audit
from stoker.domain.access import Principal
from stoker.domain.authorisation import Action, admit
from stoker.domain.endpoint import EndpointSpec
from stoker.domain.errors import Conflict, Invalid, NotFound
from stoker.domain.templates import VERSIONS_MAX, Template, check_template_name, parse_reference
from stoker.store import audit as audit_rows
from stoker.store import installation
from stoker.store import secrets as secret_rows
from stoker.store import templates as rows
from stoker.store.base import Store


class Templates:
    """See the module. Methods raise `Invalid`, `NotFound`, `Conflict` or `Forbidden` before they change anything."""

    def __init__(self, store: Store, *, clock: Callable[[], float], new_id: Callable[[], str]) -> None:
        self._store = store
        self._clock = clock
        self._new_id = new_id

    async def add(self, by: Principal, *, name: str, spec: Mapping[str, Any]) -> Template:
        """A new template, or a new version of one; the newest again when it says the same."""
        admit(by, Action.TEMPLATE_CREATE)
        check_template_name(name)
        digest = hashlib.sha256(msgspec.json.encode(spec, order="sorted")).hexdigest()
        now, new_id = self._clock(), self._new_id()

        def insert(tx: Connection) -> Template:
            newest = rows.find(tx, name, None, project=by.project)
            if newest is not None and newest.digest == digest:
                return newest
            if rows.count(tx, project=by.project) >= VERSIONS_MAX:
                raise Conflict(f"a project has at most {VERSIONS_MAX} versions of templates; delete some")
            template = Template(
                id=new_id,
                number=installation.next_number(tx, "template"),
                project=by.project,
                name=name,
                version=1 if newest is None else newest.version + 1,
                spec=spec,
                digest=digest,
                created_at=now,
            )
            rows.add(tx, template)
            self._audit(tx, by, Action.TEMPLATE_CREATE, template)
            return template

        return await self._store.write(insert)

    async def get(self, by: Principal, reference: str) -> Template:
        """The version of that id or number, or `name@version`, or the newest of that name."""
        admit(by, Action.TEMPLATE_READ)
        return await self._store.read(lambda tx: _found(tx, reference, by))

    async def resolve(self, by: Principal, reference: str) -> Template:
        """What a document's `template` names. Raises `Invalid` at its place."""
        name, version = parse_reference(reference)
        found = await self._store.read(lambda tx: rows.find(tx, name, version, project=by.project))
        if found is None:
            raise Invalid.at(
                "/template", f"no template {reference[:64]!r}; `stoker templates ls` lists those there are"
            )
        return found

    async def page(self, by: Principal, *, after: int, limit: int) -> tuple[tuple[Template, ...], int | None]:
        """Versions with numbers above `after`, and the number to go on after, if there are more."""
        admit(by, Action.TEMPLATE_LIST)
        found = await self._store.read(lambda tx: rows.page(tx, project=by.project, after=after, limit=limit + 1))
        return found[:limit], found[limit - 1].number if len(found) > limit else None

    async def delete(self, by: Principal, reference: str) -> None:
        """Forget all versions of a template, unless an endpoint names it, whose document could not be applied again."""
        admit(by, Action.TEMPLATE_DELETE)

        def remove(tx: Connection) -> None:
            template = _found(tx, reference, by)
            for each in rows.versions(tx, template.name, project=by.project):

                def names_it(spec: EndpointSpec, wanted: str = each.reference) -> bool:
                    return spec.template == wanted

                users = secret_rows.users(tx, names_it, project=by.project, mentioning=each.reference)
                if users:
                    shown = ", ".join(users[:10])
                    raise Conflict(f"the template {template.name!r} is named by {shown}; change them first")
            rows.remove(tx, template.name, project=by.project)
            self._audit(tx, by, Action.TEMPLATE_DELETE, template)

        await self._store.write(remove)

    def _audit(self, tx: Connection, by: Principal, action: Action, template: Template) -> None:
        facts = {"version": template.version, "digest": template.digest}
        made = action is Action.TEMPLATE_CREATE
        audit_rows.add(
            tx,
            audit.draft(
                by,
                action,
                at=self._clock(),
                target=template.id,
                name=template.name,
                before=None if made else facts,
                after=facts if made else None,
            ),
        )


def _found(tx: Connection, reference: str, by: Principal) -> Template:
    found = rows.get(tx, reference, project=by.project)
    if found is None:
        try:
            found = rows.find(tx, *parse_reference(reference), project=by.project)
        except Invalid:
            found = None
    if found is None:
        raise NotFound(f"no template {reference[:64]!r}; `stoker templates ls` lists those there are")
    return found
