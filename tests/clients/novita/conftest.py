"""A Stoker with the real model as a container image, and workers of both packages; one for all tests of a process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from clients.novita.running import WORKERS, Cli, Jobs, Sdk, Stoker, opened, running


@pytest.fixture(scope="session")
def stoker(tmp_path_factory: pytest.TempPathFactory, client_python: Callable[[str], Path]) -> Iterator[Stoker]:
    with running(tmp_path_factory.mktemp("novita"), {name: client_python(name) for name in WORKERS}) as made:
        yield made


@pytest.fixture
def cli(stoker: Stoker, client_python: Callable[[str], Path]) -> Cli:
    return Cli(client_python("novita-0.1.0"), stoker.url, stoker.key)


@pytest.fixture
def gpus(stoker: Stoker, client_python: Callable[[str], Path]) -> Iterator[Jobs]:
    """The client of `novita-gpus`."""
    with opened(client_python("novita-gpus-0.0.1"), "novita_gpus", stoker) as made:
        yield made


@pytest.fixture
def runpod(stoker: Stoker, client_python: Callable[[str], Path]) -> Iterator[Jobs]:
    """The client of `runpod`."""
    with opened(client_python("runpod-1.12.0"), "runpod", stoker) as made:
        yield made


@pytest.fixture(params=["sync", "async"])
def sdk(request: pytest.FixtureRequest, stoker: Stoker, client_python: Callable[[str], Path]) -> Iterator[Sdk]:
    """The client of `novita-sdk`."""
    made = Sdk(client_python("novita-sdk-0.5.0"), "sdk.py", request.param, stoker.url, stoker.key)
    try:
        yield made
    finally:
        made.close()
