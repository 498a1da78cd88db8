"""How long starts take: lognormal, drawn exactly as numpy's `default_rng(seed).lognormal` draws, so that results can be
compared with anybody's. A few thousand draws need no numpy. Called by the runs of a simulation alone.

SeedSequence, PCG64 (XSL-RR) and the 256-layer ziggurat for the normal distribution are those of numpy >= 1.17.
"""

from __future__ import annotations

import math
from typing import Final

_M32: Final = 0xFFFFFFFF
_M64: Final = 0xFFFFFFFFFFFFFFFF
_M128: Final = (1 << 128) - 1
_PCG_MULTIPLIER: Final = 0x2360ED051FC65DA44385DF649FCCF645
_POOL: Final = 4

_R: Final = 3.6541528853610088
_LAYERS: Final = 256
_TWO52: Final = float(1 << 52)


class StartTimes:
    """The k-th start of a run takes `self[k]` seconds, whatever the policy; the first has the number 0."""

    def __init__(self, median_s: float, sigma: float, seed: int) -> None:
        self._median_s, self._sigma = median_s, sigma
        self._drawn: list[float] = []
        self._normals = Normals(seed)

    def __getitem__(self, number: int) -> float:
        while len(self._drawn) <= number:
            mean = math.log(self._median_s) if self._median_s > 0 else -math.inf
            self._drawn.append(math.exp(mean + self._sigma * self._normals.draw()))
        return self._drawn[number]


class Normals:
    """The stream of `default_rng(seed).standard_normal()`."""

    def __init__(self, seed: int) -> None:
        words = _seed_words(seed)
        self._increment = ((words[2] << 64 | words[3]) << 1 | 1) & _M128
        self._state = (self._increment + (words[0] << 64 | words[1])) & _M128
        self._step()

    def _step(self) -> None:
        self._state = (self._state * _PCG_MULTIPLIER + self._increment) & _M128

    def _bits(self) -> int:
        self._step()
        state = self._state
        value, turn = (state >> 64 ^ state) & _M64, state >> 122
        return (value >> turn | value << (64 - turn)) & _M64

    def _uniform(self) -> float:
        return (self._bits() >> 11) * (1.0 / (1 << 53))

    def draw(self) -> float:
        """The next one."""
        while True:
            bits = self._bits()
            layer, sign, bits = bits & 0xFF, bits >> 8 & 1, bits >> 9 & 0x000FFFFFFFFFFFFF
            value = bits * _WIDTHS[layer]
            value = -value if sign else value
            if bits < _INSIDE[layer]:
                return value
            if layer == 0:
                return self._tail(negative=bool(bits >> 8 & 1))
            height = (_HEIGHTS[layer - 1] - _HEIGHTS[layer]) * self._uniform() + _HEIGHTS[layer]
            if height < math.exp(-0.5 * value * value):
                return value

    def _tail(self, *, negative: bool) -> float:
        while True:
            x = -math.log1p(-self._uniform()) / _R
            y = -math.log1p(-self._uniform())
            if y + y > x * x:
                return -(_R + x) if negative else _R + x


def _seed_words(seed: int) -> list[int]:
    """Four words of 64 bits, as `SeedSequence(seed).generate_state(4, uint64)`."""
    entropy = [seed & _M32]
    while seed := seed >> 32:
        entropy.append(seed & _M32)
    hashing = _Hashing(0x43B0D7E5, 0x931E8875)
    pool = [hashing(entropy[i] if i < len(entropy) else 0) for i in range(_POOL)]
    for source in range(_POOL):
        for target in range(_POOL):
            if source != target:
                pool[target] = _mixed(pool[target], hashing(pool[source]))
    for value in entropy[_POOL:]:
        for target in range(_POOL):
            pool[target] = _mixed(pool[target], hashing(value))
    output = _Hashing(0x8B51F9DD, 0x58F38DED)
    words = [output(pool[i % _POOL]) for i in range(8)]
    return [words[i] | words[i + 1] << 32 for i in range(0, 8, 2)]


class _Hashing:
    def __init__(self, constant: int, multiplier: int) -> None:
        self._constant, self._multiplier = constant, multiplier

    def __call__(self, value: int) -> int:
        value ^= self._constant
        self._constant = self._constant * self._multiplier & _M32
        value = value * self._constant & _M32
        return value ^ value >> 16


def _mixed(x: int, y: int) -> int:
    result = (0xCA01F9DD * x - 0x4973F715 * y) & _M32
    return result ^ result >> 16


def _tables() -> tuple[list[int], list[float], list[float]]:
    """Of each layer of the ziggurat: below which bits a point is inside, its width by bit, its height."""

    def density(x: float) -> float:
        return math.exp(-0.5 * x * x)

    area = _R * density(_R) + math.sqrt(math.pi / 2) * math.erfc(_R / math.sqrt(2))
    edges = [0.0] * (_LAYERS + 1)
    edges[_LAYERS], edges[_LAYERS - 1] = area / density(_R), _R
    for i in range(_LAYERS - 2, 0, -1):
        edges[i] = math.sqrt(-2 * math.log(area / edges[i + 1] + density(edges[i + 1])))
    inside, widths, heights = [0] * _LAYERS, [0.0] * _LAYERS, [0.0] * _LAYERS
    inside[0], widths[0], heights[0] = int(_R / edges[_LAYERS] * _TWO52), edges[_LAYERS] / _TWO52, 1.0
    for i in range(1, _LAYERS):
        inside[i] = int(edges[i - 1] / edges[i] * _TWO52) if i > 1 else 0
        widths[i], heights[i] = edges[i] / _TWO52, density(edges[i])
    return inside, widths, heights


_INSIDE, _WIDTHS, _HEIGHTS = _tables()
