"""Where workers go when judgements are kept: always where they would go if every host were judged anew."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from stoker.control.places import KINDS_MAX, Places
from stoker.domain.hardware import GpuDevice, HardwareRequest, Offer, Placement, PortRange, machine_of
from stoker.policy.placement import Unplaceable, place

OFFERS = tuple(
    Offer(
        host=host,
        vcpu=8,
        ram_gib=16,
        gpus=tuple(GpuDevice(index, f"{host}-{index}", "h100", 80.0) for index in range(cards)),
        ports=PortRange(20_000, 20_003),
    )
    for host, cards in (("a", 2), ("b/virtual", 1), ("b", 3), ("c", 0))
)
REQUESTS = (
    HardwareRequest(),
    HardwareRequest(gpu_count=1),
    HardwareRequest(gpu_count=2),
    HardwareRequest(gpu_count=4),
    HardwareRequest(vcpu=4),
)


class Held:
    """Placements, and the places that are told of each."""

    def __init__(self) -> None:
        self.all: list[Placement] = []
        self.asked = 0
        self.places = Places(self.at)

    def at(self, machine: str) -> list[Placement]:
        self.asked += 1
        return [placement for placement in self.all if machine_of(placement.host) == machine]

    def take(self, request: HardwareRequest, offers: tuple[Offer, ...] = OFFERS) -> Placement | Unplaceable:
        found = self.places.place(request, offers, 1)
        assert found == place(request, offers, self.all, ports=1)
        if isinstance(found, Placement):
            self.all.append(found)
            self.places.touched(machine_of(found.host))
        return found

    def release(self, index: int) -> None:
        if self.all:
            gone = self.all.pop(index % len(self.all))
            self.places.touched(machine_of(gone.host))


@given(st.lists(st.one_of(st.sampled_from(REQUESTS), st.integers(0, 20), st.sampled_from((OFFERS, OFFERS[1:])))))
def test_whatever_comes_and_goes_the_answer_is_that_of_judging_everything_anew(
    steps: list[HardwareRequest | int | tuple[Offer, ...]],
) -> None:
    held, offers = Held(), OFFERS
    for step in steps:
        if isinstance(step, HardwareRequest):
            held.take(step, offers)
        elif isinstance(step, int):
            held.release(step)
        else:
            offers = step


def test_only_the_machine_that_changed_is_judged_again() -> None:
    held = Held()
    held.take(REQUESTS[1])
    asked = held.asked
    held.take(REQUESTS[1])
    assert held.asked == asked + 1


def test_kinds_of_requests_that_nobody_asks_for_are_forgotten() -> None:
    held = Held()
    for vcpu in range(KINDS_MAX + 5):
        held.places.place(HardwareRequest(vcpu=1 + vcpu / 100), OFFERS, 1)
    assert len(held.places._kinds) == KINDS_MAX
