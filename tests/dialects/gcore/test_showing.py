"""How a deployment stands, by what its containers are and what its owner wants."""

from __future__ import annotations

from dataclasses import replace

import pytest

from builders import endpoint
from stoker.dialects.gcore.showing import status_of
from stoker.dialects.gcore.wire.scaling import ContainerOut, DeployStatus, Pace, ScaleOut
from stoker.domain.endpoint import Phase


def container(ready: int, total: int) -> ContainerOut:
    pace = Pace()
    scale = ScaleOut(
        cooldown_period=pace.cooldown_period,
        max=3,
        min=0,
        polling_interval=pace.polling_interval,
        triggers=pace.triggers,
    )
    return ContainerOut(
        address=None,
        deploy_status=DeployStatus(ready=ready, total=total),
        error_message=None,
        region_id=1,
        scale=scale,
    )


@pytest.mark.parametrize(
    ("phase", "desired", "containers", "status"),
    [
        pytest.param(Phase.DELETING, 0, [(1, 1)], "DELETING", id="being deleted, whatever is there"),
        pytest.param(Phase.STOPPED, 0, [(1, 1)], "DISABLED", id="stopped, whatever is still there"),
        pytest.param(Phase.ACTIVE, 1, [(0, 0)], "DEPLOYING", id="one is wanted and none is there"),
        pytest.param(Phase.ACTIVE, 0, [(0, 0)], "PENDING", id="at zero"),
        pytest.param(Phase.ACTIVE, 2, [(1, 2)], "PARTIALLYDEPLOYED", id="some are not ready"),
        pytest.param(Phase.ACTIVE, 2, [(1, 1), (0, 1)], "PARTIALLYDEPLOYED", id="in another region"),
        pytest.param(Phase.ACTIVE, 2, [(2, 2)], "ACTIVE", id="all are ready"),
        pytest.param(Phase.ACTIVE, 1, [(2, 3)], "ACTIVE", id="more than are wanted"),
        pytest.param(Phase.ACTIVE, 0, [(1, 1)], "ACTIVE", id="on their way to zero"),
    ],
)
def test_a_status_is_told_by_what_is_wanted_and_what_is_there(
    phase: Phase, desired: int, containers: list[tuple[int, int]], status: str
) -> None:
    made = replace(endpoint(), phase=phase, desired=desired)
    assert status_of(made, [container(*each) for each in containers]) == status
