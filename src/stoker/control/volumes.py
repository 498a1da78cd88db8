"""Volumes: the one door through which they are made, resized and deleted; whether they are there, and what is in them.

What one lies in is made after its row is committed and removed before its row is, so that whatever dies, the next
control finishes it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import structlog
from sqlalchemy import Connection

from stoker.control import audit
from stoker.control.fleet import Fleet
from stoker.control.loop import Loop
from stoker.control.volume_places import Folders, Held, Place
from stoker.domain.access import Principal
from stoker.domain.authorisation import Action, admit
from stoker.domain.endpoint import Endpoint, EndpointId, EndpointSpec, ProjectId
from stoker.domain.errors import Conflict, Invalid, NotFound, Unavailable
from stoker.domain.models import Hold
from stoker.domain.volumes import Mount, Volume, VolumeMount, VolumeState, VolumeUse, check_volume, variable_of
from stoker.models.cache import gib
from stoker.providers.base import HoldsVolumes
from stoker.store import audit as audit_rows
from stoker.store import installation
from stoker.store import secrets as secret_rows
from stoker.store import volumes as rows

log = structlog.get_logger(__name__)

VOLUMES_MAX = 1_000
MEASURE_PERIOD_S = 30.0
# The provider whose workers share the folders of Stoker's host, and see them where they are.
PROVIDER = "process"
REGION = "local"
_PLACE = re.compile(r"\{volume:([^}]*)\}")


class Volumes:
    """See the module. `load`, then run `loop`."""

    def __init__(
        self,
        fleet: Fleet,
        root: Path,
        *,
        clock: Callable[[], float],
        new_id: Callable[[], str],
        told: Callable[[EndpointId], None],
        held: Mapping[str, HoldsVolumes] = MappingProxyType({}),
    ) -> None:
        """`held`: providers that keep volumes by themselves. `told(endpoint)` is called when an endpoint may start
        workers again, or may not any more.
        """
        self._fleet = fleet
        self._places: dict[str, Place] = {PROVIDER: Folders(root)}
        self._places |= {name: Held(provider) for name, provider in held.items()}
        self._clock = clock
        self._new_id = new_id
        self._told = told
        self._known: dict[tuple[int, str], Volume] = {}
        self._uses: dict[str, VolumeUse] = {}
        self.loop = Loop("volumes", self.measure, period_s=MEASURE_PERIOD_S)

    async def load(self) -> None:
        """Read them all. The first look finishes what was begun."""
        for volume in await self._fleet.store.read(rows.everything):
            self._remember(volume)

    def _remember(self, volume: Volume) -> None:
        self._known[volume.project, volume.name] = volume

    def _place(self, volume: Volume) -> Place:
        place = self._places.get(volume.provider)
        if place is None:
            raise Unavailable(f"its provider {volume.provider} is not configured, or keeps no volumes")
        return place

    # What others ask

    def use(self, volume: Volume) -> VolumeUse | None:
        """What it holds, as last measured; `None` before that."""
        return self._uses.get(volume.id)

    def hold(self, endpoint: Endpoint) -> Hold | None:
        """Why no worker may start with the volumes of this endpoint."""
        for mount in endpoint.spec.volumes:
            volume = self._known.get((endpoint.project, mount.volume))
            if volume is None or volume.state is not VolumeState.READY:
                state = "not there" if volume is None else volume.state.value
                return Hold(
                    f"the volume {mount.volume!r} is {state}", failed=state in ("not there", "lost"), volume=True
                )
            use = self._uses.get(volume.id)
            if use is not None and use.bytes > volume.size_bytes:
                return Hold(
                    f"the volume {volume.name!r} holds {gib(use.bytes)} of {gib(volume.size_bytes)}: make it larger "
                    f"(stoker volumes resize {volume.name} GIB) or remove some of what is in it",
                    failed=True,
                    volume=True,
                )
        return None

    def mounts(self, project: ProjectId, wanted: tuple[VolumeMount, ...]) -> tuple[Mount, ...]:
        """The same for a provider."""
        known = ((mount, self._known.get((project, mount.volume))) for mount in wanted)
        return tuple(
            self._places[volume.provider].mount(volume, mount)
            for mount, volume in known
            if volume is not None and volume.provider in self._places
        )

    # The door

    async def create(self, by: Principal, *, name: str, size_gib: float, provider: str, region: str) -> Volume:
        """A new, empty volume of the caller's project."""
        admit(by, Action.VOLUME_CREATE)
        check_volume(name, size_gib)
        if provider not in self._places:
            raise Invalid.at("/provider", f"volumes are of the providers {', '.join(sorted(self._places))}")
        if region != REGION:
            raise Invalid.at("/region", f"the provider {PROVIDER} has the one region {REGION}")
        volume = Volume(
            id=self._new_id(),
            number=0,
            project=by.project,
            name=name,
            size_gib=size_gib,
            provider=provider,
            region=region,
            state=VolumeState.CREATING,
            created_at=self._clock(),
        )

        def add(tx: Connection) -> Volume:
            if rows.named(tx, name, project=by.project) is not None:
                raise Conflict(f"there is a volume named {name!r} already")
            if rows.count(tx, project=by.project) >= VOLUMES_MAX:
                raise Conflict(f"a project has at most {VOLUMES_MAX} volumes")
            numbered = replace(volume, number=installation.next_number(tx, "volume"))
            rows.add(tx, numbered)
            self._audit(tx, by, Action.VOLUME_CREATE, None, numbered)
            return numbered

        made = await self._fleet.store.write(add)
        self._remember(made)
        try:
            return await self._make(made)
        except Unavailable as exc:
            log.error("volume_failed", volume=made.id, name=made.name, error=str(exc))
            return made
        except Invalid:
            await self._forget(made)
            raise

    async def get(self, by: Principal, reference: str) -> Volume:
        """The volume of that id, number or name."""
        admit(by, Action.VOLUME_READ)
        return await self._fleet.store.read(lambda tx: _found(tx, reference, by))

    async def page(self, by: Principal, *, after: int, limit: int) -> tuple[tuple[Volume, ...], int | None]:
        """Volumes with numbers above `after`, and the number to go on after, if there are more."""
        admit(by, Action.VOLUME_LIST)
        found = await self._fleet.store.read(lambda tx: rows.page(tx, project=by.project, after=after, limit=limit + 1))
        return found[:limit], found[limit - 1].number if len(found) > limit else None

    async def resize(self, by: Principal, reference: str, size_gib: float) -> Volume:
        """Let it hold more, or, where its provider can, less: what is in it stays in any case."""
        admit(by, Action.VOLUME_UPDATE)
        found = await self._fleet.store.read(lambda tx: _found(tx, reference, by))
        check_volume(found.name, size_gib)
        if size_gib < found.size_gib and not self._place(found).shrinks:
            raise Invalid.at("/size_gib", f"volumes of {found.provider} grow, and do not shrink")
        # Before it is recorded: what is larger than it is known to be does no harm.
        await self._place(found).resize(replace(found, size_gib=size_gib))

        def save(tx: Connection) -> Volume:
            before = _found(tx, reference, by)
            changed = replace(before, size_gib=size_gib)
            rows.save(tx, changed)
            self._audit(tx, by, Action.VOLUME_UPDATE, before, changed)
            return changed

        changed = await self._fleet.store.write(save)
        self._remember(changed)
        self._tell(changed)
        return changed

    async def delete(self, by: Principal, reference: str) -> None:
        """Remove it with all that is in it, unless an endpoint or a worker that is not gone has it."""
        admit(by, Action.VOLUME_DELETE)

        def mark(tx: Connection) -> Volume:
            volume = _found(tx, reference, by)

            def mounts_it(spec: EndpointSpec) -> bool:
                return any(mount.volume == volume.name for mount in spec.volumes)

            users = set(secret_rows.users(tx, mounts_it, project=by.project, mentioning=volume.name))
            users |= self._open(volume)
            if users:
                shown = ", ".join(sorted(users)[:10])
                raise Conflict(f"the volume {volume.name!r} is used by {shown}; delete or change them first")
            marked = replace(volume, state=VolumeState.DELETING)
            rows.save(tx, marked)
            self._audit(tx, by, Action.VOLUME_DELETE, volume, None)
            return marked

        volume = await self._fleet.store.write(mark)
        self._remember(volume)
        await self._remove(volume)

    def _open(self, volume: Volume) -> set[str]:
        """Endpoints of which a worker that is not gone was started with it."""
        found = set()
        for worker in self._fleet.all_workers():
            endpoint, revision = self._fleet.endpoint(worker.endpoint), self._fleet.revision_of(worker)
            if worker.gone or endpoint is None or revision is None or endpoint.project != volume.project:
                continue
            if any(mount.volume == volume.name for mount in revision.spec.volumes):
                found.add(endpoint.slug)
        return found

    # What they lie in

    async def _make(self, volume: Volume) -> Volume:
        await self._place(volume).make(volume)
        return await self._become(volume, VolumeState.READY)

    async def _remove(self, volume: Volume) -> None:
        await self._place(volume).remove(volume)
        await self._forget(volume)

    async def _forget(self, volume: Volume) -> None:
        await self._fleet.store.write(lambda tx: rows.remove(tx, volume))
        self._known.pop((volume.project, volume.name), None)
        self._uses.pop(volume.id, None)

    async def _become(self, volume: Volume, state: VolumeState) -> Volume:
        changed = replace(volume, state=state)
        if changed != volume:
            await self._fleet.store.write(lambda tx: rows.save(tx, changed))
            self._remember(changed)
            self._tell(changed)
        return changed

    async def measure(self) -> None:
        """Look at every folder: is it there, what does it hold. Finishes what an earlier look could not."""
        for volume in tuple(self._known.values()):
            try:
                await self._look(volume)
            except (OSError, Invalid, Unavailable) as exc:
                log.error("volume_failed", volume=volume.id, name=volume.name, error=str(exc))

    async def _look(self, volume: Volume) -> None:
        if volume.state is VolumeState.DELETING:
            await self._remove(volume)
            return
        if volume.state is VolumeState.CREATING:
            volume = await self._make(volume)
        found = await self._place(volume).look(volume)
        current = self._known.get((volume.project, volume.name))
        if current is None or current.id != volume.id or current.state is VolumeState.DELETING:
            return
        volume = await self._become(current, VolumeState.READY if found.there else VolumeState.LOST)
        size = found.bytes
        if size is None:
            self._uses.pop(volume.id, None)
            return
        before, self._uses[volume.id] = self._uses.get(volume.id), VolumeUse(bytes=size, at=self._clock())
        over = size > volume.size_bytes
        if over != (before is not None and before.bytes > volume.size_bytes):
            event = "volume_full" if over else "volume_has_room"
            log.warning(event, volume=volume.id, name=volume.name, bytes=size, size_bytes=volume.size_bytes)
            self._tell(volume)

    def _tell(self, volume: Volume) -> None:
        for endpoint in self._fleet.endpoints():
            if endpoint.project == volume.project and any(m.volume == volume.name for m in endpoint.spec.volumes):
                self._told(endpoint.id)

    def _audit(
        self, tx: Connection, by: Principal, action: Action, before: Volume | None, after: Volume | None
    ) -> None:
        volume = after or before
        assert volume is not None
        audit_rows.add(
            tx,
            audit.draft(
                by,
                action,
                at=self._clock(),
                target=volume.id,
                name=volume.name,
                before=None if before is None else {"size_gib": before.size_gib},
                after=None if after is None else {"size_gib": after.size_gib},
            ),
        )


def check_volumes(tx: Connection, spec: EndpointSpec, *, project: ProjectId) -> None:
    """Refuse volumes that there are not, and what the provider of a pool cannot do with them. Raises `Invalid`."""
    _check_places(spec)
    for index, mount in enumerate(spec.volumes):
        at = f"/volumes/{index}"
        volume = rows.named(tx, mount.volume, project=project)
        if volume is None or volume.state is VolumeState.DELETING:
            raise Invalid.at(f"{at}/volume", f"there is no volume {mount.volume!r}: stoker volumes create NAME")
        for pool in spec.pools:
            if pool.provider != volume.provider:
                detail = f"this volume is of {volume.provider}, and the pool {pool.name!r} is of {pool.provider}"
                raise Invalid.at(f"{at}/volume", detail)
        if volume.provider == PROVIDER:
            _check_process(mount, at)


def _check_places(spec: EndpointSpec) -> None:
    named = {mount.volume for mount in spec.volumes}
    for place, launch in spec.launch_specs:
        for field, arguments in (("command", launch.command), ("parameters", launch.parameters)):
            for index, argument in enumerate(arguments):
                unknown = set(_PLACE.findall(argument)) - named
                if unknown:
                    detail = f"the volume {min(unknown)!r} is not among the endpoint's volumes"
                    raise Invalid.at(f"{place}/{field}/{index}", detail)


def _check_process(mount: VolumeMount, at: str) -> None:
    if mount.path is not None:
        raise Invalid.at(
            f"{at}/path",
            "a process sees the host's folders where they are: leave the path out, and take the volume's place from "
            f"{{volume:{mount.volume}}} in the command, or from {variable_of(mount.volume)}",
        )
    if mount.read_only:
        raise Invalid.at(f"{at}/read_only", "the process provider cannot keep a process from writing")


def _found(tx: Connection, reference: str, by: Principal) -> Volume:
    volume = rows.find(tx, reference, project=by.project)
    if volume is None:
        raise NotFound(f"no volume {reference[:64]!r}; `stoker volumes ls` lists those there are")
    return volume
