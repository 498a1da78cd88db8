"""Endpoints of that API as endpoints here: one pool, whose hardware is a product's.

What is asked for and is what is shown already changes nothing: clients send back what they got, of endpoints as well
that were made elsewhere and have more to them than can be said there.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import replace
from ipaddress import ip_address
from typing import Protocol
from urllib.parse import urlsplit

import msgspec

from stoker.dialects.novita import showing
from stoker.dialects.novita.errors import Refused
from stoker.dialects.novita.names import APP, app_of
from stoker.dialects.novita.products import Product, chosen, product_of
from stoker.dialects.novita.showing import CUDA, HEALTHY, LOCAL, MOUNT_PATHS, PATH, ROOTFS, Local, gpus_of
from stoker.dialects.novita.wire.endpoints import (
    REQUEST_TIMEOUT_S,
    EndpointIn,
    EnvIn,
    ImageIn,
    MountIn,
    PolicyIn,
    UpdateIn,
    WorkerConfigIn,
)
from stoker.dialects.novita.wire.limits import LIMITS
from stoker.domain.endpoint import Access, Endpoint, EndpointSpec, PoolSpec, ScaleBounds, ScalingPolicy, Timeouts
from stoker.domain.errors import Invalid
from stoker.domain.launch import LaunchSpec, SecretRef
from stoker.domain.probe import Probe, Probes
from stoker.domain.queueing import Mode, QueueSpec, RetryPolicy
from stoker.domain.scaling import QueueDelay, QueueLength
from stoker.domain.volumes import Volume, VolumeMount

# The results of jobs are kept for so long there.
RETENTION_S = 6 * 3_600.0
VolumeOf = Callable[[str], Volume]


class Doors(Protocol):
    """The project's log-ins and volumes. Those that the caller may not see are not there: `Refused`."""

    def login(self, id: str) -> str:
        """The name of the log-in with that id."""

    def id_of(self, name: str) -> str:
        """The id of the log-in of that name; empty for none."""

    def volume(self, id: str) -> Volume:
        """The volume with that id."""

    def named(self, name: str) -> Volume | None:
        """The volume of that name, if the caller may see it."""


def created(body: EndpointIn, name: str, known: Sequence[Product], doors: Doors, *, url: str) -> EndpointSpec:
    """The endpoint that is asked for. `url` is Stoker's own address. Raises `Invalid`, `Refused`."""
    check(body.worker_config, body.policy)
    LIMITS.check("_rootfs_size", "/rootfsSize", body.rootfs_size)
    config = body.worker_config
    stored = next((each.id for each in body.volume_mounts or () if each.type == "network" and each.id), None)
    beside = None if stored is None else doors.volume(stored).provider
    pool = replace(
        chosen(known, body.products[0].id).pool(config.gpu_num, body.cluster_id or None, beside=beside),
        bounds=ScaleBounds(min=config.min_num, max=config.max_num),
    )
    launch = LaunchSpec(
        image=body.image.image,
        credential=doors.login(body.image.auth_id) if body.image.auth_id else None,
        command=_command(body.image.command or ""),
        env=_env(body.envs or ()),
        port=body.port,
    )
    annotations = {ROOTFS: str(body.rootfs_size)}
    if body.app_name:
        annotations[APP] = body.app_name
    if config.cuda_version:
        annotations[CUDA] = config.cuda_version
    spec = EndpointSpec(
        name=name,
        launch=launch,
        pools=(pool,),
        scaling=_scaling(ScalingPolicy(), body.policy, config),
        slots=config.max_concurrent,
        timeouts=_timeouts(config.request_timeout or REQUEST_TIMEOUT_S),
        access=Access.OPEN if _is_loopback(url) else Access.PROJECT,
        annotations=annotations,
    )
    if body.type == "async":
        spec = _of_jobs(spec, config.request_timeout or REQUEST_TIMEOUT_S)
    spec = _probed(spec, (body.healthy.path if body.healthy is not None else None) or PATH)
    return _mounted(spec, body.volume_mounts or (), body.cluster_id or "", doors.volume)


def changed(endpoint: Endpoint, body: UpdateIn, known: Sequence[Product], doors: Doors) -> EndpointSpec:
    """Its spec as it is to be. Raises `Invalid`, `Refused`."""
    shown = (showing.config_of(endpoint), showing.policy_of(endpoint.spec))
    check(body.worker_config, body.policy, shown=shown)
    if body.app_name and body.app_name != app_of(endpoint):
        raise Invalid.at("/appName", "the name of the application is for good")
    spec = endpoint.spec
    if body.name:
        spec = replace(spec, name=body.name)
    spec = replace(spec, launch=_launch(endpoint, body, doors))
    spec = _configured(endpoint, spec, body)
    spec = _placed(spec, body, known)
    if body.rootfs_size is not None and body.rootfs_size != showing.rootfs_of(spec):
        LIMITS.check("_rootfs_size", "/rootfsSize", body.rootfs_size)
        spec = _annotated(spec, {ROOTFS: str(body.rootfs_size)})
    if body.healthy is not None and body.healthy.path and body.healthy.path != showing.path_of(spec):
        spec = _probed(spec, body.healthy.path)
    if body.volume_mounts is not None and not _mounted_so(spec, body.volume_mounts, doors):
        cluster = showing.cluster_of(spec) if body.cluster_id is None else body.cluster_id
        return _mounted(spec, body.volume_mounts, cluster, doors.volume)
    if showing.cluster_of(spec) != showing.cluster_of(endpoint.spec):
        _check_reached(spec, doors)
    return spec


def check(config: WorkerConfigIn, policy: PolicyIn, *, shown: tuple[WorkerConfigIn, PolicyIn] | None = None) -> None:
    """Refuse numbers out of their ranges that are not `shown` already. Raises `Invalid`."""
    asked = _numbers(config, policy)
    before = () if shown is None else _numbers(*shown)
    for number in asked:
        if number not in before:
            LIMITS.check(*number)
    if config.min_num > config.max_num:
        raise Invalid.at("/workerConfig/minNum", f"{config.min_num} is above maxNum, which is {config.max_num}")


def _numbers(config: WorkerConfigIn, policy: PolicyIn) -> Sequence[tuple[str, str, int]]:
    """What each is called in the limits, where it stands, and what it is."""
    return (
        ("_worker_num", "/workerConfig/minNum", config.min_num),
        ("_worker_num", "/workerConfig/maxNum", config.max_num),
        ("_free_timeout", "/workerConfig/freeTimeout", config.free_timeout),
        ("_concurrency_num", "/workerConfig/maxConcurrent", config.max_concurrent),
        ("GPUNum", "/workerConfig/gpuNum", config.gpu_num),
        ("_queue_wait_time" if policy.type == "queue" else "_request_num", "/policy/value", policy.value),
    )


def _command(text: str) -> tuple[str, ...]:
    try:
        return tuple(shlex.split(text))
    except ValueError as exc:
        raise Refused("INVALID_COMMAND_PARAM", f"image.command: {exc}") from exc


def _env(envs: Sequence[EnvIn]) -> dict[str, str | SecretRef]:
    return {each.key: each.value for each in envs}


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _timeouts(total_s: int) -> Timeouts:
    # One limit holds for all of a request.
    return Timeouts(first_byte_s=None, idle_s=None, total_s=float(total_s))


def _scaling(before: ScalingPolicy, policy: PolicyIn, config: WorkerConfigIn) -> ScalingPolicy:
    trigger = (
        QueueDelay(threshold_s=float(policy.value))
        if policy.type == "queue"
        else QueueLength(target=float(config.max_concurrent), tolerated=policy.value)
    )
    idle_s = float(config.free_timeout)
    return replace(before, target=None, triggers=(trigger,), scale_down_delay_s=idle_s, idle_timeout_s=idle_s)


def _of_jobs(spec: EndpointSpec, request_timeout_s: int) -> EndpointSpec:
    # A job whose worker is lost has one further try; what a handler says of a failure is final.
    retries = RetryPolicy(attempts_max=2, retry_on=("connection",))
    queue = QueueSpec(pull=True, retries=retries, execution_timeout_s=float(request_timeout_s), retention_s=RETENTION_S)
    return replace(spec, mode=Mode.QUEUE, queue=queue, access=Access.PROJECT)


def _annotated(spec: EndpointSpec, more: dict[str, str]) -> EndpointSpec:
    """With these annotations; one that is empty is taken away."""
    others = {key: value for key, value in spec.annotations.items() if key not in more}
    return replace(spec, annotations=others | {key: value for key, value in more.items() if value})


def _probed(spec: EndpointSpec, path: str) -> EndpointSpec:
    """With the health path: asked often until the worker is ready, then as that cloud does."""
    spec = _annotated(spec, {HEALTHY: path})
    if spec.queue.pull:
        return spec
    timing = showing.TIMING
    probes = Probes(
        startup=Probe(path=path, period_s=1.0, timeout_s=timing.timeout),
        liveness=Probe(
            path=path,
            period_s=timing.period,
            timeout_s=timing.timeout,
            failures_max=timing.failure_threshold,
        ),
    )
    return replace(spec, probes=probes)


def _launch(endpoint: Endpoint, body: UpdateIn, doors: Doors) -> LaunchSpec:
    launch, shown = endpoint.spec.launch, showing.image_of(endpoint, doors.id_of)
    asked: ImageIn = body.image
    if asked.image != shown.image:
        # One that was made elsewhere may run something else: an image takes its place.
        launch = replace(launch, image=asked.image, model=None, parameters=())
    if asked.command is not None and asked.command != shown.command:
        launch = replace(launch, command=_command(asked.command))
    if asked.auth_id is not None and asked.auth_id != shown.auth_id:
        launch = replace(launch, credential=doors.login(asked.auth_id) if asked.auth_id else None)
    if body.envs is not None:
        kept = {e.key: launch.env[e.key] for e in body.envs if showing.shown_env(launch).get(e.key) == e.value}
        launch = replace(launch, env={**_env(body.envs), **kept})
    if body.port != showing.port_of(endpoint.spec):
        launch = replace(launch, port=body.port)
    return launch


def _configured(endpoint: Endpoint, spec: EndpointSpec, body: UpdateIn) -> EndpointSpec:
    config, shown = body.worker_config, showing.config_of(endpoint)
    if (config.min_num, config.max_num) != (shown.min_num, shown.max_num):
        spec = replace(spec, pools=(_bounded(spec, config),))
    if config.max_concurrent != shown.max_concurrent:
        spec = replace(spec, slots=config.max_concurrent)
    said = (body.policy, config.free_timeout, config.max_concurrent)
    if said != (showing.policy_of(spec), shown.free_timeout, shown.max_concurrent):
        spec = replace(spec, scaling=_scaling(spec.scaling, body.policy, config))
    if config.request_timeout is not None and config.request_timeout != shown.request_timeout:
        spec = replace(spec, timeouts=_timeouts(config.request_timeout))
        if spec.queue.pull:
            spec = replace(spec, queue=replace(spec.queue, execution_timeout_s=float(config.request_timeout)))
    if config.cuda_version is not None:
        spec = _annotated(spec, {CUDA: config.cuda_version})
    return spec


def _single(spec: EndpointSpec, pointer: str) -> PoolSpec:
    if len(spec.pools) > 1:
        raise Invalid.at(pointer, "the endpoint has several pools, which cannot be told apart here")
    return spec.pools[0]


def _bounded(spec: EndpointSpec, config: WorkerConfigIn) -> PoolSpec:
    pool = _single(spec, "/workerConfig/minNum")
    cold = min(pool.bounds.cold, config.max_num)
    return replace(pool, bounds=ScaleBounds(min=config.min_num, max=config.max_num, cold=cold))


def _placed(spec: EndpointSpec, body: UpdateIn, known: Sequence[Product]) -> EndpointSpec:
    """On other hardware, or elsewhere, if that is asked for."""
    pool, gpus = spec.pools[0], body.worker_config.gpu_num
    present = product_of(known, pool.hardware)
    product = present if body.products is None else body.products[0].id
    cluster = showing.cluster_of(spec) if body.cluster_id is None else body.cluster_id
    if (gpus, product, cluster) == (gpus_of(pool), present, showing.cluster_of(spec)):
        return spec
    placed = chosen(known, product).pool(gpus, cluster or None, beside=pool.provider)
    before = _single(spec, "/products")
    return replace(spec, pools=(replace(before, provider=placed.provider, hardware=placed.hardware),))


def _mounted(spec: EndpointSpec, mounts: Sequence[MountIn], cluster: str, volume_of: VolumeOf) -> EndpointSpec:
    """With these mounts: a volume for each storage; what is local is any folder of the worker's."""
    volumes: list[VolumeMount] = []
    local: list[Local] = []
    paths: dict[str, str] = {}
    for index, mount in enumerate(mounts):
        where = f"/volumeMounts/{index}"
        if mount.type == "local":
            if mount.size is not None:
                LIMITS.check("_local_volume_size", f"{where}/size", mount.size)
            local.append(Local(mount.size or 0, mount.mount_path or ""))
            continue
        if not mount.id:
            raise Invalid.at(f"{where}/id", "the id of a network storage is needed")
        volume = volume_of(mount.id)
        _check_cluster(volume, cluster)
        paths[volume.name] = mount.mount_path or ""
        volumes.append(VolumeMount(volume=volume.name, path=_seen_at(spec, mount.mount_path)))
    more = {LOCAL: _json(local) if local else "", MOUNT_PATHS: _json(paths) if paths else ""}
    return replace(_annotated(spec, more), volumes=tuple(volumes))


def _check_reached(spec: EndpointSpec, doors: Doors) -> None:
    """Refuse a cluster in which its storages are not. Raises `Invalid`."""
    for mount in spec.volumes:
        volume = doors.named(mount.volume)
        if volume is not None:
            _check_cluster(volume, showing.cluster_of(spec))


def _check_cluster(volume: Volume, cluster: str) -> None:
    if cluster != volume.region:
        raise Invalid.at("/clusterID", f"this must be the cluster of the storage {volume.name}, {volume.region}")


def _mounted_so(spec: EndpointSpec, mounts: Sequence[MountIn], doors: Doors) -> bool:
    """Is this what is shown already?"""
    shown = [(each.type, each.id, each.size, each.mount_path) for each in showing.mounts_of(spec, doors.named)]
    return shown == [(each.type, each.id or "", each.size or 0, each.mount_path or "") for each in mounts]


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _seen_at(spec: EndpointSpec, path: str | None) -> str | None:
    # A process sees the host's folders where they are.
    return None if spec.pools[0].provider == "process" else path or None
