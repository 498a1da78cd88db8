"""Short ways to make domain objects for tests of policies."""

from __future__ import annotations

from collections.abc import Mapping

from stoker.domain.endpoint import (
    Endpoint,
    EndpointId,
    EndpointSpec,
    Failures,
    Phase,
    PoolSpec,
    ProjectId,
    Rollout,
    ScaleBounds,
    Strategy,
)
from stoker.domain.launch import Launch, LaunchSpec
from stoker.domain.worker import Worker, WorkerId, WorkerState


def endpoint(
    *,
    desired: int = 0,
    revision: int = 1,
    phase: Phase = Phase.ACTIVE,
    failures: Failures | Mapping[str, Failures] | None = None,
    surge: int = 1,
    strategy: Strategy = Strategy.AUTO,
    low: int = 0,
    high: int = 10,
    pools: tuple[PoolSpec, ...] | None = None,
) -> Endpoint:
    spec = EndpointSpec(
        name="e",
        launch=LaunchSpec(command=("run",)),
        pools=pools or (PoolSpec(bounds=ScaleBounds(min=low, max=high)),),
        rollout=Rollout(strategy=strategy, surge=surge),
    )
    return Endpoint(
        id=EndpointId("e"),
        number=1,
        project=ProjectId(1),
        slug="e",
        spec=spec,
        launches={pool.name: Launch(engine=None, command=("run",)) for pool in spec.pools},
        revision=revision,
        launched=revision,
        alike={pool.name: (revision,) for pool in spec.pools},
        phase=phase,
        desired=desired,
        failures={"default": failures} if isinstance(failures, Failures) else failures or {},
        created_at=0.0,
        updated_at=0.0,
    )


def worker(number: int, state: WorkerState, *, revision: int = 1, **more: object) -> Worker:
    values: dict[str, object] = {
        "id": WorkerId(f"w{number}"),
        "number": number,
        "endpoint": EndpointId("e"),
        "pool": "default",
        "revision": revision,
        "provider": "fake",
        "state": state,
        "slots": 4,
        "created_at": 0.0,
        **more,
    }
    return Worker(**values)  # type: ignore[arg-type]
