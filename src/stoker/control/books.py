"""Everything that only looks on and writes down: usage, measurements, what is learned, output that is kept. No decision
waits for any of it; if it fails, endpoints go on.
"""

from __future__ import annotations

from collections.abc import Callable

from stoker.control import experiences
from stoker.control.custom_metrics import CustomMetrics
from stoker.control.experiences import Experiences
from stoker.control.fleet import Fleet
from stoker.control.learning import Learning
from stoker.control.loop import Loop
from stoker.control.managed import Providers
from stoker.control.measuring import PERIOD_S, Fetch, Measuring
from stoker.control.tidying import Tidying
from stoker.control.usage import Usage
from stoker.domain.endpoint import EndpointId
from stoker.settings import Settings
from stoker.telemetry.segments import Segments
from stoker.telemetry.traffic import TrafficMeter

TIDYING_PERIOD_S = 300.0
_MIB = 1024.0 * 1024.0


def segments_of(settings: Settings) -> Segments:
    """Where facts of requests are kept, as the settings say."""
    return Segments(
        settings.paths.requests,
        bytes_max=int(settings.requests_mib * _MIB),
        total_bytes_max=int(settings.requests_total_mib * _MIB),
        kept_s=settings.requests_days * 86_400.0,
    )


class Books:
    """One of each, wired. `changed` is called when an endpoint's expected start is another one now."""

    def __init__(
        self,
        fleet: Fleet,
        providers: Providers,
        traffic: TrafficMeter,
        segments: Segments,
        fetch: Fetch,
        *,
        clock: Callable[[], float],
        changed: Callable[[EndpointId], object],
    ) -> None:
        self.usage = Usage(fleet, fleet.store, segments, clock=clock, priced=providers.priced)
        self.measuring = Measuring(fleet, providers, fetch, clock=clock)
        self.custom = CustomMetrics(fleet, fetch, clock=clock)
        self.learning = Learning(fleet, traffic, clock=clock, tokens=self.usage.completion_tokens, changed=changed)
        self.experiences = Experiences(fleet, clock=clock)
        self.tidying = Tidying(fleet, providers, clock=clock)

    async def load(self) -> None:
        """Read what is known."""
        await self.usage.load()
        await self.learning.load()
        await self.experiences.load()

    def loops(self) -> tuple[Loop, ...]:
        """What is to be done again and again."""
        return (
            Loop("measuring", self.measuring.step, period_s=PERIOD_S),
            Loop("custom metrics", self.custom.step, period_s=PERIOD_S),
            Loop("usage", self.usage.step, period_s=PERIOD_S),
            Loop("learning", self.learning.step, period_s=PERIOD_S),
            Loop("experiences", self.experiences.step, period_s=experiences.PERIOD_S),
            Loop("tidying", self.tidying.step, period_s=TIDYING_PERIOD_S),
        )

    async def trim(self, *, usage_kept_s: float) -> None:
        """Forget what is too old."""
        await self.usage.trim(kept_s=usage_kept_s)
        await self.learning.trim()
