"""A Stoker whose images are PyWorkers, one for all tests of a process, and clients for it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from acceptance.test_models import model
from clients.vast.running import CLIENT, LLAMA, TOY, WORKER, Cli, Client, Stoker, opened


@pytest.fixture(scope="session")
def stoker(tmp_path_factory: pytest.TempPathFactory, client_python: Callable[[str], Path]) -> Iterator[Stoker]:
    """Running, with pretended RTX 4090."""
    folder = tmp_path_factory.mktemp("vast")
    weights = folder / "tiny.gguf"
    weights.write_bytes(model())
    python = str(client_python(CLIENT))
    images = {
        TOY.replace(":1", ":*"): {"command": [python, "-I", str(WORKER), "toy"]},
        LLAMA: {"command": [python, "-I", str(WORKER), "llama", sys.executable, str(weights)]},
    }
    made = Stoker(folder / "stoker")
    made.environ |= {
        "STOKER_IMAGES": json.dumps(images),
        "STOKER_VIRTUAL_GPUS": "[{family: rtx4090, count: 4}]",
    }
    try:
        made.up()
        yield made
    finally:
        made.close()


@pytest.fixture
def client(stoker: Stoker, client_python: Callable[[str], Path], tmp_path: Path) -> Iterator[Client]:
    """Both SDKs."""
    with opened(client_python(CLIENT), tmp_path / "home", stoker) as made:
        yield made


@pytest.fixture
def cli(stoker: Stoker, client_python: Callable[[str], Path], tmp_path: Path) -> Iterator[Cli]:
    """The command line."""
    made = Cli(client_python(CLIENT), tmp_path / "home", stoker)
    try:
        yield made
    finally:
        made.close()
