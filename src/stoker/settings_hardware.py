"""What the settings say about hardware, images and providers: from YAML to the domain's. Called by `stoker.settings`.

Every function raises `TypeError` or `ValueError` with what was expected.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from stoker.domain.errors import Invalid
from stoker.domain.gpus import NAME_CHARS_MAX, check_family, recognise
from stoker.domain.hardware import Prices, VirtualGpus
from stoker.domain.images import ImageRule

ENTRIES_MAX = 256
NUMBER_MAX = 2_147_483_647
PRICE_MAX = 100_000.0
_CURRENCY = re.compile(r"[A-Z]{3}\Z")
_PROVIDER = re.compile(r"[a-z][a-z0-9_]{0,31}")
_REGION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._ -]{0,63}\Z")
_SHORT = re.compile(r"([^:]+?)(?::(\d{1,2}))?(?::(\d{1,4}(?:\.\d{1,2})?))?\Z")


def virtual_gpus(value: object) -> tuple[VirtualGpus, ...]:
    """A list of mappings, or of texts as in `a5000:4:24`."""
    if not isinstance(value, list | tuple):
        raise TypeError("expected a list, as in [a5000:4:24] or [{family: a5000, count: 4}]")
    if len(value) > ENTRIES_MAX:
        raise ValueError(f"at most {ENTRIES_MAX} entries")
    return tuple(each if isinstance(each, VirtualGpus) else _virtual(each) for each in value)


def _virtual(value: object) -> VirtualGpus:
    if isinstance(value, str):
        return virtual_gpu(value)
    if not isinstance(value, Mapping) or not isinstance(value.get("family"), str):
        raise TypeError("an entry is FAMILY:COUNT:GIB, or a mapping with family")
    _only(value, "family", "count", "vram_gib", "vcpu", "ram_gib", "disk_gib", "region")
    amounts = ("vcpu", "ram_gib", "vram_gib", "disk_gib")
    more: dict[str, Any] = {name: _number(name, value[name]) for name in amounts if value.get(name) is not None}
    if "count" in value:
        more["count"] = _whole("count", value["count"])
    if "region" in value:
        more["region"] = _region(value["region"])
    return _checked(value["family"], more)


def virtual_gpu(text: str) -> VirtualGpus:
    """FAMILY, FAMILY:COUNT or FAMILY:COUNT:GIB."""
    found = _SHORT.match(text)
    if found is None:
        raise ValueError(f"expected FAMILY:COUNT:GIB, as in a5000:4:24, not {text[:64]!r}")
    family, count, vram = found.groups()
    more: dict[str, Any] = {"count": int(count)} if count else {}
    if vram:
        more["vram_gib"] = float(vram)
    return _checked(family, more)


def _checked(name: str, fields: dict[str, Any]) -> VirtualGpus:
    named = recognise(name)
    if named.vram_gib is not None:
        fields.setdefault("vram_gib", float(named.vram_gib))
    try:
        if "vram_gib" not in fields:
            check_family(named.family, "/family")
        elif not named.family:
            raise ValueError(f"{name[:64]!r} is no name of a card")
        return VirtualGpus(family=named.family, **fields)
    except Invalid as exc:
        raise ValueError(str(exc)) from exc


def regions(value: object) -> Mapping[str, int]:
    """Names with numbers, as in {local: 1}."""
    if not isinstance(value, Mapping) or not value:
        raise TypeError("expected names with numbers, as in {local: 1}")
    found = {_region(name): _whole(str(name), number) for name, number in value.items()}
    if len(found) > ENTRIES_MAX:
        raise ValueError(f"at most {ENTRIES_MAX} regions")
    if any(not 1 <= number <= NUMBER_MAX for number in found.values()) or len(set(found.values())) < len(found):
        raise ValueError(f"expected a number of its own for each region, between 1 and {NUMBER_MAX}")
    return found


def _region(value: object) -> str:
    if not isinstance(value, str) or not _REGION.match(value):
        raise ValueError(f"a region's name has up to {NAME_CHARS_MAX} letters, digits, dots, dashes and spaces")
    return value


def prices(value: object) -> Prices:
    """What an hour costs: {h100: 2.5, cpu: 0.05, vcpu: 0.02, ram_gib: 0.005, currency: USD}."""
    if isinstance(value, Prices):
        return value
    if not isinstance(value, Mapping):
        raise TypeError("expected a mapping of families of cards, cpu, vcpu or ram_gib to prices per hour")
    currency = value.get("currency", "USD")
    if not isinstance(currency, str) or not _CURRENCY.match(currency):
        raise ValueError("a currency has three capitals, as in USD")
    others = {name: _price(name, value[name]) for name in ("cpu", "vcpu", "ram_gib") if name in value}
    cards = {name: price for name, price in value.items() if name != "currency" and name not in others}
    return Prices(
        currency=currency, gpus={_family(name): _price(str(name), price) for name, price in cards.items()}, **others
    )


def _family(name: object) -> str:
    family = recognise(str(name)).family
    try:
        check_family(family, "")
    except Invalid as exc:
        raise ValueError(str(exc)) from exc
    return family


def _price(name: str, value: object) -> float:
    price = _number(name, value)
    if not 0 <= price <= PRICE_MAX:
        raise ValueError(f"the price of {name[:64]} must be between 0 and {PRICE_MAX:g}")
    return price


def images(value: object) -> tuple[ImageRule, ...]:
    """What runs instead of images: {"nginx:*": {command: [...]}, "vllm/*": {model: smollm2, parameters: [...]}}."""
    if isinstance(value, tuple) and all(isinstance(each, ImageRule) for each in value):
        return value
    if not isinstance(value, Mapping):
        raise TypeError('expected patterns, as in {"nginx:*": {command: [...]}}')
    if len(value) > ENTRIES_MAX:
        raise ValueError(f"at most {ENTRIES_MAX} patterns")
    return tuple(_rule(str(pattern), rule) for pattern, rule in value.items())


def _rule(pattern: str, value: object) -> ImageRule:
    if not isinstance(value, Mapping):
        raise TypeError(f"{pattern[:64]} needs a model or a command")
    _only(value, "model", "parameters", "command")
    model = value.get("model")
    if model is not None and not isinstance(model, str):
        raise TypeError(f"the model of {pattern[:64]} is a name")
    try:
        return ImageRule(
            pattern=pattern,
            model=model,
            parameters=_arguments("parameters", value.get("parameters", ())),
            command=_arguments("command", value.get("command", ())),
        )
    except Invalid as exc:
        raise ValueError(str(exc)) from exc


def _arguments(name: str, value: object) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or not all(isinstance(each, str) for each in value):
        raise TypeError(f"{name} is a list of texts")
    return tuple(value)


def _only(value: Mapping[Any, object], *names: str) -> None:
    for name in value:
        if name not in names:
            raise ValueError(f"there is no {str(name)[:64]!r} here, only {', '.join(names)}")


def _whole(name: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name[:64]} must be a whole number")
    return value


def _number(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name[:64]} must be a number")
    return float(value)


# Options that every provider has, which are not its own.
OF_ALL_KINDS = ("type", "prices")


def kind_of(name: str, options: Mapping[str, object]) -> str:
    """What kind of provider that is: several of one kind have names of their own."""
    return str(options.get("type", name))


def providers(value: object) -> Mapping[str, Mapping[str, object]]:
    """A list of names, or a mapping of names to options. What options there are beside those of all, each knows."""
    if isinstance(value, list | tuple):
        value = dict.fromkeys(value)
    if not isinstance(value, Mapping):
        raise TypeError("expected names of providers, as in [process, docker], or their options by name")
    found: dict[str, Mapping[str, object]] = {}
    for name, options in value.items():
        if not isinstance(name, str) or not _PROVIDER.fullmatch(name):
            raise ValueError(f"{str(name)[:64]!r} cannot be the name of a provider")
        if not isinstance(options, Mapping | None):
            raise TypeError(f"expected the options of {name} as a mapping")
        found[name] = {str(key): option for key, option in (options or {}).items()}
        kind = kind_of(name, found[name])
        if not _PROVIDER.fullmatch(kind) or (kind == "process" and name != "process"):
            raise ValueError(f"{name} cannot be a {kind[:64]!r}: the one process provider is called process")
        if "prices" in found[name]:
            prices(found[name]["prices"])
    if not found:
        raise ValueError("expected one provider at least")
    return found
