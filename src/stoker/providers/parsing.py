"""What options of providers in the settings are made of. Every parser raises `TypeError` or `ValueError` with what was
expected; `read` says of which option. Pure; for providers that have many.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from stoker.domain.errors import Invalid
from stoker.domain.hardware import PortRange

Parser = Callable[[object], Any]


def read(given: Mapping[str, object], parsers: Mapping[str, Parser], *, provider: str) -> dict[str, Any]:
    """The options by name. Raises `Invalid` naming one that is not known or cannot be; one of those for a cache of
    models is nothing without the other.
    """
    unknown = sorted(set(given) - set(parsers))
    if unknown:
        raise Invalid(f"the {provider} provider has no option {unknown[0]!r}; there are {', '.join(sorted(parsers))}")
    values: dict[str, Any] = {}
    for name, value in given.items():
        try:
            values[name] = parsers[name](value)
        except (TypeError, ValueError) as exc:
            raise Invalid(
                f"the option {name} of the {provider} provider cannot be {str(value)[:100]!r}: {exc}"
            ) from exc
    if ("models" in values) is not ("models_image" in values):
        raise Invalid(
            f"the options models and models_image of the {provider} provider belong together: give both or none"
        )
    return values


def text(value: object) -> str:
    """A text that is not empty."""
    if not isinstance(value, str) or not value:
        raise TypeError("expected text")
    return value


def switch(value: object) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise TypeError("expected true or false")
    return value


def items(value: object) -> list[object]:
    """A list of anything."""
    if not isinstance(value, list | tuple):
        raise TypeError("expected a list")
    return list(value)


def ports(value: object) -> PortRange:
    """FIRST-LAST."""
    if isinstance(value, PortRange):
        return value
    first, _, last = str(value).partition("-")
    if first.isdecimal() and last.isdecimal() and 1 <= int(first) <= int(last) <= 65_535:
        return PortRange(int(first), int(last))
    raise ValueError("expected FIRST-LAST within 1-65535")


def capabilities(value: object) -> tuple[str, ...]:
    """Names of Linux capabilities, as runtimes of containers want them."""
    return tuple(text(name).upper().removeprefix("CAP_") for name in items(value))


def images(value: object) -> Mapping[str, str]:
    """An image for each engine."""
    if not isinstance(value, Mapping):
        raise TypeError("expected an image for each engine, as in {vllm: 'vllm/vllm-openai:v{version}'}")
    return {text(name): text(image) for name, image in value.items()}


def cards(value: object, *, most: int) -> Mapping[str, int]:
    """Families of cards and how many of each, `most` at most."""
    if not isinstance(value, Mapping):
        raise TypeError("expected families and how many cards of each, as in {h100: 8}")
    return {text(family): whole(1, most)(count) for family, count in value.items()}


def whole(low: int, high: int) -> Callable[[object], int]:
    """A whole number within these bounds."""

    def parse(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise ValueError(f"expected a whole number between {low} and {high}")
        return value

    return parse


def number(low: float, high: float) -> Callable[[object], float]:
    """A number within these bounds."""

    def parse(value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise ValueError(f"expected a number between {low:g} and {high:g}")
        return float(value)

    return parse
