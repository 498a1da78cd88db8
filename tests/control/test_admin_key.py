"""The key of the command line on this machine: made once, and again when its file is of no use."""

from __future__ import annotations

from pathlib import Path

import pytest

from api.client import Api, run
from stoker.control import admin_key


def test_it_is_made_once_and_reaches_the_whole_installation(tmp_path: Path) -> None:
    path = tmp_path / "admin-key"

    async def body(api: Api) -> None:
        keys = api.world.stoker.keys
        await admin_key.ensure(keys, path)
        made = path.read_text()
        assert keys.principal(made.strip()).installation
        await admin_key.ensure(keys, path)
        assert path.read_text() == made

    run(body)


@pytest.mark.parametrize("content", [b"", b"sk-of-another-installation\n", b"\xff\n"])
def test_a_file_that_is_of_no_use_is_replaced(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "admin-key"
    path.write_bytes(content)

    async def body(api: Api) -> None:
        keys = api.world.stoker.keys
        await admin_key.ensure(keys, path)
        assert keys.principal(path.read_text().strip()).installation

    run(body)
