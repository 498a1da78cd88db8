"""The door to the master key: how much it encrypts, and its rotation, which is recorded."""

from __future__ import annotations

from collections.abc import Callable

from stoker.control import audit
from stoker.control.vault import MasterKeyState, Vault
from stoker.domain.access import Principal
from stoker.domain.authorisation import Action, admit
from stoker.store import audit as audit_rows
from stoker.store.base import Store


class MasterKey:
    """See the module."""

    def __init__(self, store: Store, vault: Vault, *, clock: Callable[[], float]) -> None:
        self._store = store
        self._vault = vault
        self._clock = clock

    async def state(self, by: Principal) -> MasterKeyState:
        """Which master key encrypts, and what is left under old ones."""
        admit(by, Action.MASTER_KEY_READ)
        return await self._vault.state()

    async def rotate(self, by: Principal) -> MasterKeyState:
        """Make a new master key, unless a rotation is under way or the keys are the operator's, and encrypt everything
        under the current one.
        """
        admit(by, Action.MASTER_KEY_ROTATE)
        before = await self._vault.renew()
        current = (await self._vault.state()).current
        drafted = audit.draft(
            by, Action.MASTER_KEY_ROTATE, at=self._clock(), before={"id": before}, after={"id": current}
        )
        await self._store.write(lambda tx: audit_rows.add(tx, drafted))
        await self._vault.rotate()
        return await self._vault.state()
