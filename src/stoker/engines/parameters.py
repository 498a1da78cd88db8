"""Check the parameters that a user gives to an engine's server against the table of what that server takes.

Engines call `check`. It says what `argparse` in the worker would say, before anything is started, and more helpfully.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from stoker.domain.errors import Invalid
from stoker.engines.base import Parameter

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\Z")
_WHOLE = re.compile(r"[+-]?\d+\Z")
_SCALED = re.compile(r"(\d+(?:\.\d+)?)([kKmMgGtT])\Z")
# As vLLM reads them: lower case counts in thousands, upper case in 1024s.
_SCALES = {"k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_DIGITS_MAX = 18


@dataclass(frozen=True, slots=True)
class Given:
    """One parameter as it was given: at which place, by which flag, and with which values (none for a boolean)."""

    index: int
    flag: str
    parameter: Parameter
    values: tuple[str, ...]
    arguments: tuple[str, ...]

    @property
    def value(self) -> str:
        """The only value of a parameter that takes one."""
        return self.values[0]

    @property
    def on(self) -> bool:
        """For a boolean: was it switched on?"""
        return self.flag != f"--no-{self.parameter.name}"


def pointer(index: int) -> str:
    """Where the parameter at `index` stands in an endpoint's spec."""
    return f"/launch/parameters/{index}"


def check(
    arguments: Sequence[str],
    tables: Sequence[Sequence[Parameter]],
    *,
    engine: str,
    owned: Mapping[str, str],
    scaled: frozenset[str] = frozenset(),
) -> tuple[Given, ...]:
    """What the arguments mean. A flag is looked up in the tables in turn.

    `owned` has the reason by the name of every parameter that is not the user's to set; whole numbers named in `scaled`
    may be written as 4k or 4K. Raises `Invalid` at the argument that is wrong.
    """
    flags: dict[str, Parameter] = {}
    for table in tables:
        for parameter in table:
            for flag in parameter.flags:
                flags.setdefault(flag, parameter)
    return tuple(_each(arguments, flags, engine=engine, owned=owned, scaled=scaled))


def whole(text: str) -> int | None:
    """The whole number in `text`, 4k or 4K included; `None` when it is none."""
    if _WHOLE.match(text) and len(text) <= _DIGITS_MAX:
        return int(text)
    if (match := _SCALED.match(text)) and len(text) <= _DIGITS_MAX:
        return int(float(match[1]) * _SCALES[match[2]])
    return None


def last(given: Sequence[Given], name: str) -> Given | None:
    """The parameter of that name that counts: the last one, as in `argparse`."""
    return next((item for item in reversed(given) if item.parameter.name == name), None)


def _each(
    arguments: Sequence[str],
    flags: Mapping[str, Parameter],
    *,
    engine: str,
    owned: Mapping[str, str],
    scaled: frozenset[str],
) -> Iterator[Given]:
    index = 0
    while index < len(arguments):
        flag, attached, parameter = _flag(arguments[index], index, flags, engine)
        if parameter.name in owned:
            raise Invalid.at(pointer(index), f"{flag} is not yours to set: {owned[parameter.name]}")
        following = _values(arguments, index + 1, parameter) if attached is None else ()
        values = following if attached is None else (attached,)
        _check_count(flag, values, parameter, index)
        for value in values:
            _check_value(flag, value, parameter, index, scaled=parameter.name in scaled)
        until = index + 1 + len(following)
        yield Given(index, flag, parameter, values, tuple(arguments[index:until]))
        index = until


def _flag(text: str, index: int, flags: Mapping[str, Parameter], engine: str) -> tuple[str, str | None, Parameter]:
    """The flag in canonical spelling, the value attached to it by `=`, and its parameter."""
    if not _is_flag(text):
        raise Invalid.at(pointer(index), f"{_short(text)} belongs to no parameter; a parameter starts with --")
    name, equals, value = text.partition("=")
    attached = value if equals else None
    # argparse in vLLM takes --max_model_len for --max-model-len.
    name = name.replace("_", "-") if name.startswith("--") else name
    if name in flags:
        return name, attached, flags[name]
    # A JSON parameter takes single entries, as in --speculative-config.method ngram.
    whole_name = name.partition(".")[0]
    if "." in name and whole_name in flags and flags[whole_name].type == "json":
        return name, attached, flags[whole_name]
    raise Invalid.at(pointer(index), _unknown(name, flags, engine))


def _unknown(name: str, flags: Mapping[str, Parameter], engine: str) -> str:
    first = name.split()[0] if name.split() else name
    if first != name and first in flags:
        return f"{_short(name)} is one text; give the flag {first} and its value as two"
    near = difflib.get_close_matches(first, flags, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]}?" if near else ""
    return f"{engine} has no parameter {_short(name)}{hint}"


def _values(arguments: Sequence[str], start: int, parameter: Parameter) -> tuple[str, ...]:
    """The values that stand after a flag, as many as it takes."""
    if parameter.type == "boolean":
        return ()
    following: list[str] = []
    limit = len(arguments) if parameter.nargs == "+" else start + 1
    for text in arguments[start:limit]:
        if _is_flag(text):
            break
        following.append(text)
    return tuple(following)


def _is_flag(text: str) -> bool:
    return len(text) > 1 and text.startswith("-") and not _NUMBER.match(text)


def _check_count(flag: str, values: tuple[str, ...], parameter: Parameter, index: int) -> None:
    if parameter.type == "boolean":
        if values:
            raise Invalid.at(pointer(index), f"{flag} takes no value; {_negation(parameter)}")
    elif not values and parameter.nargs != "?":
        raise Invalid.at(pointer(index), f"{flag} needs a value ({_expected(parameter)})")


def _negation(parameter: Parameter) -> str:
    negative = next((flag for flag in parameter.flags if flag.startswith("--no-")), None)
    return f"{negative} switches it off" if negative else "leave it out to switch it off"


def _check_value(flag: str, value: str, parameter: Parameter, index: int, *, scaled: bool) -> None:
    match parameter.type:
        case "integer":
            good = whole(value) is not None if scaled else bool(_WHOLE.match(value)) and len(value) <= _DIGITS_MAX
        case "number":
            good = bool(_NUMBER.match(value))
        case "json":
            good = "." in flag or _is_json(value)
        case "enum":
            good = not parameter.closed or value in parameter.allowed
        case _:
            good = True
    if not good:
        raise Invalid.at(pointer(index), f"{flag} cannot be {_short(value)}: expected {_expected(parameter)}")


def _is_json(value: str) -> bool:
    # Some of vLLM's JSON parameters also take a plain word (a path, a class name); what starts like JSON must be JSON.
    if value.lstrip()[:1] not in ("{", "["):
        return True
    try:
        json.loads(value)
    except (ValueError, RecursionError):
        return False
    return True


def _expected(parameter: Parameter) -> str:
    match parameter.type:
        case "integer":
            return "a whole number"
        case "number":
            return "a number"
        case "json":
            return "JSON"
        case "enum" if parameter.closed:
            return "one of " + ", ".join(parameter.allowed)
        case _:
            return "a text"


def _short(text: str) -> str:
    return repr(text if len(text) <= 64 else text[:61] + "...")
