"""A Stoker with the real model as a container image, one for all tests of a process, and clients for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from clients.gcore.running import IMAGE, Client, Stoker, opened

VERSIONS = ("0.41.0", "0.59.0")


@pytest.fixture(scope="session")
def stoker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stoker]:
    """Running, with pretended L40S."""
    made = Stoker(tmp_path_factory.mktemp("gcore") / "stoker")
    made.environ |= {
        "STOKER_IMAGES": f"{{'{IMAGE}': {{model: smollm2}}, 'nginx:*': {{model: smollm2}}}}",
        "STOKER_VIRTUAL_GPUS": "[{family: l40s, count: 4}]",
    }
    try:
        made.up()
        yield made
    finally:
        made.close()


@pytest.fixture(params=[f"{version}-{flavor}" for version in VERSIONS for flavor in ("sync", "async")])
def client(
    request: pytest.FixtureRequest, stoker: Stoker, client_python: Callable[[str], Path]
) -> Iterator[tuple[str, Client]]:
    """Each version of the client, sync and async, by its name."""
    version, _, flavor = request.param.partition("-")
    with opened(client_python(f"gcore-{version}"), stoker, version, flavor) as made:
        yield request.param, made
