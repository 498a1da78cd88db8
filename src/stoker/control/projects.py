"""Projects: the one door through which they are made, renamed and deleted, and where callers' projects are known.

All of them are kept in memory: every request may name one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from sqlalchemy import Connection

from stoker.control import audit
from stoker.domain.access import Principal
from stoker.domain.authorisation import Action, admit, authorise
from stoker.domain.endpoint import ProjectId
from stoker.domain.errors import Conflict, NotFound
from stoker.domain.project import Project, check_project_name
from stoker.store import audit as audit_rows
from stoker.store import installation
from stoker.store import projects as rows
from stoker.store.base import Store
from stoker.store.installation import DEFAULT_PROJECT

PROJECTS_MAX = 1_000


class Projects:
    """See the module. `load` before use."""

    def __init__(self, store: Store, *, clock: Callable[[], float], new_id: Callable[[], str]) -> None:
        self._store = store
        self._clock = clock
        self._new_id = new_id
        self._known: dict[ProjectId, Project] = {}

    async def load(self) -> None:
        """Read them all."""
        self._known = {project.number: project for project in await self._store.read(rows.everything)}

    def acting(self, by: Principal, reference: str | None) -> Principal:
        """The caller, acting for the project that it names by number, id or name. Raises `NotFound` for all but its own
        project, unless the key is one of the installation.
        """
        if reference is None:
            return by
        return replace(by, project=self.find(by, reference).number)

    def find(self, by: Principal, reference: str) -> Project:
        """A project that exists for the caller. Raises `NotFound`."""
        for project in self._visible(by):
            if reference in (str(project.number), project.id, project.name):
                return project
        raise NotFound(f"no project {reference[:64]!r}")

    def page(self, by: Principal, *, after: int, limit: int) -> tuple[tuple[Project, ...], int | None]:
        """Projects with numbers above `after`, and the number to go on after, if there are more."""
        admit(by, Action.PROJECT_LIST)
        found = [project for project in self._visible(by) if project.number > after]
        return tuple(found[:limit]), found[limit - 1].number if len(found) > limit else None

    def _visible(self, by: Principal) -> list[Project]:
        known = sorted(self._known.values(), key=lambda project: project.number)
        return [project for project in known if by.installation or project.number == by.project]

    async def create(self, by: Principal, name: str) -> Project:
        """A new, empty project. Raises `Invalid`, `Conflict`, `Forbidden`."""
        admit(by, Action.PROJECT_CREATE)
        check_project_name(name)
        now, new_id = self._clock(), self._new_id()

        def add(tx: Connection) -> Project:
            if len(rows.everything(tx)) >= PROJECTS_MAX:
                raise Conflict(f"there are {PROJECTS_MAX} projects already, which is the most")
            _check_free(tx, name)
            number = ProjectId(installation.next_number(tx, "project"))
            project = Project(id=new_id, number=number, name=name, created_at=now)
            rows.add(tx, project)
            self._audit(tx, by, Action.PROJECT_CREATE, None, project)
            return project

        project = await self._store.write(add)
        self._known[project.number] = project
        return project

    async def rename(self, by: Principal, reference: str, name: str) -> Project:
        """Give it another name. Raises `NotFound`, `Invalid`, `Conflict`, `Forbidden`."""
        project = self._changeable(by, reference, Action.PROJECT_UPDATE)
        check_project_name(name)
        if name == project.name:
            return project
        renamed = replace(project, name=name)

        def save(tx: Connection) -> None:
            _check_free(tx, name)
            rows.rename(tx, project.number, name)
            self._audit(tx, by, Action.PROJECT_UPDATE, project, renamed)

        await self._store.write(save)
        self._known[project.number] = renamed
        return renamed

    async def delete(self, by: Principal, reference: str) -> Project:
        """Forget it, when nothing is in it. Raises `NotFound`, `Conflict`, `Forbidden`."""
        project = self._changeable(by, reference, Action.PROJECT_DELETE)
        if project.number == DEFAULT_PROJECT:
            raise Conflict("project 1 cannot be deleted")

        def remove(tx: Connection) -> None:
            held = rows.contents(tx, project.number)
            if held:
                listed = ", ".join(f"{count} {kind}" for kind, count in held.items())
                raise Conflict(f"the project is not empty: {listed}; delete them first")
            rows.remove(tx, project.number)
            self._audit(tx, by, Action.PROJECT_DELETE, project, None)

        await self._store.write(remove)
        self._known.pop(project.number, None)
        return project

    def _changeable(self, by: Principal, reference: str, action: Action) -> Project:
        project = self.find(by, reference)
        # A key of the installation acts for every project: here, for the one at hand.
        acting = replace(by, project=project.number) if by.installation else by
        authorise(acting, action, project=project.number, what=f"project {reference[:64]!r}")
        return project

    def _audit(
        self, tx: Connection, by: Principal, action: Action, before: Project | None, after: Project | None
    ) -> None:
        project = after or before
        assert project is not None
        audit_rows.add(
            tx,
            audit.draft(
                by,
                action,
                at=self._clock(),
                project=project.number,
                target=project.id,
                name=project.name,
                before=None if before is None else {"name": before.name},
                after=None if after is None else {"name": after.name},
            ),
        )


def _check_free(tx: Connection, name: str) -> None:
    if rows.name_taken(tx, name):
        raise Conflict(f"there is a project named {name!r} already")
