"""Where the next worker of one provider goes: `policy.placement`, without judging anew the hosts that are as they were.

Kept by `stoker.control.fleet`, which says of every change which machine it was on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from stoker.domain.hardware import HardwareRequest, Offer, Placement
from stoker.policy.placement import Judged, Unplaceable, choose, judge, room_of

# Kinds of requests remembered; most installations have fewer kinds of pools.
KINDS_MAX = 32


@dataclass(slots=True)
class _Kind:
    """One kind of request: how each host was judged, and the machines on which something changed since."""

    offers: Sequence[Offer]
    judged: dict[str, Judged] = field(default_factory=dict)
    by_machine: dict[str, list[Offer]] = field(default_factory=dict)
    stale: set[str] = field(default_factory=set)


class Places:
    """`held` says what workers hold of a machine now."""

    def __init__(self, held: Callable[[str], Iterable[Placement]]) -> None:
        self._held = held
        self._kinds: dict[tuple[HardwareRequest, int, int], _Kind] = {}

    def touched(self, machine: str) -> None:
        """Something is held, or free, there that was not."""
        for kind in self._kinds.values():
            kind.stale.add(machine)

    def place(
        self, request: HardwareRequest, offers: Sequence[Offer], ports: int, *, avoid: Mapping[str, int] | None = None
    ) -> Placement | Unplaceable:
        """As `policy.placement.place` beside all that is held; `avoid` as in `choose`."""
        kind = self._kind(request, offers, ports)
        for machine in kind.stale:
            held = tuple(self._held(machine)) if machine in kind.by_machine else ()
            for offer in kind.by_machine.get(machine, ()):
                kind.judged[offer.host] = judge(request, room_of(offer, held), ports)
        kind.stale.clear()
        return choose(request, kind.judged.values(), offers, ports, avoid=avoid)

    def _kind(self, request: HardwareRequest, offers: Sequence[Offer], ports: int) -> _Kind:
        # Pools with real and with virtual cards see other hosts.
        key = (request, ports, len(offers))
        known = self._kinds.pop(key, None)
        if known is None or (known.offers is not offers and known.offers != offers):
            known = _Kind(offers)
            for offer in offers:
                known.by_machine.setdefault(offer.machine, []).append(offer)
            known.stale.update(known.by_machine)
        known.offers = offers
        # In the order in which they were last asked for.
        self._kinds[key] = known
        while len(self._kinds) > KINDS_MAX:
            del self._kinds[next(iter(self._kinds))]
        return known
