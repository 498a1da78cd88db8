"""The policies that can be simulated, by name, and the knobs that a sweep turns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from stoker.simulate.rules.hindsight import Clairvoyant, StaticPeak
from stoker.simulate.rules.idle import KeepAlive, RunPodCount, RunPodDelay
from stoker.simulate.rules.knative import Kpa
from stoker.simulate.rules.kubernetes import HpaKeda
from stoker.simulate.rules.own import auto, concurrency
from stoker.simulate.rules.ray import RayServe
from stoker.simulate.rules.skyserve import SkyServe
from stoker.simulate.rules.vast import Vast
from stoker.simulate.run import Rule
from stoker.simulate.trace import Profile

UTILISATIONS = (0.35, 0.5, 0.6, 0.7, 0.8, 0.9)
MEMORIES_S = (60.0, 120.0, 300.0, 600.0, 1200.0, 1800.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Knobs:
    """`None`: the policy's default."""

    utilisation: float | None = None
    memory_s: float | None = None

    def given(self) -> dict[str, float]:
        """Those that are turned."""
        values = {"utilisation": self.utilisation, "memory_s": self.memory_s}
        return {name: value for name, value in values.items() if value is not None}

    def __str__(self) -> str:
        return ",".join(f"{name}={value:g}" for name, value in self.given().items())


Make = Callable[[Sequence[float], Sequence[float], Profile, dict[str, float]], Rule]

POLICIES: Mapping[str, Make] = {
    "auto": lambda a, s, profile, knobs: auto(profile),
    "concurrency": lambda a, s, profile, knobs: concurrency(profile, **knobs),
    "kpa": lambda a, s, profile, knobs: Kpa(**knobs),
    "hpa-keda": lambda a, s, profile, knobs: HpaKeda(**knobs),
    "runpod-delay": lambda a, s, profile, knobs: RunPodDelay(**knobs),
    "runpod-count": lambda a, s, profile, knobs: RunPodCount(**knobs),
    "keepalive": lambda a, s, profile, knobs: KeepAlive(**knobs),
    "vast": lambda a, s, profile, knobs: Vast(arrivals=a, services=s, **knobs),
    "ray-serve": lambda a, s, profile, knobs: RayServe(**knobs),
    "skyserve": lambda a, s, profile, knobs: SkyServe(service_s=sum(s) / len(s), **knobs),
    "static-peak": lambda a, s, profile, knobs: StaticPeak(a, s, profile),
    "clairvoyant": lambda a, s, profile, knobs: Clairvoyant(a, s, profile),
}
# These know the future, or have no knobs.
_UNSWEPT = frozenset({"auto", "static-peak", "clairvoyant"})
_MEMORY_ALONE = frozenset({"runpod-delay"})


def sweep(policy: str) -> tuple[Knobs, ...]:
    """The settings of a policy to try, its defaults first."""
    if policy in _UNSWEPT:
        return (Knobs(),)
    utilisations = (None,) if policy in _MEMORY_ALONE else UTILISATIONS
    return (Knobs(), *(Knobs(utilisation=u, memory_s=m) for u, m in product(utilisations, MEMORIES_S)))
