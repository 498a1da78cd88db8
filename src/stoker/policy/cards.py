"""How much memory the cards have that a request asks for. Pure; called where an endpoint's launch is resolved."""

from __future__ import annotations

from collections.abc import Iterable

from stoker.domain.gpus import find
from stoker.domain.hardware import HardwareRequest, Offer


def card_gib(request: HardwareRequest, offers: Iterable[Offer]) -> float | None:
    """The memory of each card, in GiB as vendors state it: the least that the request leaves open where it says how
    much, else the most that suiting cards have. `None` without cards, or where nobody knows of any.
    """
    if not request.gpu_count:
        return None
    made = {float(size) for name in request.families if (family := find(name)) is not None for size in family.vram_gib}
    there = {gpu.stated_gib for offer in offers for gpu in offer.gpus if request.suits(gpu)}
    if request.vram_gib_min is None:
        return max(made | there, default=None)
    enough = [size for size in (made | there if request.families else ()) if size >= request.vram_gib_min]
    return min(enough, default=request.vram_gib_min)
