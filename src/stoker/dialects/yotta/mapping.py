"""Yotta's endpoints as endpoints: what was asked for becomes a spec, and what is to be changed a changed one. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from urllib.parse import urlsplit

from stoker.dialects.yotta.placing import PLACEMENT, Placement, placement_in, placement_of, resized, sized
from stoker.dialects.yotta.wire.base import PORT, PROCESS_URI
from stoker.dialects.yotta.wire.endpoints import EndpointIn, EndpointPatch, Expose, Mode, Variable
from stoker.domain.endpoint import EndpointSpec, Timeouts
from stoker.domain.errors import Invalid
from stoker.domain.hardware import HardwareRequest
from stoker.domain.images import HUB, registry_named
from stoker.domain.launch import LaunchSpec, SecretRef
from stoker.domain.queueing import Mode as CalledBy
from stoker.domain.queueing import QueueSpec

CUSTOM = "yotta/custom"
IMAGE = "yotta/image"
REGISTRY = "yotta/registry"
WEBHOOK = "yotta/webhook"
PROTOCOL = "yotta/protocol"
TASK_S = 3_600.0
_SHELL = ("sh", "-c")

# Which provider has machines for it. Raises `Invalid`.
Finds = Callable[[HardwareRequest], str]


def mode_of(spec: EndpointSpec) -> Mode:
    """How it is called, in Yotta's words; one that takes requests and tasks is a queue there."""
    if spec.mode is not CalledBy.HTTP:
        return "QUEUE"
    return "CUSTOM" if CUSTOM in spec.annotations else "ALB"


def full_image(image: str, registry: str | None) -> str:
    """The image's whole name. Raises `Invalid` for what is no address of a registry."""
    if not registry:
        return image
    try:
        parts = urlsplit(registry if "://" in registry else f"https://{registry}")
        host = parts.netloc
    except ValueError:
        host = ""
    if not host or "@" in host:
        raise Invalid.at("/imageRegistry", "an address of a registry is needed, as in https://ghcr.io")
    # Addresses of APIs end so.
    path = parts.path.strip("/").removesuffix("v1").removesuffix("v2").strip("/")
    if registry_named(host) == HUB:
        host = "" if not path else HUB
    prefix = "/".join(part for part in (host, path) if part)
    return image if not prefix or image.startswith(f"{prefix}/") else f"{prefix}/{image}"


def _protocol(mode: Mode, expose: Expose) -> str:
    if mode == "ALB" and expose.protocol not in ("http", "https"):
        raise Invalid.at("/expose/protocol", "requests are balanced by HTTP: the protocol must be http")
    return expose.protocol


def created(body: EndpointIn, finds: Finds, *, credential: str | None) -> EndpointSpec:
    """The endpoint that is asked for; `credential` is the name of the log-in. Raises `Invalid`."""
    placement = placement_in(body)
    queue = body.service_mode == "QUEUE"
    port = PORT if body.expose is None else body.expose.port
    launch = LaunchSpec(
        image=full_image(body.image, body.image_registry),
        command=_command(body.initialization_command),
        credential=credential,
        env={each.key: each.value for each in body.environment_vars or ()},
        port=port,
        # Tasks go there that do not say where to, even if it is another port that tells of health.
        ports=(PORT,) if queue and port != PORT else (),
    )
    annotations = {IMAGE: body.image, PLACEMENT: placement.model_dump_json(exclude_none=True)}
    if body.image_registry:
        annotations[REGISTRY] = body.image_registry
    if body.expose is not None:
        annotations[PROTOCOL] = _protocol(body.service_mode, body.expose)
    if body.webhook is not None:
        annotations[WEBHOOK] = body.webhook
    if body.service_mode == "CUSTOM":
        annotations[CUSTOM] = "true"
    spec = EndpointSpec(name=body.name, launch=launch, annotations=annotations)
    if queue:
        spec = replace(
            spec,
            mode=CalledBy.QUEUE,
            queue=QueueSpec(path=PROCESS_URI, execution_timeout_s=TASK_S),
            timeouts=Timeouts(first_byte_s=TASK_S, idle_s=TASK_S),
            # One task at a time for each worker.
            slots=1,
        )
    return placed(spec, placement, finds, body.workers)


def placed(spec: EndpointSpec, placement: Placement, finds: Finds, workers: int) -> EndpointSpec:
    """With its workers there. Raises `Invalid`."""
    hardware = placement.hardware()
    annotations = {**spec.annotations, PLACEMENT: placement.model_dump_json(exclude_none=True)}
    return replace(
        sized(spec, hardware, [finds(each) for each in hardware], workers),
        annotations=annotations,
    )


def changed(
    spec: EndpointSpec, body: EndpointPatch, finds: Finds, *, credential: str | None, workers: int
) -> EndpointSpec:
    """The spec with the changes; `workers` are those that it has if nothing is said. Raises `Invalid`."""
    said = body.said
    placement = placement_of(spec)
    wanted = placement.changed(body)
    launch, annotations = _launch(spec, body, credential), dict(spec.annotations)
    if "webhook" in said:
        annotations.pop(WEBHOOK, None)
        if body.webhook is not None:
            annotations[WEBHOOK] = body.webhook
    if body.expose is not None:
        annotations[PROTOCOL] = _protocol(mode_of(spec), body.expose)
    spec = replace(spec, name=body.name or spec.name, launch=launch, annotations=annotations)
    workers = body.workers or workers
    if wanted != placement:
        return placed(spec, wanted, finds, workers)
    return spec if body.workers is None else resized(spec, workers) or spec


def _launch(spec: EndpointSpec, body: EndpointPatch, credential: str | None) -> LaunchSpec:
    launch, said = spec.launch, body.said
    if "container_registry_auth_id" in said:
        launch = replace(launch, credential=credential)
    if "initialization_command" in said:
        if launch.image is None and (body.initialization_command or not launch.command):
            raise Invalid.at("/initializationCommand", "only what runs an image has one")
        if launch.image is not None:
            launch = replace(launch, command=_command(body.initialization_command))
    if "environment_vars" in said:
        launch = replace(launch, env=_env(launch, body.environment_vars or []))
    if body.expose is not None and body.expose.port != launch.port:
        queue = mode_of(spec) == "QUEUE"
        further = (PORT,) if queue and body.expose.port != PORT else ()
        launch = replace(launch, port=body.expose.port, ports=further)
    return launch


def _command(text: str | None) -> tuple[str, ...]:
    return (*_SHELL, text) if text else ()


def _env(launch: LaunchSpec, variables: list[Variable]) -> dict[str, str | SecretRef]:
    # What is shown of a secret is its name: sent back, it stays that secret.
    kept = {name: value for name, value in launch.env.items() if isinstance(value, SecretRef)}
    return {
        each.key: kept[each.key] if each.key in kept and each.value == shown_value(kept[each.key]) else each.value
        for each in variables
    }


def shown_value(value: str | SecretRef) -> str:
    """A variable's value, or the name of its secret."""
    return value if isinstance(value, str) else f"secret:{value.secret}"


def is_light(before: EndpointSpec, after: EndpointSpec) -> bool:
    """Do these differ in their name, number of workers and webhook alone?"""

    def rest(spec: EndpointSpec) -> EndpointSpec:
        same = {key: value for key, value in spec.annotations.items() if key != WEBHOOK}
        pools = tuple(replace(pool, bounds=before.pools[0].bounds) for pool in spec.pools)
        return replace(spec, name=before.name, pools=pools, scaling=before.scaling, annotations=same)

    return rest(before) == rest(after)
