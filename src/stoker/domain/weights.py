"""How large weights are, and what cards have for them. Pure data."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightsSize:
    """Bytes that weights take as they are kept, and those of them that are numbers of 32 bits."""

    total: int
    float32: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoMemory:
    """What the cards of one worker have for weights: `cards` of them, each with `card_gib`, of which the engine uses
    the `share`. `halves`: it loads numbers of 32 bits as 16. `otherwise` is what helps beside larger cards.
    """

    cards: int
    card_gib: float
    share: float = 1.0
    halves: bool = False
    otherwise: str = ""

    def lack(self, size: WeightsSize) -> str | None:
        """Why the weights cannot fit, in numbers; `None` when they can."""
        needed_gib = (size.total - (size.float32 / 2 if self.halves else 0)) / 2**30
        there_gib = self.cards * self.card_gib * self.share
        if needed_gib <= there_gib:
            return None
        of = "a card" if self.cards == 1 else f"{self.cards} cards"
        share = "" if self.share == 1.0 else f", of which the engine uses {self.share * 100:g} %"
        per_card_gib = math.ceil(needed_gib / self.cards / self.share)
        return (
            f"the weights take {needed_gib:.1f} GiB, and cannot fit {of} with {self.card_gib:g} GiB{share}: "
            f"ask for vram_gib_min {per_card_gib}{' each' if self.cards > 1 else ''}, or for more cards"
            f"{f', or {self.otherwise}' if self.otherwise else ''}"
        )
