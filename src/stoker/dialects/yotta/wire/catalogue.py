"""Types of cards and what there is of them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from stoker.dialects.yotta.wire.base import Wire

Names = Annotated[list[Annotated[str, Field(max_length=64)]], Field(max_length=256)]
Gigabytes = Annotated[float, Field(ge=0, le=100_000, allow_inf_nan=False)]


class RegionOut(Wire):
    region: str
    region_name: str
    available: bool
    vm_type_id: int


class TypeOut(Wire):
    """A type of card, and where it is."""

    gpu_type: str
    regions: list[RegionOut]


class SearchIn(Wire):
    """What is looked for: offers of a single card (1) or of several (2). What is left out does not matter."""

    query_type: Literal[1, 2] = 2
    regions: Names | None = None
    gpu_types: Names | None = None
    min_single_card_vram_in_gb: Gigabytes | None = None
    max_single_card_vram_in_gb: Gigabytes | None = None
    min_single_card_ram_in_gb: Gigabytes | None = None
    max_single_card_ram_in_gb: Gigabytes | None = None


class OfferOut(Wire):
    """So many cards of a type on one machine of a region. `price` is for an hour, null without a price list."""

    gpu_type: str
    display_name: str
    single_card_vram_in_gb: float
    single_card_ram_in_gb: float
    single_card_vcpu: float
    gpu_count: int
    region: str
    regions: list[str]
    available: bool
    price: float | None
