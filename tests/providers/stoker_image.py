"""An image with Stoker in it, for steps before workers: a Python and a checkout that are mounted into nothing."""

from __future__ import annotations

import os
import sys
import sysconfig
from pathlib import Path

import stoker
from docker_engine import Engine

NAME = "stoker:tests"


def stoker_image(engine: Engine) -> dict[str, object]:
    """Options of the provider, by which `NAME` is what deploy/Containerfile makes."""
    source, libraries = Path(stoker.__file__).parents[1], Path(sysconfig.get_paths()["purelib"])
    program = os.path.realpath(sys.executable)
    engine.add_image(NAME, {"python": program}, PATH="/", PYTHONPATH=f"{source}:{libraries}")
    folders = [Path(sys.base_prefix), source, libraries, *map(Path, ("/usr", "/lib", "/lib64"))]
    seen = [path for path in dict.fromkeys(folders) if path.exists()]
    outer = [path for path in seen if not any(path != other and path.is_relative_to(other) for other in seen)]
    return {"models_image": NAME, "folders": [f"{path}:{path}" for path in outer]}
