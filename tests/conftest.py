"""What all tests share: the folder of the tests on the path, for the builders beside them; a PostgreSQL, and a Docker
Engine.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

sys.path.insert(0, str(Path(__file__).parent))

import cluster.rbac
import cluster.running
import docker_engine
import postgres
import sharing_out

# That the machine is busy with other tests is no fault of this one. All else is as Hypothesis has it, in CI or not.
settings.register_profile("tests", parent=settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tests")

DEPLOYED = Path(__file__).parents[1] / "deploy" / "kubernetes" / "base"


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> sharing_out.SharingOut | None:
    return sharing_out.SharingOut(config, log) if config.getoption("dist") == "loadscope" else None


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Where processes share them, the long ones begin. Among themselves they stay in their random order."""
    if hasattr(config, "workerinput"):
        items.sort(key=_turn)


def _turn(item: pytest.Item) -> int:
    return sharing_out.turn_of(item.nodeid, processes=item.get_closest_marker("process") is not None)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[postgres.Server]:
    """A real server, one for each process of tests. Without one: skipped on a laptop, failed in CI."""
    try:
        with postgres.server() as server:
            yield server
    except postgres.NoPostgres as exc:
        if os.environ.get("CI"):
            pytest.fail(f"no PostgreSQL: {exc}")
        pytest.skip(f"no PostgreSQL: {exc}")


@pytest.fixture
def kubernetes(tmp_path: Path) -> Iterator[cluster.running.Cluster]:
    """A stand-in for a cluster with one node, which lets Stoker do what its manifests do."""
    folder = tmp_path / "cluster"
    folder.mkdir()
    with cluster.running.cluster(folder, cluster.rbac.allowed(cluster.rbac.manifests(DEPLOYED))) as running:
        running.add_node("node-a")
        yield running


@pytest.fixture(scope="session")
def docker() -> Iterator[docker_engine.Engine]:
    """A real engine, one for each process of tests. Without one: skipped on a laptop, failed in CI."""
    try:
        with docker_engine.engine() as engine:
            yield engine
    except docker_engine.NoDocker as exc:
        if os.environ.get("CI"):
            pytest.fail(f"no Docker: {exc}")
        pytest.skip(f"no Docker: {exc}")
