"""Deployments as endpoints and back: containers are pools, one for each region; flavors are their hardware."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from pydantic import ValidationError

from stoker.dialects import keeping
from stoker.dialects.gcore.flavors import Flavor, Place
from stoker.dialects.gcore.wire.deployments import (
    DeploymentIn,
    DeploymentPatch,
    Kept,
    LoggingIn,
    LoggingOut,
)
from stoker.dialects.gcore.wire.probes import ProbesConfig, ProbesPatch
from stoker.dialects.gcore.wire.scaling import ContainerIn, Pace
from stoker.domain.endpoint import Access, EndpointSpec, PoolSpec, ScaleBounds, ScalingPolicy
from stoker.domain.errors import Invalid, Problem
from stoker.domain.launch import LaunchSpec
from stoker.domain.logging import RETENTION_S_MAX, Logging
from stoker.domain.probe import Probes
from stoker.domain.scaling import AnyTrigger, Concurrency, Cpu, GpuMemory, GpuUtilization, HttpRate, Memory

FLAVOR = "gcore/flavor"
DESCRIPTION = "gcore/description"
KEPT = "gcore/kept"
PROBES = "gcore/probes"
APPLICATION = "gcore/application"
SCALE = "gcore/scale/"
# Images that stand for models of the catalogue begin with this.
CATALOGUE = "stoker/models/"
_SHARES: Mapping[str, type[Cpu | Memory | GpuUtilization | GpuMemory]] = {
    "cpu": Cpu,
    "memory": Memory,
    "gpu_utilization": GpuUtilization,
    "gpu_memory": GpuMemory,
}
# What 0 means there.
IDLE_S_MIN = 60
DAY_S = 86_400.0


def image_of(model: str) -> str:
    """What the image is called that a model of the catalogue is deployed by."""
    return f"{CATALOGUE}{model}"


def model_of(image: str) -> str | None:
    """The model of the catalogue that an image stands for; `None` for any other image."""
    return image.removeprefix(CATALOGUE) or None if image.startswith(CATALOGUE) else None


def _pool_name(region: int) -> str:
    return f"region-{region}"


def pace_of(spec: EndpointSpec, region: int) -> Pace:
    """How containers of that region are scaled, as it was said."""
    return keeping.read(spec, f"{SCALE}{region}", Pace) or Pace()


def created(body: DeploymentIn, place: Place) -> EndpointSpec:
    """The endpoint that a new deployment is. Raises `Invalid`."""
    kept = Kept(timeout=body.timeout, ingress_opts=body.ingress_opts, logging=_shown(body.logging))
    launch = LaunchSpec(
        image=None if (model := model_of(body.image)) else body.image,
        model=model,
        command=tuple(body.command or ()),
        credential=body.credentials_name or None,
        env=body.envs,
        port=body.listening_port,
    )
    spec = EndpointSpec(name=body.name, launch=launch, access=_access(body.auth_enabled, body.api_keys))
    annotations = {FLAVOR: body.flavor_name, DESCRIPTION: body.description or "", KEPT: kept.model_dump_json()}
    if body.probes is not None:
        annotations[PROBES] = body.probes.model_dump_json(by_alias=True)
    spec = replace(spec, annotations=annotations)
    return settled(contained(spec, body.containers, place.flavor(body.flavor_name), place))


def changed(spec: EndpointSpec, body: DeploymentPatch, place: Place) -> EndpointSpec:
    """The spec with the changes. Raises `Invalid`."""
    annotations = dict(spec.annotations)
    if body.description is not None:
        annotations[DESCRIPTION] = body.description
    if body.probes is not None:
        annotations[PROBES] = _probes(spec, body.probes).model_dump_json(by_alias=True)
    annotations[KEPT] = _kept(spec, body).model_dump_json()
    spec = replace(spec, launch=_launch(spec.launch, body), annotations=annotations)
    if body.auth_enabled is not None or body.api_keys is not None:
        spec = replace(spec, access=_access(bool(body.auth_enabled), body.api_keys))
    if body.containers is not None or body.flavor_name is not None:
        name = body.flavor_name or annotations.get(FLAVOR, "")
        flavor = place.flavors.get(name)
        if body.flavor_name is not None:
            flavor = place.flavor(name)
            spec = replace(spec, annotations={**annotations, FLAVOR: name})
        if body.containers is not None:
            spec = contained(spec, body.containers, flavor, place)
        else:
            spec = replace(spec, scaling=_apart(spec), pools=tuple(_sized(pool, flavor, place) for pool in spec.pools))
    return settled(spec)


def _probes(spec: EndpointSpec, patch: ProbesPatch) -> ProbesConfig:
    try:
        return (keeping.read(spec, PROBES, ProbesConfig) or ProbesConfig()).patched(patch)
    except ValidationError as exc:
        where = [(".".join(map(str, error["loc"])), error["msg"]) for error in exc.errors()]
        problems = tuple(Problem(f"/probes.{place}", text) for place, text in where)
        raise Invalid("a probe lacks something", problems=problems) from exc


def _launch(launch: LaunchSpec, body: DeploymentPatch) -> LaunchSpec:
    if body.image is not None:
        # One that was made elsewhere may run something else: an image takes its place.
        model = model_of(body.image)
        launch = replace(launch, image=None if model else body.image, model=model, parameters=())
    if body.command is not None:
        launch = replace(launch, command=tuple(body.command))
    if body.credentials_name is not None:
        launch = replace(launch, credential=body.credentials_name or None)
    if body.envs is not None:
        launch = replace(launch, env=body.envs)
    if body.listening_port is not None:
        launch = replace(launch, port=body.listening_port)
    return launch


def _kept(spec: EndpointSpec, body: DeploymentPatch) -> Kept:
    kept = keeping.read(spec, KEPT, Kept) or Kept()
    return Kept(
        timeout=kept.timeout if body.timeout is None else body.timeout,
        ingress_opts=kept.ingress_opts if body.ingress_opts is None else body.ingress_opts,
        logging=kept.logging if body.logging is None else _shown(body.logging),
    )


def _access(auth_enabled: bool, api_keys: Sequence[str] | None) -> Access:
    return Access.ATTACHED if auth_enabled or api_keys else Access.OPEN


def _shown(logging: LoggingIn | None) -> LoggingOut | None:
    return None if logging is None else LoggingOut.model_validate(logging.model_dump())


def contained(
    spec: EndpointSpec, containers: Sequence[ContainerIn], flavor: Flavor | None, place: Place
) -> EndpointSpec:
    """With these containers instead of what it has. Of a region that stays, what is not said stays."""
    annotations = {key: value for key, value in spec.annotations.items() if not key.startswith(SCALE)}
    pools: list[PoolSpec] = []
    for index, container in enumerate(containers):
        region, scale = container.region_id, container.scale
        where = f"/containers/{index}"
        if region not in place.regions:
            raise Invalid.at(f"{where}/region_id", f"no region {region}")
        name = _pool_name(region)
        if any(pool.name == name for pool in pools):
            raise Invalid.at(f"{where}/region_id", f"the region {region} is there twice")
        bounds = ScaleBounds(min=scale.min, max=scale.max)
        known = next((pool for pool in spec.pools if place.regions[region] == pool.hardware.region), None)
        pool = replace(known or PoolSpec(), name=known.name if known else name, bounds=bounds)
        if flavor is not None or known is None:
            pool = _placed(pool, flavor, region, place, where)
        annotations[f"{SCALE}{region}"] = pace_of(spec, region).changed(scale).model_dump_json()
        pools.append(pool)
    return replace(spec, scaling=_apart(spec), pools=tuple(pools), annotations=annotations)


def _placed(pool: PoolSpec, flavor: Flavor | None, region: int, place: Place, where: str) -> PoolSpec:
    """The pool on hardware of that flavor in that region."""
    if flavor is None:
        raise Invalid.at("/flavor_name", "say a flavor for a region that is new")
    provider = flavor.provider(region)
    if provider is None:
        raise Invalid.at(f"{where}/region_id", f"there is no {flavor.name} in the region {region}")
    return replace(pool, provider=provider, hardware=flavor.hardware(place.regions[region]))


def _sized(pool: PoolSpec, flavor: Flavor | None, place: Place) -> PoolSpec:
    region = region_of(pool, place.regions)
    return _placed(pool, flavor, region, place, "/containers")


def region_of(pool: PoolSpec, regions: Mapping[int, str]) -> int:
    """The number of a pool's region; of one that may be anywhere, the first."""
    known = {name: number for number, name in regions.items()}
    return known.get(pool.hardware.region or "", min(regions))


def settled(spec: EndpointSpec) -> EndpointSpec:
    """With what follows from the rest: idle time, pace, probes and how long output is kept."""
    kept = keeping.read(spec, KEPT, Kept) or Kept()
    paces = [keeping.read(spec, key, Pace) for key in spec.annotations if key.startswith(SCALE)]
    cooldown = max((pace.cooldown_period for pace in paces if pace is not None), default=60)
    scaling = replace(
        spec.scaling,
        target=None,
        triggers=triggers_of([pace for pace in paces if pace is not None], spec),
        scale_down_delay_s=cooldown,
        idle_timeout_s=max(IDLE_S_MIN, kept.timeout or 0) if kept.timeout is not None else 120,
    )
    probes = keeping.read(spec, PROBES, ProbesConfig)
    port = spec.launch.port
    asked = Probes() if probes is None or port is None else probes.to_probes(port)
    retention = retention_s(spec)
    logging = Logging() if retention is None else Logging(retention_s=min(retention, RETENTION_S_MAX))
    return replace(spec, scaling=scaling, probes=asked, logging=logging)


def triggers_of(paces: Sequence[Pace], spec: EndpointSpec) -> tuple[AnyTrigger, ...]:
    """What an endpoint is scaled by whose containers are scaled so: by requests present as before, by the strictest of
    each kind, and by all queues that can be asked.
    """
    before = [each for each in spec.scaling.effective if isinstance(each, Concurrency)]
    shares: list[AnyTrigger] = []
    for name, kind in _SHARES.items():
        thresholds = [each.threshold for pace in paces if (each := getattr(pace.triggers, name)) is not None]
        if thresholds and all(_has(pool, name) for pool in spec.pools):
            shares.append(kind(threshold=float(min(thresholds))))
    rates = [
        HttpRate(rate=float(http.rate), window_s=float(http.window))
        for pace in paces
        if (http := pace.triggers.http) is not None
    ]
    queues = [
        queue
        for pace in paces
        if pace.triggers.sqs is not None
        and (queue := pace.triggers.sqs.to_queue(float(pace.polling_interval))) is not None
    ]
    strictest = sorted(rates, key=lambda rate: rate.rate / rate.window_s)[:1]
    return (*(before or [Concurrency()])[:1], *shares, *strictest, *dict.fromkeys(queues))


def _apart(spec: EndpointSpec) -> ScalingPolicy:
    """Without shares of what other pools may not have; `settled` says again what there is a share of."""
    kinds = tuple(_SHARES.values())
    return replace(spec.scaling, triggers=tuple(each for each in spec.scaling.triggers if not isinstance(each, kinds)))


def _has(pool: PoolSpec, share: str) -> bool:
    """Does its hardware say the whole that this is a share of?"""
    hardware = pool.hardware
    whole = {"cpu": hardware.vcpu_all, "memory": hardware.ram_gib_all}
    return bool(whole.get(share, hardware.gpu_count))


def retention_s(spec: EndpointSpec) -> float | None:
    """How long lines of output are kept, where its owner says so."""
    kept = keeping.read(spec, KEPT, Kept)
    if kept is None or kept.logging is None or kept.logging.retention_policy is None:
        return None
    period = kept.logging.retention_policy.period
    return None if period is None else period * DAY_S
