"""An endpoint as a deployment: whoever made it, and however; what it lacks is computed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from stoker.dialects import keeping
from stoker.dialects.gcore.flavors import name_for
from stoker.dialects.gcore.mapping import (
    APPLICATION,
    DESCRIPTION,
    FLAVOR,
    KEPT,
    PROBES,
    image_of,
    pace_of,
    region_of,
)
from stoker.dialects.gcore.wire.applications import Part
from stoker.dialects.gcore.wire.base import moment
from stoker.dialects.gcore.wire.deployments import DeploymentOut, Kept, ObjectReference
from stoker.dialects.gcore.wire.probes import ProbesConfig
from stoker.dialects.gcore.wire.scaling import ContainerOut, DeployStatus, Pace, ScaleOut, Status
from stoker.domain.endpoint import Access, Endpoint, EndpointSpec, Phase, PoolSpec
from stoker.domain.views import EndpointState, EndpointView, WorkerView
from stoker.domain.worker import WorkerState

PORT = 80


def deployment(
    view: EndpointView, workers: Sequence[WorkerView], *, keys: Sequence[str], regions: Mapping[int, str], base: str
) -> DeploymentOut:
    """The deployment; `keys` are the names of those attached, `base` is where inference addresses begin."""
    endpoint, spec = view.endpoint, view.endpoint.spec
    address = f"{base}/gcore/deployment/{endpoint.id}"
    kept = keeping.read(spec, KEPT, Kept)
    containers = [_container(view, pool, workers, regions, address) for pool in spec.pools]
    return DeploymentOut(
        address=address,
        auth_enabled=spec.access is not Access.OPEN,
        command=" ".join(spec.launch.command) or None,
        containers=containers,
        created_at=moment(endpoint.created_at),
        credentials_name=spec.launch.credential or "",
        description=spec.annotations.get(DESCRIPTION, ""),
        # References to secrets are shown as what they are.
        envs={
            name: value if isinstance(value, str) else f"secret:{value.secret}"
            for name, value in spec.launch.env.items()
        },
        flavor_name=spec.annotations.get(FLAVOR) or name_for(spec.pools[0].hardware),
        image=_image(endpoint),
        ingress_opts=None if kept is None else kept.ingress_opts,
        listening_port=spec.launch.port or PORT,
        logging=None if kept is None else kept.logging,
        name=spec.name,
        object_references=_references(spec),
        probes=keeping.read(spec, PROBES, ProbesConfig),
        project_id=endpoint.project,
        status=status_of(endpoint, containers),
        timeout=int(spec.scaling.idle_s) if kept is None else kept.timeout,
        api_keys=list(keys) or None,
    )


def _image(endpoint: Endpoint) -> str:
    launch = endpoint.spec.launch
    if launch.model is not None and FLAVOR in endpoint.spec.annotations:
        # Made here, by the image of the catalogue.
        return image_of(launch.model)
    return launch.image or f"stoker/{endpoint.launch.engine or 'command'}"


def _references(spec: EndpointSpec) -> list[ObjectReference]:
    part = keeping.read(spec, APPLICATION, Part)
    return [] if part is None else [ObjectReference(kind="AppDeployment", name=part.deployment)]


def _container(
    view: EndpointView, pool: PoolSpec, workers: Sequence[WorkerView], regions: Mapping[int, str], address: str
) -> ContainerOut:
    own = [each.worker for each in workers if each.worker.pool == pool.name and not each.worker.gone]
    ready = sum(1 for worker in own if worker.state is WorkerState.READY)
    region = region_of(pool, regions)
    pace = pace_of(view.endpoint.spec, region)
    return ContainerOut(
        address=address,
        deploy_status=DeployStatus(ready=ready, total=len(own)),
        error_message=_error(view, pool, pace, waiting=[w.reason for w in own if w.state is WorkerState.PENDING]),
        region_id=region,
        scale=ScaleOut(
            cooldown_period=pace.cooldown_period,
            max=pool.bounds.max,
            min=pool.bounds.min,
            polling_interval=pace.polling_interval,
            triggers=pace.triggers,
        ),
    )


def _error(view: EndpointView, pool: PoolSpec, pace: Pace, *, waiting: Sequence[str]) -> str | None:
    failures = view.endpoint.failures.get(pool.name)
    if failures is not None and failures.count:
        return failures.last_reason or "the container does not start"
    reason = next((reason for reason in waiting if reason), "")
    if not reason and view.condition.state is EndpointState.FAILING:
        reason = view.condition.reason
    if not reason:
        reason = _of_queue(view, pace) or ""
    return reason or None


def _of_queue(view: EndpointView, pace: Pace) -> str | None:
    if pace.triggers.sqs is None:
        return None
    if pace.triggers.sqs.aws_endpoint is None:
        return "the queue of SQS is not polled without an aws_endpoint: requests alone wake this"
    return view.trouble


def status_of(endpoint: Endpoint, containers: Sequence[ContainerOut]) -> Status:
    """How a deployment with these containers stands."""
    if endpoint.phase is Phase.DELETING:
        return "DELETING"
    if endpoint.phase is Phase.STOPPED:
        return "DISABLED"
    total = sum(container.deploy_status.total for container in containers)
    if not endpoint.desired and not total:
        return "PENDING"
    if not total:
        return "DEPLOYING"
    ready = sum(container.deploy_status.ready for container in containers)
    return "ACTIVE" if ready >= max(1, endpoint.desired) else "PARTIALLYDEPLOYED"
