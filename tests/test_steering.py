"""What the command line does where no Stoker runs; that of one that does is in the acceptance tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from stoker.domain.errors import Unavailable
from stoker.settings import Settings
from stoker.steering import down


def test_down_says_where_it_could_not_look_for_workers(tmp_path: Path) -> None:
    away = {"host": f"unix://{tmp_path}/nobody.sock"}
    settings = Settings(data_dir=tmp_path / "data", providers={"process": {}, "docker": away})
    with pytest.raises(Unavailable, match="workers may still run at docker: cannot list the containers"):
        down(settings, timeout_s=5)
    assert down(Settings(data_dir=tmp_path / "data"), timeout_s=5) == "Stoker was not running"
