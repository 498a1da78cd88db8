"""A Stoker with the real model as a container image, one for all tests of a process, and clients for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from clients.gcore.running import Client, Stoker, opened, running

VERSIONS = ("0.41.0", "0.59.0")


@pytest.fixture(scope="session")
def stoker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stoker]:
    with running(tmp_path_factory.mktemp("gcore")) as made:
        yield made


@pytest.fixture(params=[f"{version}-{flavor}" for version in VERSIONS for flavor in ("sync", "async")])
def client(
    request: pytest.FixtureRequest, stoker: Stoker, client_python: Callable[[str], Path]
) -> Iterator[tuple[str, Client]]:
    """Each version of the client, sync and async, by its name."""
    version, _, flavor = request.param.partition("-")
    with opened(client_python(f"gcore-{version}"), stoker, version, flavor) as made:
        yield request.param, made
