"""Where things lie below the data folder."""

from __future__ import annotations

import os
from pathlib import Path

from stoker.paths import Paths


def test_sockets_lie_below_the_data_folder_unless_its_name_is_too_long_for_them() -> None:
    assert Paths(Path("/x")).control_socket == Path("/x/run/control.sock")
    deep = Path("/" + "long-name/" * 20)
    for paths in (Paths(deep), Paths(deep / "other")):
        assert not paths.run.is_relative_to(paths.data_dir)
        assert len(os.fsencode(paths.run.name)) < 60
    assert Paths(deep).run == Paths(deep).run
    assert Paths(deep).run != Paths(deep / "other").run, "two installations do not meet"
    edge = Path("/" + "x" * 83)
    assert Paths(edge).run == edge / "run"
    assert len(os.fsencode(Paths(edge).control_socket)) < 104, "which is all that the strictest system takes"
    assert not Paths(Path("/" + "x" * 84)).run.is_relative_to("/" + "x" * 84)
