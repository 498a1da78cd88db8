"""The families of cards, under one name each, however drivers and clouds spell them. Pure data and its look-up.

Everything that reads a card's name from outside calls `recognise`; everything that shows one to a cloud's clients calls
`spelled`. A family that is not in the table keeps its own name, squashed, so that a new card can be used at once.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache

from stoker.domain.errors import Invalid


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuFamily:
    """A kind of card. `vram_gib` has the sizes it is made with, in the vendor's numbers; `label` is its name in words;
    `aliases` are further names, in the form that `recognise` reduces a name to.
    """

    name: str
    label: str
    vram_gib: tuple[int, ...]
    aliases: tuple[str, ...] = ()
    vendor: str = "NVIDIA"


def _card(name: str, label: str, *vram_gib: int, also: str = "", vendor: str = "NVIDIA") -> GpuFamily:
    return GpuFamily(name=name, label=label, vram_gib=vram_gib, aliases=tuple(also.split()), vendor=vendor)


# Sizes as the vendors state them. What form a card has (SXM, PCIe, NVL) does not make another family of it.
FAMILIES: tuple[GpuFamily, ...] = (
    _card("gtx1080ti", "GTX 1080 Ti", 11),
    _card("rtx2080ti", "RTX 2080 Ti", 11, 22),
    _card("rtx3060", "RTX 3060", 8, 12),
    _card("rtx3070", "RTX 3070", 8),
    _card("rtx3080", "RTX 3080", 10, 12),
    _card("rtx3080ti", "RTX 3080 Ti", 12),
    _card("rtx3090", "RTX 3090", 24),
    _card("rtx3090ti", "RTX 3090 Ti", 24),
    _card("rtx4060ti", "RTX 4060 Ti", 8, 16),
    _card("rtx4070", "RTX 4070", 12),
    _card("rtx4070ti", "RTX 4070 Ti", 12),
    _card("rtx4070tisuper", "RTX 4070 Ti SUPER", 16, also="rtx4070stis"),
    _card("rtx4080", "RTX 4080", 16),
    _card("rtx4080super", "RTX 4080 SUPER", 16, also="rtx4080s"),
    _card("rtx4090", "RTX 4090", 24, 48),
    _card("rtx4090d", "RTX 4090 D", 24, 48),
    _card("rtx5070ti", "RTX 5070 Ti", 16),
    _card("rtx5080", "RTX 5080", 16),
    _card("rtx5090", "RTX 5090", 32),
    _card("a4000", "RTX A4000", 16),
    _card("a4500", "RTX A4500", 20),
    _card("a5000", "RTX A5000", 24),
    _card("a6000", "RTX A6000", 48),
    _card("rtx6000", "Quadro RTX 6000", 24),
    _card("rtx8000", "Quadro RTX 8000", 48),
    _card("rtx4000ada", "RTX 4000 Ada", 20),
    _card("rtx5000ada", "RTX 5000 Ada", 32),
    _card("rtx6000ada", "RTX 6000 Ada", 48),
    _card("rtxpro4000", "RTX PRO 4000", 24),
    _card("rtxpro5000", "RTX PRO 5000", 48, 72),
    _card("rtxpro6000", "RTX PRO 6000", 96, also="rtx6000pro rtxpro6000s rtxpro6000ws"),
    _card("p100", "P100", 12, 16),
    _card("v100", "V100", 16, 32, also="gpu2 v100s"),
    _card("t4", "T4", 16),
    _card("l4", "L4", 24),
    _card("l40", "L40", 48),
    _card("l40s", "L40S", 48),
    _card("a2", "A2", 16),
    _card("a10", "A10", 24, also="a10g"),
    _card("a16", "A16", 16),
    _card("a30", "A30", 24),
    _card("a40", "A40", 48, also="gpu3"),
    _card("a100", "A100", 40, 80),
    _card("a800", "A800", 40, 80),
    _card("h20", "H20", 96, 141),
    _card("h100", "H100", 80, 94),
    _card("h800", "H800", 80),
    _card("h200", "H200", 141),
    _card("gh200", "GH200", 96, 144),
    _card("b200", "B200", 180),
    _card("gb200", "GB200", 186),
    _card("b300", "B300", 262, 288),
    _card("mi210", "MI210", 64, vendor="AMD"),
    _card("mi250x", "MI250X", 128, vendor="AMD"),
    _card("mi300x", "MI300X", 192, vendor="AMD"),
    _card("mi325x", "MI325X", 256, vendor="AMD"),
    _card("trainium", "Trainium", 32, vendor="AWS"),
)
# A driver reports less than the vendor states: an H100 with 80 GB has 79.6 GiB, a T4 with error correction 15.
_REPORTED_LEAST = 0.92

_COUNT = re.compile(r"(\d{1,3})x(?=[a-z0-9]|\Z)")
_VRAM = re.compile(r"(\d{1,4})(?:g|gb|gib)\Z")
_SEPARATORS = re.compile(r"[^a-z0-9]+")
# Words that say whose a card is, or what form it has, and not what card it is.
_NOISE = re.compile(
    r"nvidia|amd|aws|tesla|quadro|geforce|instinct|radeon|gpus?|cards?|"
    r"pcie|pcle|sxm\d?|nvl|oam|ac|hbm\w*|generation|server|workstation|edition|blackwell|max|q"
)
_FORM = re.compile(r"(?:pcie|sxm\d?|nvl)\Z")
NAME_CHARS_MAX = 64
_NEAR_SHOWN = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """What a card's name says: `family` is the canonical name, or the name itself, squashed, when it is not `known`;
    `vram_gib` and `count` are `None` where it does not say.
    """

    family: str
    known: bool
    vram_gib: int | None = None
    count: int | None = None


@cache
def _index() -> Mapping[str, GpuFamily]:
    """By every name in reduced form: the family's own, its label's, its aliases, and without `rtx` or `gtx`."""
    found: dict[str, GpuFamily] = {}
    for family in FAMILIES:
        for name in (family.name, *family.aliases, _reduced(family.label)[0]):
            found[name] = family
    for family in FAMILIES:
        # "4090" is clear enough, unless another family is called so.
        short = family.name.removeprefix("rtx").removeprefix("gtx")
        found.setdefault(short, family)
    return found


def _reduced(text: str) -> tuple[str, int | None, int | None]:
    """What is left of a name without vendor, form, memory and number of cards; and the latter two."""
    count, vram = None, None
    left: list[str] = []
    words = _SEPARATORS.sub(" ", text[:256].lower()).split()
    for index, word in enumerate(words):
        if index == 0 and (found := _COUNT.match(word)):
            count, word = int(found[1]), word[found.end() :]
        if word in ("g", "gb", "gib") and left and left[-1].isdigit():
            word = left.pop() + word
        if found := _VRAM.match(word):
            vram = int(found[1])
        elif word and not _NOISE.fullmatch(word):
            left.append(word)
    return "".join(left), vram, count


def recognise(text: str) -> Named:
    """What a driver's, a cloud's or a user's spelling means. Never fails.

    >>> recognise("NVIDIA H100 80GB HBM3")
    Named(family='h100', known=True, vram_gib=80, count=None)
    >>> recognise("1xh100-80gb").count
    1
    """
    reduced, vram, count = _reduced(text)
    forms = (reduced, reduced.removeprefix("gpu"), _FORM.sub("", reduced), _FORM.sub("", reduced.removeprefix("gpu")))
    family = next((_index()[form] for form in forms if form in _index()), None)
    name = reduced[:NAME_CHARS_MAX] if family is None else family.name
    return Named(family=name, known=family is not None, vram_gib=vram, count=count)


def family_of(text: str) -> str:
    """The canonical family of a spelling; one that is not in the table, squashed.

    >>> family_of("NVIDIA GeForce RTX 4090")
    'rtx4090'
    """
    return recognise(text).family


def find(name: str) -> GpuFamily | None:
    """The family of that canonical name."""
    found = _index().get(name)
    return found if found is not None and found.name == name else None


def check_family(name: str, pointer: str, *, also: Iterable[str] = ()) -> None:
    """`name` must be in the table, or among `also`. Raises `Invalid` at `pointer` with those that come near."""
    others = sorted(set(also))
    if find(name) is not None or name in others:
        return
    canonical = {family.name: family.name for family in FAMILIES} | {each: each for each in others}
    spellings = canonical | {key: family.name for key, family in _index().items()}
    near = difflib.get_close_matches(name, spellings, n=12, cutoff=0.6)
    shown = list(dict.fromkeys(spellings[key] for key in near))[:_NEAR_SHOWN]
    hint = f"; did you mean {' or '.join(shown)}?" if shown else "; `stoker hardware` shows the families there are"
    raise Invalid.at(pointer, f"no GPU family {name[:NAME_CHARS_MAX]!r}{hint}")


def stated_gib(family: str, measured_gib: float) -> float:
    """The memory that the vendor states for a card whose driver reports `measured_gib`; that, when nothing comes near.

    >>> stated_gib("h100", 79.6)
    80
    """
    known = find(family)
    sizes = () if known is None else known.vram_gib
    return next((size for size in sizes if size * _REPORTED_LEAST <= measured_gib <= size + 0.5), measured_gib)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spelling:
    """How a cloud writes a card: a template of {vendor}, {label}, {label_} (with underscores), {name}, {short} (without
    rtx), {vram} and {count}, and the families that it calls otherwise.
    """

    template: str
    exceptions: Mapping[str, str]


SPELLINGS: Mapping[str, Spelling] = {
    "exoscale": Spelling(template="gpu{short}", exceptions={"rtxpro6000": "gpurtx6000pro", "a40": "gpu3"}),
    "gcore": Spelling(template="{count}x{name}-{vram}gb", exceptions={}),
    "novita": Spelling(template="{label} {vram}GB", exceptions={}),
    "vast": Spelling(template="{label}", exceptions={}),
    "yotta": Spelling(template="{vendor}_{label_}_{vram}G", exceptions={}),
}


def spelled(family: str, cloud: str, *, vram_gib: float, count: int = 1) -> str:
    """How `cloud` writes `count` cards of this family with so much memory each. Raises `KeyError` for another cloud.

    >>> spelled("rtx4090", "yotta", vram_gib=24)
    'NVIDIA_RTX_4090_24G'
    """
    style = SPELLINGS[cloud]
    if family in style.exceptions:
        return style.exceptions[family]
    known = find(family)
    label = family if known is None else known.label
    return style.template.format(
        vendor="NVIDIA" if known is None else known.vendor,
        label=label,
        label_=label.replace(" ", "_"),
        name=family,
        short=family.removeprefix("rtx"),
        vram=round(stated_gib(family, vram_gib)),
        count=count,
    )
