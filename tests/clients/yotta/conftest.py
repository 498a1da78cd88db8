"""A Stoker with the real model as a container image, one for all tests of a process, and clients for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from clients.yotta import conformance
from clients.yotta.running import Cli, Receiver, Sdk, Stoker, running


@pytest.fixture(scope="session")
def stoker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stoker]:
    with running(tmp_path_factory.mktemp("yotta")) as made:
        yield made


@pytest.fixture
def python(client_python: Callable[[str], Path]) -> Path:
    """The Python of the package's environment."""
    return client_python(conformance.SDK)


@pytest.fixture
def cli(stoker: Stoker, python: Path) -> Cli:
    return Cli(python, stoker.url, stoker.key)


@pytest.fixture
def sdk(stoker: Stoker, python: Path) -> Iterator[Sdk]:
    made = Sdk(python, stoker.url, stoker.key)
    yield made
    made.close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as made:
        yield made
