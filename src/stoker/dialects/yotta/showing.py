"""An endpoint as Yotta shows it: whoever made it, and however; what it lacks is computed."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from stoker.dialects.yotta.mapping import IMAGE, PROTOCOL, REGISTRY, WEBHOOK, full_image, mode_of, shown_value
from stoker.dialects.yotta.placing import placement_of, workers_of
from stoker.dialects.yotta.wire.base import millis
from stoker.dialects.yotta.wire.endpoints import EndpointOut, Expose, Status, VariableOut
from stoker.domain.endpoint import Endpoint, EndpointSpec
from stoker.domain.errors import Invalid
from stoker.domain.queueing import Mode
from stoker.domain.views import EndpointState, EndpointView, WorkerView
from stoker.domain.worker import WorkerState

_STATUS: dict[EndpointState, Status] = {
    EndpointState.IDLE: "RUNNING",
    EndpointState.STARTING: "INITIALIZING",
    EndpointState.READY: "RUNNING",
    EndpointState.UPDATING: "RUNNING",
    EndpointState.FAILING: "FAILED",
    EndpointState.DELETING: "TERMINATED",
    EndpointState.STOPPED: "STOPPED",
}


def status_of(view: EndpointView) -> Status:
    """How the endpoint stands."""
    state = view.condition.state
    if state is EndpointState.STOPPED and any(view.workers.values()):
        return "STOPPING"
    return _STATUS[state]


def wanted_of(endpoint: Endpoint, *, now: float) -> int:
    """How many workers there are to be, or may be at most."""
    override = endpoint.override
    return override.workers if override is not None and override.holds(now) else workers_of(endpoint.spec)


def endpoint_out(view: EndpointView, workers: Sequence[WorkerView], *, now: float) -> EndpointOut:
    """The endpoint; `workers` are those of it that are not gone."""
    endpoint, spec = view.endpoint, view.endpoint.spec
    placement, mode = placement_of(spec), mode_of(spec)
    image, registry = _image(endpoint)
    prices = [each.worker.placement.price or 0.0 for each in workers if each.worker.placement is not None]
    cost = round(sum(prices), 6)
    variables = [VariableOut(key=name, value=shown_value(value)) for name, value in spec.launch.env.items()]
    return EndpointOut(
        id=str(endpoint.number),
        name=spec.name,
        image=image,
        image_registry=registry,
        status=status_of(view),
        status_reason=view.condition.reason or None,
        total_workers=wanted_of(endpoint, now=now),
        running_workers=view.workers.get(WorkerState.READY, 0),
        cost=cost,
        per_hour_price=cost,
        per_second_price=round(cost / 3_600, 9),
        service_mode=mode,
        webhook=webhook_of(spec),
        domain=view.url if mode == "ALB" or spec.mode is Mode.MIXED else None,
        resources=placement.resources,
        min_single_card_vram_in_gb=placement.min_single_card_vram_in_gb,
        min_single_card_vcpu=placement.min_single_card_vcpu,
        min_single_card_ram_in_gb=placement.min_single_card_ram_in_gb,
        container_volume_in_gb=placement.container_volume_in_gb,
        initialization_command=_command(spec),
        environment_vars=variables,
        env_vars=variables,
        expose=_expose(spec),
        created_at=millis(endpoint.created_at),
        updated_at=millis(endpoint.updated_at),
    )


def webhook_of(spec: EndpointSpec) -> str | None:
    """Where ends of tasks are told that do not say where."""
    return spec.annotations.get(WEBHOOK) or spec.webhooks.url


def _image(endpoint: Endpoint) -> tuple[str, str | None]:
    """The image and its registry as they were said, if that is still what runs."""
    launch, notes = endpoint.spec.launch, endpoint.spec.annotations
    image, registry = notes.get(IMAGE, ""), notes.get(REGISTRY)
    try:
        if launch.image is not None and full_image(image, registry) == launch.image:
            return image, registry
    except Invalid:
        # Somebody else wrote it.
        pass
    return launch.image or f"stoker/{endpoint.launch.engine or 'command'}", None


def _command(spec: EndpointSpec) -> str | None:
    command = spec.launch.command
    if len(command) == 3 and command[:2] == ("sh", "-c"):
        return command[2]
    return shlex.join(command) or None


def _expose(spec: EndpointSpec) -> Expose | None:
    if spec.launch.port is None:
        return None
    protocol = spec.annotations.get(PROTOCOL, "http")
    return Expose.model_construct(port=spec.launch.port, protocol=protocol)
