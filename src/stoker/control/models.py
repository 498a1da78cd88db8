"""Models: the one door through which the catalogue changes, and where endpoints' models are looked up.

Beside the project's own there are those of the settings and the built-in one, which nobody can change here.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import msgspec
from sqlalchemy import Connection

from stoker.control import audit
from stoker.control.downloads import Downloads
from stoker.control.installed_models import InstalledModels, source_of
from stoker.control.launches import Found
from stoker.domain.access import Principal
from stoker.domain.addresses import UrlRules
from stoker.domain.authorisation import Action, admit
from stoker.domain.endpoint import EndpointSpec, ProjectId
from stoker.domain.errors import Conflict, Invalid, NotFound
from stoker.domain.launch import Launch
from stoker.domain.models import (
    Model,
    ModelId,
    ModelSource,
    ModelView,
    SourceKind,
    Weights,
    WeightsKey,
    WeightsState,
    check_model,
)
from stoker.engines.base import ModelFile
from stoker.store import audit as audit_rows
from stoker.store import installation
from stoker.store import models as rows
from stoker.store import secrets as secret_rows
from stoker.store.base import Store

MODELS_MAX = 1_000
# What stands in a launch's command for the place of weights, which is settled when they are here.
PLACE = "{weights}"


@dataclass(frozen=True, slots=True)
class Pruned:
    """What was removed to make room."""

    models: tuple[str, ...]
    bytes: int


class Models:
    """See the module. Methods raise `Invalid`, `NotFound`, `Conflict` or `Forbidden` before they change anything."""

    def __init__(
        self,
        store: Store,
        downloads: Downloads,
        *,
        named: Mapping[str, str],
        rules: UrlRules,
        clock: Callable[[], float],
        new_id: Callable[[], str],
    ) -> None:
        """`named` are the models of the settings."""
        self._store = store
        self._downloads = downloads
        self._installed = InstalledModels(named)
        self._rules = rules
        self._clock = clock
        self._new_id = new_id

    # Reading

    async def page(self, by: Principal, *, after: int, limit: int) -> tuple[tuple[ModelView, ...], int | None]:
        """Models with numbers above `after`, and the number to go on after, if there are more. First of all come those
        of the installation.
        """
        admit(by, Action.MODEL_LIST)
        found = await self._store.read(lambda tx: rows.page(tx, project=by.project, after=after, limit=limit + 1))
        shown = tuple(self._view(model) for model in found[:limit])
        if after == 0:
            shown = (*self._installed.views(), *shown)
        return shown, found[limit - 1].number if len(found) > limit else None

    async def get(self, by: Principal, reference: str) -> ModelView:
        """The model of that id, number, name or alias."""
        admit(by, Action.MODEL_READ)
        found = await self._store.read(lambda tx: rows.find(tx, reference, project=by.project))
        if found is not None:
            return self._view(found)
        installed = self._installed.find(reference)
        if installed is None:
            raise _missing(reference)
        return installed

    def _view(self, model: Model) -> ModelView:
        weights = self._downloads.weights(model.key)
        return ModelView(
            name=model.name,
            aliases=model.aliases,
            path=None if weights is None else weights.path,
            available=weights is not None and weights.state is WeightsState.READY,
            origin="project",
            model=model,
            weights=weights,
            rate_bytes_per_s=self._downloads.rate(model.key),
            used_by=tuple(e.slug for e in self._downloads.needs.used_by(model.key) if e.project == model.project),
        )

    async def find(self, spec: EndpointSpec, *, project: ProjectId) -> dict[str, Found]:
        """Those of the project's models that the spec names, as engines take them, by the name that it has for them."""
        files: dict[str, Found] = {}
        for name in {launch.model for _, launch in spec.launch_specs if launch.model is not None}:
            found = await self._store.read(lambda tx, name=name: rows.named(tx, name, project=project))  # type: ignore[misc]
            weights = None if found is None else self._downloads.weights(found.key)
            if found is not None and weights is not None:
                file = ModelFile(found.name, aliases=found.aliases, path=PLACE, is_gguf=weights.gguf)
                files[name] = Found(file=file, key=found.key, size=self._downloads.size(found.key))
        return files

    # Changing

    async def create(
        self,
        by: Principal,
        *,
        name: str,
        source: ModelSource,
        aliases: tuple[str, ...] = (),
        sha256: str | None = None,
        token_secret: str | None = None,
        pinned: bool = False,
        pull: bool = False,
    ) -> ModelView:
        """A new model of the caller's project. `pull` fetches it at once; one of this host is looked at in any case."""
        admit(by, Action.MODEL_CREATE)
        check_model(name, aliases, sha256)
        self._check_source(by, source, token_secret)
        return await self._create(
            by,
            name=name,
            source=source,
            aliases=aliases,
            sha256=sha256,
            token_secret=token_secret,
            pinned=pinned,
            pull=pull,
        )

    async def _create(
        self,
        by: Principal,
        *,
        name: str,
        source: ModelSource,
        aliases: tuple[str, ...] = (),
        sha256: str | None = None,
        token_secret: str | None = None,
        pinned: bool = False,
        pull: bool = False,
    ) -> ModelView:
        key, now = _key(source, sha256, by.project if token_secret else None, token_secret), self._clock()
        model = Model(
            id=ModelId(self._new_id()),
            number=0,
            project=by.project,
            name=name,
            aliases=aliases,
            source=source,
            sha256=sha256,
            token_secret=token_secret,
            pinned=pinned,
            key=key,
            created_at=now,
            updated_at=now,
        )
        fresh = Weights(
            key=key,
            source=source,
            sha256=sha256,
            project=by.project,
            token_secret=token_secret,
            state=WeightsState.ABSENT,
            asked=False,
            used_at=now,
        )

        def add(tx: Connection) -> tuple[Model, Weights]:
            self._check_new(tx, model)
            numbered = replace(model, number=installation.next_number(tx, "model"))
            rows.add(tx, numbered)
            # Somebody else may have them already, and know more of them.
            weights = self._downloads.weights(key) or fresh
            rows.put_weights(tx, weights)
            self._audit(tx, by, Action.MODEL_CREATE, None, numbered)
            return numbered, weights

        made, weights = await self._store.write(add)
        self._downloads.remember(weights)
        await self._refresh()
        if pull or source.local:
            await self._downloads.pull(key)
        return self._view(made)

    def offers(self, name: str) -> bool:
        """Has the installation a model of that name, so that `adopt` would find it?"""
        return self._installed.path(name) is not None

    async def adopt(self, by: Principal, name: str, *, as_name: str) -> ModelView | None:
        """A model of the installation (built in, or of the settings) as one of the project's own, called `as_name` with
        `name` as an alias; `None` when the installation has none of that name.
        """
        admit(by, Action.MODEL_CREATE)
        path = self._installed.path(name)
        if path is None:
            return None
        # Whoever wrote the settings has allowed this file, so that nobody needs to be trusted with the machine.
        source = await asyncio.to_thread(source_of, path)
        aliases = () if name == as_name else (name,)
        check_model(as_name, aliases, None)
        return await self._create(by, name=as_name, source=source, aliases=aliases)

    def _check_source(self, by: Principal, source: ModelSource, token_secret: str | None) -> None:
        if source.kind is SourceKind.PATH:
            # Any file that Stoker may read.
            admit(by, Action.SHELL_USE)
        if source.kind is SourceKind.URL:
            try:
                self._rules.check(source.location)
            except Invalid as exc:
                raise Invalid.at("/source/url", str(exc)) from exc
        if token_secret is not None:
            admit(by, Action.SECRET_USE)
            if source.local:
                raise Invalid.at("/token_secret", "nothing is fetched for a model of this host, so it needs no token")

    def _check_new(self, tx: Connection, model: Model) -> None:
        if rows.count(tx, project=model.project) >= MODELS_MAX:
            raise Conflict(f"a project has at most {MODELS_MAX} models")
        self._check_names(tx, model)
        if model.token_secret is not None:
            secret = secret_rows.find_secret(tx, model.token_secret, project=model.project)
            if secret is None or secret.name != model.token_secret:
                detail = f"there is no secret {model.token_secret[:64]!r}: stoker secrets set NAME"
                raise Invalid.at("/token_secret", detail)

    @staticmethod
    def _check_names(tx: Connection, model: Model) -> None:
        for name in model.names:
            other = rows.named(tx, name, project=model.project)
            if other is not None and other.id != model.id:
                raise Conflict(f"the model {other.name!r} is called {name!r} already")

    async def update(
        self,
        by: Principal,
        reference: str,
        *,
        aliases: tuple[str, ...] | None = None,
        pinned: bool | None = None,
    ) -> ModelView:
        """Other aliases, pinned or not; `None` leaves it."""
        admit(by, Action.MODEL_UPDATE)
        now = self._clock()

        def save(tx: Connection) -> Model:
            before = _found(tx, reference, by)
            changed = replace(
                before,
                aliases=before.aliases if aliases is None else aliases,
                pinned=before.pinned if pinned is None else pinned,
                updated_at=now,
            )
            check_model(changed.name, changed.aliases, changed.sha256)
            self._check_names(tx, changed)
            rows.save(tx, changed)
            self._audit(tx, by, Action.MODEL_UPDATE, before, changed)
            return changed

        changed = await self._store.write(save)
        await self._refresh()
        return self._view(changed)

    async def pull(self, by: Principal, reference: str) -> ModelView:
        """Bring its weights to this host now. Returns at once; the model tells how far it is."""
        admit(by, Action.MODEL_PULL)

        def record(tx: Connection) -> Model:
            model = _found(tx, reference, by)
            self._audit(tx, by, Action.MODEL_PULL, None, model)
            return model

        model = await self._store.write(record)
        await self._downloads.pull(model.key)
        return self._view(model)

    async def delete(self, by: Principal, reference: str) -> None:
        """Forget it, and its weights when no other model has them, unless an endpoint uses it."""
        admit(by, Action.MODEL_DELETE)

        def remove(tx: Connection) -> tuple[Model, bool]:
            model = _found(tx, reference, by)
            self._check_unused(tx, model)
            rows.remove(tx, model)
            alone = not rows.sharing(tx, model.key)
            if alone:
                rows.remove_weights(tx, model.key)
            self._audit(tx, by, Action.MODEL_DELETE, model, None)
            return model, alone

        model, alone = await self._store.write(remove)
        if alone:
            await self._downloads.forget(model.key)
        await self._refresh()

    def _check_unused(self, tx: Connection, model: Model) -> None:
        def names_it(spec: EndpointSpec) -> bool:
            return any(launch.model in model.names for _, launch in spec.launch_specs)

        found = [secret_rows.users(tx, names_it, project=model.project, mentioning=name) for name in model.names]
        users = {slug for slugs in found for slug in slugs}
        if len(rows.sharing(tx, model.key)) == 1:
            users |= {endpoint.slug for endpoint in self._downloads.needs.used_by(model.key)}
        if users:
            shown = ", ".join(sorted(users)[:10])
            raise Conflict(f"the model {model.name!r} is used by {shown}; delete or change them first")

    async def prune(self, by: Principal) -> Pruned:
        """Remove from this host what no active endpoint uses, nobody has pinned and nobody is fetching."""
        admit(by, Action.MODEL_PRUNE)
        removed, count = await self._downloads.prune()
        names = await self._store.read(lambda tx: [m.name for key in removed for m in rows.sharing(tx, key)])
        at = self._clock()
        facts = {"models": names, "bytes": count}
        draft = audit.draft(by, Action.MODEL_PRUNE, at=at, target="models", name="models", after=facts)
        await self._store.write(lambda tx: audit_rows.add(tx, draft))
        return Pruned(tuple(names), count)

    async def _refresh(self) -> None:
        self._downloads.models_changed(await self._store.read(rows.everything))

    def _audit(self, tx: Connection, by: Principal, action: Action, before: Model | None, after: Model | None) -> None:
        model = after or before
        assert model is not None
        audit_rows.add(
            tx,
            audit.draft(
                by,
                action,
                at=self._clock(),
                target=model.id,
                name=model.name,
                before=None if before is None else audit.model_facts(before),
                after=None if after is None else audit.model_facts(after),
            ),
        )


def check_launches(tx: Connection, launches: Mapping[str, Launch]) -> None:
    """Refuse what was resolved to weights that were removed meanwhile. Raises `Conflict`."""
    for launch in launches.values():
        if launch.weights is not None and rows.find_weights(tx, WeightsKey(launch.weights)) is None:
            raise Conflict("its model has been removed from the catalogue; add it again: stoker models add")


def _key(source: ModelSource, sha256: str | None, project: ProjectId | None, token_secret: str | None) -> WeightsKey:
    """The same for the same weights. What is fetched with a token is shared by those who have it, not with others."""
    value = msgspec.json.encode((source, sha256, project, token_secret))
    return WeightsKey(hashlib.sha256(value).hexdigest()[:32])


def _found(tx: Connection, reference: str, by: Principal) -> Model:
    model = rows.find(tx, reference, project=by.project)
    if model is None:
        raise _missing(reference)
    return model


def _missing(reference: str) -> NotFound:
    return NotFound(f"no model {reference[:64]!r}; `stoker models ls` lists those there are")
