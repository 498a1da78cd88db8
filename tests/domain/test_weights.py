"""Do weights fit the cards that are asked for?"""

from __future__ import annotations

import pytest

from stoker.domain.weights import VideoMemory, WeightsSize

GIB = 2**30


@pytest.mark.parametrize(
    ("memory", "size", "fits"),
    [
        (VideoMemory(cards=1, card_gib=24), WeightsSize(total=24 * GIB), True),
        (VideoMemory(cards=1, card_gib=24), WeightsSize(total=24 * GIB + 1), False),
        (VideoMemory(cards=1, card_gib=24, share=0.9), WeightsSize(total=22 * GIB), False),
        (VideoMemory(cards=2, card_gib=24, share=0.9), WeightsSize(total=43 * GIB), True),
        (VideoMemory(cards=1, card_gib=24, halves=True), WeightsSize(total=40 * GIB, float32=40 * GIB), True),
        (VideoMemory(cards=1, card_gib=24, halves=True), WeightsSize(total=40 * GIB, float32=GIB), False),
    ],
)
def test_weights_fit_when_the_engines_share_of_all_cards_holds_them(
    memory: VideoMemory, size: WeightsSize, fits: bool
) -> None:
    assert (memory.lack(size) is None) == fits


def test_what_does_not_fit_is_said_in_numbers_with_what_would() -> None:
    memory = VideoMemory(cards=2, card_gib=24, share=0.9, otherwise="take a smaller one")
    lack = memory.lack(WeightsSize(total=int(131.4 * GIB)))
    assert lack == (
        "the weights take 131.4 GiB, and cannot fit 2 cards with 24 GiB, of which the engine uses 90 %: "
        "ask for vram_gib_min 73 each, or for more cards, or take a smaller one"
    )
    assert VideoMemory(cards=2, card_gib=73, share=0.9).lack(WeightsSize(total=int(131.4 * GIB))) is None
