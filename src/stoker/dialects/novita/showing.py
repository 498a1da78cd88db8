"""An endpoint as that API shows it: whoever made it, and however; what it lacks is computed."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import msgspec

from stoker.dialects.novita.names import app_of, label_of
from stoker.dialects.novita.products import Product, product_of
from stoker.dialects.novita.wire.endpoints import (
    REQUEST_TIMEOUT_S,
    EndpointOut,
    EnvOut,
    GotOut,
    HealthyOut,
    ImageOut,
    ListedOut,
    MountOut,
    PolicyIn,
    PolicyOut,
    PortOut,
    PortTextOut,
    ProductOut,
    StateOut,
    WorkerConfigIn,
    WorkerConfigOut,
    WorkerOut,
)
from stoker.domain.endpoint import Endpoint, EndpointSpec, PoolSpec
from stoker.domain.launch import LaunchSpec
from stoker.domain.queueing import Mode
from stoker.domain.scaling import QueueDelay, QueueLength
from stoker.domain.times import iso
from stoker.domain.views import EndpointState, EndpointView, WorkerView
from stoker.domain.volumes import Volume
from stoker.domain.worker import WorkerState

# Annotations: what only makes the round trip.
ROOTFS = "novita/rootfs"
CUDA = "novita/cuda"
HEALTHY = "novita/healthy"
LOCAL = "novita/local"
MOUNT_PATHS = "novita/mounts"
PATH = "/health"
ROOTFS_GB = 100
PORT = 80
_STATES = {
    EndpointState.STOPPED: "stopped",
    EndpointState.IDLE: "serving",
    EndpointState.READY: "serving",
    EndpointState.UPDATING: "updating",
    EndpointState.FAILING: "failed",
    EndpointState.DELETING: "deleting",
}
_WORKER_STATES = {
    WorkerState.PENDING: "pending",
    WorkerState.STARTING: "creating",
    WorkerState.READY: "running",
    WorkerState.COLD: "stopped",
    WorkerState.DRAINING: "stopping",
    WorkerState.STOPPING: "stopping",
}


T = TypeVar("T")


class Local(msgspec.Struct, frozen=True):
    """A mount of no storage, as it was asked for."""

    size: int
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """How that cloud asks for a worker's health, in seconds and answers."""

    initial_delay: int = 10
    period: int = 10
    timeout: int = 10
    success_threshold: int = 1
    failure_threshold: int = 3


TIMING = Timing()


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What showing endpoints needs to know beside them: ids of log-ins by name, volumes by name, Stoker's address."""

    products: Sequence[Product]
    logins: dict[str, str]
    volumes: dict[str, Volume]
    base: str


def listed(view: EndpointView, workers: Sequence[WorkerView], around: Surroundings) -> ListedOut:
    """The endpoint in a list."""
    return ListedOut(**_shown(view, workers, around), ports=[PortTextOut(port=str(port_of(view.endpoint.spec)))])


def got(view: EndpointView, workers: Sequence[WorkerView], around: Surroundings) -> GotOut:
    """The endpoint alone."""
    shown, port = _shown(view, workers, around), port_of(view.endpoint.spec)
    endpoint = EndpointOut(**shown, ports=[PortOut(port=port)])
    return GotOut(**shown, ports=[PortTextOut(port=str(port))], endpoint=endpoint)


def _shown(view: EndpointView, workers: Sequence[WorkerView], around: Surroundings) -> dict[str, Any]:
    endpoint, spec = view.endpoint, view.endpoint.spec
    config, policy = config_of(endpoint), policy_of(spec)
    way = "novita/v1" if type_of(spec) == "async" else "novita"
    return {
        "id": endpoint.id,
        "name": spec.name,
        "app_name": app_of(endpoint),
        "url": f"{around.base}/{way}/{label_of(endpoint)}",
        "type": type_of(spec),
        "cluster_id": cluster_of(spec),
        "log": f"{around.base}/api/v1/endpoints/{endpoint.id}/logs",
        "state": _state(view),
        "worker_config": WorkerConfigOut(
            min_num=config.min_num,
            max_num=config.max_num,
            free_timeout=str(config.free_timeout),
            max_concurrent=str(config.max_concurrent),
            gpu_num=config.gpu_num,
            request_timeout=config.request_timeout or REQUEST_TIMEOUT_S,
            cuda_version=config.cuda_version or "",
        ),
        "policy": PolicyOut(type=policy.type, value=str(policy.value)),
        "image": image_of(endpoint, lambda name: around.logins.get(name, "")),
        "rootfs_size": rootfs_of(spec),
        "volume_mounts": mounts_of(spec, around.volumes.get),
        "envs": [EnvOut(key=key, value=value) for key, value in shown_env(spec.launch).items()],
        "workers": [_worker(each, around.base) for each in workers if not each.worker.gone],
        "products": [ProductOut(id=product_of(around.products, spec.pools[0].hardware))],
        "healthy": HealthyOut(
            path=path_of(spec),
            initial_delay=TIMING.initial_delay,
            period=TIMING.period,
            timeout=TIMING.timeout,
            success_threshold=TIMING.success_threshold,
            failure_threshold=TIMING.failure_threshold,
        ),
        "created_at": iso(endpoint.created_at),
        "updated_at": iso(endpoint.updated_at),
    }


def _whole(text: str | None) -> int | None:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 10 else None


def _state(view: EndpointView) -> StateOut:
    condition = view.condition
    state = _STATES.get(condition.state)
    if state is None:
        # It starts: one at zero is woken, which is no news.
        spec = view.endpoint.spec
        state = "serving" if not spec.bounds.min else "creating" if view.endpoint.revision == 1 else "updating"
    return StateOut(
        state=state,
        error="START_FAILED" if state == "failed" else "",
        message=condition.reason or view.trouble or "",
    )


def _worker(view: WorkerView, base: str) -> WorkerOut:
    worker = view.worker
    return WorkerOut(
        id=worker.id,
        state=StateOut(state=_WORKER_STATES.get(worker.state, worker.state.value), message=worker.reason),
        log=f"{base}/api/v1/workers/{worker.id}/logs",
        healthy=worker.state is WorkerState.READY and not worker.unready,
    )


# What of an endpoint is what there. The same is looked at to tell what a request changes.


def type_of(spec: EndpointSpec) -> Literal["sync", "async"]:
    """One that takes tasks alone is asynchronous."""
    return "async" if spec.mode is Mode.QUEUE else "sync"


def port_of(spec: EndpointSpec) -> int:
    """The port that requests go to."""
    return spec.launch.port or PORT


def path_of(spec: EndpointSpec) -> str:
    """The path of its health."""
    probe = spec.probes.liveness or spec.probes.startup or spec.probes.readiness
    return (None if probe is None else probe.path) or spec.annotations.get(HEALTHY) or PATH


def cluster_of(spec: EndpointSpec) -> str:
    """The region of its first pool; empty where any will do."""
    return spec.pools[0].hardware.region or ""


def gpus_of(pool: PoolSpec) -> int:
    """Cards of one worker."""
    return pool.hardware.gpu_count


def shown_env(launch: LaunchSpec) -> dict[str, str]:
    """Its variables; references to secrets are shown as what they are."""
    return {name: value if isinstance(value, str) else f"secret:{value.secret}" for name, value in launch.env.items()}


def config_of(endpoint: Endpoint) -> WorkerConfigIn:
    """Its bounds and limits."""
    spec = endpoint.spec
    total_s = spec.timeouts.total_s
    return WorkerConfigIn(
        min_num=spec.bounds.min,
        max_num=spec.bounds.max,
        free_timeout=int(spec.scaling.idle_s),
        max_concurrent=endpoint.slots,
        gpu_num=gpus_of(spec.pools[0]),
        request_timeout=REQUEST_TIMEOUT_S if total_s is None else max(1, round(total_s)),
        cuda_version=spec.annotations.get(CUDA),
    )


def policy_of(spec: EndpointSpec) -> PolicyIn:
    """The trigger that says most like one of that cloud's; without such a one any waiting request asks for workers."""
    for trigger in spec.scaling.effective:
        if isinstance(trigger, QueueDelay):
            return PolicyIn(type="queue", value=max(1, round(trigger.threshold_s)))
        if isinstance(trigger, QueueLength):
            return PolicyIn(type="concurrency", value=max(1, trigger.tolerated))
    return PolicyIn(type="concurrency", value=1)


def image_of(endpoint: Endpoint, id_of: Callable[[str], str]) -> ImageOut:
    """Its image; of an endpoint without one, that of its engine. `id_of(name)` is the id of a log-in."""
    launch = endpoint.spec.launch
    return ImageOut(
        image=launch.image or f"stoker/{endpoint.launch.engine or 'command'}",
        auth_id=id_of(launch.credential) if launch.credential else "",
        command=shlex.join(launch.command),
    )


def rootfs_of(spec: EndpointSpec) -> int:
    """Its root disk in GB."""
    return _whole(spec.annotations.get(ROOTFS)) or ROOTFS_GB


def mounts_of(spec: EndpointSpec, volume_of: Callable[[str], Volume | None]) -> list[MountOut]:
    """What its workers see beside their image. `volume_of(name)` is `None` for what the caller may not see."""
    local, paths = _kept(spec, LOCAL, list[Local]) or [], _kept(spec, MOUNT_PATHS, dict[str, str]) or {}
    found = [MountOut(type="local", id="", size=each.size, mount_path=each.path) for each in local]
    for mount in spec.volumes:
        volume = volume_of(mount.volume)
        found.append(
            MountOut(
                type="network",
                id="" if volume is None else volume.id,
                size=0 if volume is None else max(1, round(volume.size_gib)),
                mount_path=paths.get(mount.volume) or mount.path or "",
            )
        )
    return found


def _kept(spec: EndpointSpec, key: str, kind: type[T]) -> T | None:
    """What an annotation holds; `None` where there is none, or somebody else wrote it."""
    try:
        return msgspec.json.decode(spec.annotations.get(key, ""), type=kind)
    except (msgspec.DecodeError, RecursionError):
        return None
