"""A Stoker with pretended cards and a hub on loopback, one for all tests of a process, and clients for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from acceptance.test_models import model, serving
from clients.exoscale import conformance
from clients.exoscale.running import Client, Stoker, opened


@pytest.fixture(scope="session")
def stoker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stoker]:
    """Running, with two pretended A5000, the real model at a hub as `owner/tiny`, and `broken`, which is no model."""
    folder = tmp_path_factory.mktemp("exoscale")
    broken = folder / "broken.gguf"
    broken.write_bytes(b"GGUF, but nothing behind it")
    made = Stoker(folder / "stoker")
    with serving({"tiny.gguf": model()}) as hub:
        made.environ |= {
            "STOKER_HF_ENDPOINT": hub.url,
            "STOKER_ALLOW_PRIVATE_URLS": "[127.0.0.0/8]",
            "STOKER_MODELS": f"{{broken: {broken}}}",
            "STOKER_VIRTUAL_GPUS": "[{family: a5000, count: 2}]",
        }
        try:
            made.up()
            yield made
        finally:
            made.close()


@pytest.fixture(params=conformance.PYTHON)
def client(
    request: pytest.FixtureRequest, stoker: Stoker, client_python: Callable[[str], Path]
) -> Iterator[tuple[str, Client]]:
    """Each version of the Python client, by the name of its environment."""
    with opened(client_python(request.param), stoker) as made:
        yield request.param, made
