"""The vault: values for those who need them, and a rotation of the master key that may be killed at any moment."""

from __future__ import annotations

import asyncio
import base64
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from stoker.control import keyring, vault
from stoker.control.credentials import Credentials
from stoker.control.secrets import Secrets
from stoker.control.vault import Vault
from stoker.domain.access import KeyId, Principal, Scope
from stoker.domain.endpoint import EndpointId, ProjectId
from stoker.domain.errors import NotFound, Unavailable
from stoker.domain.worker import WorkerId, WorkerSpec
from stoker.store import installation
from stoker.store import secrets as rows
from stoker.store.sqlite import InlineSqliteStore

ADMIN = Principal(key=KeyId("k"), project=ProjectId(1), scopes=frozenset({Scope.ADMIN}))
MANY = vault.BATCH * 2 + 50


@dataclass
class Scene:
    """A store with a vault on a file, and the doors to it."""

    store: InlineSqliteStore
    path: Path

    def __post_init__(self) -> None:
        self.open()
        self.number = 0
        self.secrets = Secrets(self.store, self.vault, clock=lambda: 1.0, new_id=self.new_id)
        self.credentials = Credentials(self.store, self.vault, clock=lambda: 1.0, new_id=self.new_id)

    def open(self) -> None:
        """As a control that starts now does."""
        self.ring = keyring.open_file(self.path)
        self.vault = Vault(self.store, self.ring)

    def new_id(self) -> str:
        self.number += 1
        return f"{self.number:036d}"

    async def fill(self) -> None:
        for index in range(MANY):
            await self.secrets.create(ADMIN, name=f"s{index}", value=f"value {index}")
        await self.credentials.create(ADMIN, name="c", registry="r.test", username="u", password="password")

    async def everything_opens(self) -> None:
        for index in range(MANY):
            assert await self.vault.secret(ADMIN.project, f"s{index}") == f"value {index}"
        assert (await self.vault.registry(ADMIN.project, "c", "r.test/a")).password == "password"


def run(tmp_path: Path, body: Callable[[Scene], Awaitable[None]]) -> None:
    async def main() -> None:
        store = InlineSqliteStore()
        await store.write(lambda tx: installation.add_default_project(tx, now=0.0))
        try:
            await body(Scene(store, tmp_path / "master-key"))
        finally:
            await store.close()

    asyncio.run(main())


def test_a_rotation_encrypts_everything_anew_and_lets_go_of_the_old_key(tmp_path: Path) -> None:
    async def body(scene: Scene) -> None:
        await scene.fill()
        before = await scene.vault.renew()
        state = await scene.vault.state()
        assert (state.left, state.old) == (MANY + 1, (before,))
        await scene.vault.rotate()
        state = await scene.vault.state()
        assert (state.sealed, state.left, state.old) == (MANY + 1, 0, ())
        scene.open()
        assert not scene.ring.knows(before)
        await scene.everything_opens()

    run(tmp_path, body)


class Killed(BaseException):
    """The end of a process, as far as its tasks are concerned."""


@pytest.mark.parametrize("batches", [0, 1, 2, 3])
def test_a_rotation_that_is_killed_loses_nothing_and_is_gone_on_with(tmp_path: Path, batches: int) -> None:
    async def body(scene: Scene) -> None:
        await scene.fill()
        write, left = scene.store.write, batches

        async def dying(command: Callable[..., object]) -> object:
            nonlocal left
            if left == 0:
                raise Killed
            left -= 1
            return await write(command)

        await scene.vault.renew()
        scene.store.write = dying  # type: ignore[method-assign, assignment]
        with pytest.raises(Killed):
            await scene.vault.rotate()
        scene.store.write = write  # type: ignore[method-assign]
        scene.open()
        await scene.everything_opens()
        state = await scene.vault.state()
        assert state.left == max(0, MANY - batches * vault.BATCH) + (1 if batches < 4 else 0)
        await scene.vault.renew()
        assert (await scene.vault.state()).current == state.current, "no third key for a rotation that goes on"
        await scene.vault.rotate()
        scene.open()
        assert scene.ring.old == ()
        await scene.everything_opens()

    run(tmp_path, body)


def test_a_secret_made_during_a_rotation_is_under_the_new_key(tmp_path: Path) -> None:
    async def body(scene: Scene) -> None:
        await scene.fill()
        await scene.vault.renew()
        made = await scene.secrets.create(ADMIN, name="late", value="v")
        assert made.sealed.by == scene.ring.current
        await scene.vault.rotate()
        assert await scene.vault.secret(ADMIN.project, "late") == "v"

    run(tmp_path, body)


def test_what_cannot_be_opened_keeps_its_key_and_stops_nothing_else(tmp_path: Path) -> None:
    async def body(scene: Scene) -> None:
        await scene.fill()
        [first, *_] = await scene.store.read(
            lambda tx: rows.sealed_after(tx, "secret", by=[scene.ring.current], after="", limit=1)
        )
        spoiled = scene.ring.seal("x", "elsewhere")
        await scene.store.write(lambda tx: rows.reseal(tx, "secret", first[0], spoiled))
        before = await scene.vault.renew()
        await scene.vault.rotate()
        state = await scene.vault.state()
        assert (state.left, state.old) == (1, (before,))
        with pytest.raises(Unavailable):
            await scene.vault.secret(ADMIN.project, "s0")
        assert await scene.vault.secret(ADMIN.project, "s1") == "value 1"

    run(tmp_path, body)


def test_a_worker_gets_the_values_that_it_refers_to_and_shows_none(tmp_path: Path) -> None:
    async def body(scene: Scene) -> None:
        await scene.secrets.create(ADMIN, name="token", value="hunter2")
        await scene.credentials.create(ADMIN, name="c", registry="r.test", username="u", password="hunter3")
        spec = WorkerSpec(
            id=WorkerId("w"),
            endpoint=EndpointId("e"),
            name="w",
            command=("run",),
            env={"A": "b"},
            secrets={"TOKEN": "token"},
            image="r.test/app",
            credential="c",
        )
        completed = await scene.vault.complete(spec)
        assert completed.env == {"A": "b", "TOKEN": "hunter2"}
        assert completed.login is not None
        assert (completed.login.registry, completed.login.password) == ("r.test", "hunter3")
        assert "hunter" not in repr(completed)

    run(tmp_path, body)


def test_a_secret_of_another_project_or_by_its_number_is_none(tmp_path: Path) -> None:
    async def body(scene: Scene) -> None:
        made = await scene.secrets.create(ADMIN, name="token", value="v")
        for project, name in ((ProjectId(2), "token"), (ProjectId(1), str(made.number)), (ProjectId(1), made.id)):
            with pytest.raises(NotFound):
                await scene.vault.secret(project, name)

    run(tmp_path, body)


def test_keys_of_the_environment_are_rotated_by_putting_a_new_one_first(tmp_path: Path) -> None:
    async def body(scene: Scene) -> None:
        old, new = (base64.b64encode(os.urandom(keyring.KEY_BYTES)).decode() for _ in range(2))
        first = Vault(scene.store, keyring.of_text(old))
        await Secrets(scene.store, first, clock=lambda: 1.0, new_id=scene.new_id).create(ADMIN, name="s", value="v")
        both = Vault(scene.store, keyring.of_text(f"{new},{old}"))
        await both.renew()
        await both.rotate()
        assert (await both.state()).left == 0
        assert await Vault(scene.store, keyring.of_text(new)).secret(ADMIN.project, "s") == "v"

    run(tmp_path, body)
