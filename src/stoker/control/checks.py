"""What of a spec no provider here could ever do, refused before anything is recorded. For the door for endpoints."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from stoker.control import cold
from stoker.control.managed import Managed, Providers
from stoker.domain.endpoint import EndpointSpec
from stoker.domain.errors import Invalid
from stoker.domain.gpus import check_family
from stoker.domain.hardware import HardwareRequest
from stoker.domain.launch import Launch
from stoker.domain.scaling import Auto, Load, Trigger
from stoker.policy.placement import impossible


def check_hardware(providers: Providers, spec: EndpointSpec, *, regions: Iterable[str]) -> None:
    """Refuse what no host of a pool's provider could ever run. `regions` are the settings'. Raises `Invalid`."""
    for index, pool in enumerate(spec.pools):
        managed = providers.check(pool.provider, f"/pools/{index}/provider")
        _check_names(pool.hardware, managed, f"/pools/{index}/hardware", regions)
        why = impossible(pool.hardware, managed.offers, ports=1 + len(spec.launch_of(pool).ports))
        if why is not None:
            raise Invalid.at(f"/pools/{index}/hardware", f"no host can ever run this: {why}")


def _check_names(hardware: HardwareRequest, managed: Managed, pointer: str, regions: Iterable[str]) -> None:
    """Refuse families and regions that nobody knows, whatever the hosts have."""
    offered = {gpu.family for offer in managed.offers for gpu in offer.gpus}
    for name in hardware.families:
        check_family(name, f"{pointer}/gpu_family", also=offered)
    known = dict.fromkeys((*regions, *(offer.region for offer in managed.offers)))
    if hardware.region is not None and hardware.region not in known:
        raise Invalid.at(f"{pointer}/region", f"no region {hardware.region[:64]!r}; there are {', '.join(known)}")


def _wants_cold(trigger: Trigger) -> bool:
    if isinstance(trigger, Auto):
        return trigger.cold_cost > 0
    return isinstance(trigger, Load) and (trigger.cold_workers > 0 or trigger.cold_mult > 1)


def check_cold(providers: Providers, spec: EndpointSpec, resolved: Mapping[str, Launch]) -> None:
    """Refuse cold workers where neither provider nor engine can keep any. Raises `Invalid`."""
    asked = next((i for i, trigger in enumerate(spec.scaling.triggers) if _wants_cold(trigger)), None)
    for index, pool in enumerate(spec.pools):
        managed = providers.get(pool.provider)
        if asked is not None and cold.frees(resolved[pool.name], managed) is None:
            raise Invalid.at(
                f"/scaling/triggers/{asked}",
                f"neither the {pool.provider} provider nor the engine can keep workers cold; say no cold workers",
            )
        if pool.bounds.cold and cold.frees(resolved[pool.name], managed) is None:
            raise Invalid.at(
                f"/pools/{index}/bounds/cold",
                f"neither the {pool.provider} provider nor the engine can keep workers cold; say 0",
            )
