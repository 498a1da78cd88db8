"""One bound on the memory that requests hold before a worker takes them, over all connections. Pure."""

from __future__ import annotations


class Budget:
    """So many bytes for all; whoever takes gives back. Nothing waits for it: what does not fit is refused."""

    __slots__ = ("bytes_max", "used")

    def __init__(self, bytes_max: int) -> None:
        self.bytes_max = bytes_max
        self.used = 0

    def take(self, count: int) -> bool:
        """Take `count` bytes more; False when they are not there, and nothing is taken."""
        if self.used + count > self.bytes_max:
            return False
        self.used += count
        return True

    def give_back(self, count: int) -> None:
        """They are not held any more."""
        self.used -= count


class Share:
    """What one request holds of the budget."""

    __slots__ = ("_budget", "held")

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self.held = 0

    def hold(self, count: int) -> bool:
        """Hold so many bytes in all; False when that is more than there is left, and what was held stays so."""
        more = count - self.held
        if more > 0 and not self._budget.take(more):
            return False
        if more < 0:
            self._budget.give_back(-more)
        self.held = count
        return True

    def let_go(self) -> None:
        """Hold nothing. Harmless when repeated."""
        if self.held:
            self._budget.give_back(self.held)
            self.held = 0
