"""A Stoker with pretended cards and a hub on loopback, one for all tests of a process, and clients for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from clients.exoscale import conformance
from clients.exoscale.running import Client, Stoker, opened, running


@pytest.fixture(scope="session")
def stoker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stoker]:
    with running(tmp_path_factory.mktemp("exoscale")) as made:
        yield made


@pytest.fixture(params=conformance.PYTHON)
def client(
    request: pytest.FixtureRequest, stoker: Stoker, client_python: Callable[[str], Path]
) -> Iterator[tuple[str, Client]]:
    """Each version of the Python client, by the name of its environment."""
    with opened(client_python(request.param), stoker) as made:
        yield request.param, made
