"""Where everybody gets secrets from: values by name, log-ins at registries, and what the master key encrypts.

Values leave here for a worker's start, a download's header or a caller who may see them; no log and no record has them.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from functools import partial

import structlog
from sqlalchemy import Connection

from stoker.control.keyring import Keyring
from stoker.domain.access import Sealed
from stoker.domain.endpoint import ProjectId
from stoker.domain.errors import NotFound, Unavailable
from stoker.domain.secrets import RegistryLogin
from stoker.domain.worker import WorkerId, WorkerSpec
from stoker.store import secrets as rows
from stoker.store import tasks as task_rows
from stoker.store.base import Store

log = structlog.get_logger(__name__)

# Rows encrypted anew in one transaction: a few milliseconds of the writer's time.
BATCH = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class MasterKeyState:
    """Which master key encrypts, how much it does, and how much is left under `old` ones."""

    current: str
    sealed: int
    old: tuple[str, ...]
    left: int


class Vault:
    """See the module. Everything is read anew each time: nothing decrypted is kept."""

    def __init__(self, store: Store, keyring: Keyring) -> None:
        self._store = store
        self._keyring = keyring
        self._rotating = asyncio.Lock()

    # Values

    async def secret(self, project: ProjectId, name: str) -> str:
        """The value of the project's secret. Raises `NotFound`, `Unavailable`."""
        found = await self._store.read(lambda tx: rows.find_secret(tx, name, project=project))
        if found is None or found.name != name:
            raise NotFound(f"no secret {name[:64]!r}; `stoker secrets ls` lists those there are")
        return self.open("secret", found.id, found.sealed)

    async def task_key(self, id: str) -> str:
        """The key that came with a task for its webhook. Raises `NotFound`, `Unavailable`."""
        found = await self._store.read(lambda tx: task_rows.key(tx, id))
        if found is None:
            raise NotFound("the key that came with this task is gone")
        return self.open("webhook", found.id, found.sealed)

    async def registry(self, project: ProjectId, name: str, image: str) -> RegistryLogin:
        """The log-in of the project's registry credential for this image. Raises `NotFound`, `Unavailable`, or
        `Invalid` when the image comes from elsewhere.
        """
        found = await self._store.read(lambda tx: rows.find_credential(tx, name, project=project))
        if found is None or found.name != name:
            raise NotFound(f"no registry credential {name[:64]!r}; `stoker credentials ls` lists those there are")
        password = self.open("credential", found.id, found.sealed)
        return RegistryLogin(registry=found.registry_for(image), username=found.username, password=password)

    async def complete(self, spec: WorkerSpec) -> WorkerSpec:
        """The same with the values that its environment refers to, its log-in, and the token that its model is fetched
        with. Raises as `secret` and `registry` do.
        """
        values = {variable: await self.secret(spec.project, name) for variable, name in spec.secrets.items()}
        login = (
            None if spec.credential is None else await self.registry(spec.project, spec.credential, spec.image or "")
        )
        fetch = spec.fetch
        if fetch is not None and fetch.token_secret is not None:
            fetch = replace(fetch, token=await self.secret(spec.project, fetch.token_secret))
        return replace(spec, env={**spec.env, **values}, login=login, fetch=fetch)

    # Workers

    def worker_token(self, worker: WorkerId) -> str:
        """What this worker shows when it asks for tasks: derived from the master key, and recorded nowhere."""
        return self._keyring.token(f"worker {worker}")

    def is_of_worker(self, token: str, worker: WorkerId) -> bool:
        """Is that the token of this worker?"""
        return self._keyring.proves(token, f"worker {worker}")

    # Encryption

    def seal(self, kind: str, id: str, plain: str) -> Sealed:
        """Encrypt what is to be stored with the object. To be called within the transaction that stores it: a rotation
        that begins meanwhile then finds it.
        """
        return self._keyring.seal(plain, rows.place_of(kind, id))

    def open(self, kind: str, id: str, sealed: Sealed) -> str:
        """Decrypt what is stored with the object. Raises `Unavailable` when its master key is not here."""
        return self._keyring.open(sealed, rows.place_of(kind, id))

    # The master key

    async def state(self) -> MasterKeyState:
        """How far a rotation has come."""
        counts = await self._store.read(rows.sealed_by)
        current = self._keyring.current
        left = sum(count for by, count in counts.items() if by != current)
        return MasterKeyState(current=current, sealed=counts.get(current, 0), old=self._keyring.old, left=left)

    async def check(self) -> None:
        """Tell loudly of what nobody can read any more."""
        counts = await self._store.read(rows.sealed_by)
        for by, count in counts.items():
            if not self._keyring.knows(by):
                log.error("master_key_missing", master_key=by, secrets=count)

    async def renew(self) -> str:
        """Make a new master key the current one; the id of the one before. One that has not ended is gone on with.

        Raises `Conflict` when the keys are the operator's to change.
        """
        async with self._rotating:
            if self._keyring.old or self._keyring.external:
                return self._keyring.old[0] if self._keyring.old else self._keyring.current
            return await asyncio.to_thread(self._keyring.renew)

    async def rotate(self) -> None:
        """Encrypt everything under the current master key, in bounded batches, then let go of the old ones. May be
        killed at any moment and called again.
        """
        async with self._rotating:
            for kind, _ in rows.SEALED:
                after: str | None = ""
                while after is not None:
                    after = await self._store.write(partial(self._reseal, kind, after))
            if (await self.state()).left == 0:
                await asyncio.to_thread(self._keyring.forget_old)

    def _reseal(self, kind: str, after: str, tx: Connection) -> str | None:
        """One batch; the id that it ended with, or `None` when it was the last."""
        batch = rows.sealed_after(tx, kind, by=self._keyring.old, after=after, limit=BATCH)
        for id, sealed in batch:
            try:
                plain = self.open(kind, id, sealed)
            except Unavailable as exc:
                # It stays as it is, and so does the key that it names.
                log.error("secret_unreadable", kind=kind, id=id, error=str(exc))
                continue
            rows.reseal(tx, kind, id, self.seal(kind, id, plain))
        return batch[-1][0] if len(batch) == BATCH else None
