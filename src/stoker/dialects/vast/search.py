"""What offers are asked for: the grammar of `search_params`, its parsed form, and the hardware that it means. Pure.

Terms are `field op value`, parted by spaces. What says nothing of hardware here (`verified`, `rentable`) is kept only.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from stoker.domain.errors import Invalid
from stoker.domain.gpus import family_of
from stoker.domain.hardware import HardwareRequest

CHARS_MAX = 1_500
TERMS_MAX = 64
# What clients send when nothing was asked for.
DEFAULT = {"verified": {"eq": True}, "rentable": {"eq": True}, "rented": {"eq": False}}

_OPS = {
    ">=": "gte",
    "<=": "lte",
    "!=": "neq",
    "==": "eq",
    ">": "gt",
    "<": "lt",
    "=": "eq",
    "not in": "notin",
    "not eq": "neq",
    "noteq": "neq",
    **{word: word for word in ("notin", "nin", "in", "neq", "eq", "gte", "gt", "lte", "lt")},
    "nin": "notin",
}
_WORDS = "not in|not eq|noteq|notin|nin|in|neq|eq|gte|gt|lte|lt"
_TERM = re.compile(
    r"\s*(?P<field>[A-Za-z_][A-Za-z0-9_]*)\s*"
    rf"(?P<op>>=|<=|!=|==|>|<|=|\s(?:{_WORDS})(?=[\s\[\"']))\s*"
    r"""(?P<value>\[[^\[\]]*\]|"[^"]*"|'[^']*'|[^\s\[\]"'=<>!][^\s\[\]"']*)(?=\s|$)""",
    re.ASCII,
)
_ALIASES = {"cuda_vers": "cuda_max_good", "dph": "dph_total", "display_active": "gpu_display_active"}
_ALIASES |= {"dlperf_usd": "dlperf_per_dphtotal", "flops_usd": "flops_per_dphtotal"}
# GB to MB, days to seconds.
_UNITS = {"gpu_ram": 1_000.0, "gpu_total_ram": 1_000.0, "cpu_ram": 1_000.0, "duration": 86_400.0}
_NUMBER = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d{1,3})?\Z")
_ANY = ("any", "?", "*")
Query = dict[str, dict[str, Any]]


def parsed(text: str, pointer: str = "/search_params") -> Query:
    """The form in which offers are filtered. Raises `Invalid`.

    >>> parsed("gpu_name=RTX_4090 gpu_ram>=23 verified=any")
    {'gpu_name': {'eq': 'RTX 4090'}, 'gpu_ram': {'gte': 23000.0}}
    """
    if len(text) > CHARS_MAX:
        raise Invalid.at(pointer, f"search_params has at most {CHARS_MAX} characters")
    query: Query = {}
    at, terms = 0, 0
    while text[at:].strip():
        found, terms = _TERM.match(text, at), terms + 1
        if found is None or terms > TERMS_MAX:
            raise Invalid.at(pointer, f"search_params cannot be read at {text[at:].strip()[:40]!r}")
        at = found.end()
        field = _ALIASES.get(found["field"], found["field"])
        if found["value"] in _ANY:
            query.pop(field, None)
        else:
            op = _OPS[found["op"].strip()]
            query.setdefault(field, {})[op] = _value(field, op, found["value"], pointer)
    return query


def _value(field: str, op: str, text: str, pointer: str) -> Any:
    if op in ("in", "notin"):
        inside = text[1:-1] if text.startswith("[") else text
        return [_scalar(field, each.strip(), pointer) for each in inside.split(",") if each.strip()]
    if text.startswith("["):
        raise Invalid.at(pointer, f"search_params has a list after {field} where one value belongs")
    return _scalar(field, text, pointer)


def _scalar(field: str, text: str, pointer: str) -> Any:
    if text[:1] in ("'", '"'):
        return text[1:-1].replace("_", " ")
    if text in ("None", "null"):
        return None
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    if _NUMBER.match(text):
        number = float(text) * _UNITS.get(field, 1.0)
        if not math.isfinite(number):
            raise Invalid.at(pointer, f"search_params has a number after {field} that is too large")
        return int(number) if number.is_integer() and field not in _UNITS and "." not in text else number
    return text.replace("_", " ")


def said(text: str | None) -> bool:
    """Does it ask for more than clients send when nothing was asked for? Raises `Invalid`."""
    return bool(text) and parsed(text or "") not in ({}, DEFAULT)


def hardware(query: Mapping[str, Any], *, gpu_ram_gb: float | None = None, regions: Iterable[str]) -> HardwareRequest:
    """What a worker needs to fit. `gpu_ram_gb` counts where it was said. Raises `Invalid`."""
    # Filters of templates may have a value where its operator belongs.
    query = {field: ops if isinstance(ops, Mapping) else {"eq": ops} for field, ops in query.items()}
    names = query.get("gpu_name", {})
    wanted = [names["eq"]] if "eq" in names else names.get("in", [])
    families = tuple(dict.fromkeys(family_of(str(name)) for name in wanted))
    count = _least(query.get("num_gpus", {}), whole=True)
    vram = max(_least(query.get("gpu_ram", {})) / 1_000.0, gpu_ram_gb or 0.0)
    place = query.get("geolocation", {}).get("eq")
    if count or families or vram:
        count = max(1, count)
    return HardwareRequest(
        gpu_family=families or None,
        gpu_count=int(count),
        vram_gib_min=vram or None,
        vcpu=_least(query.get("cpu_cores", {})) or None,
        ram_gib=_least(query.get("cpu_ram", {})) / 1_000.0 or None,
        disk_gib=_least(query.get("disk_space", {})) or None,
        region=place if place in tuple(regions) else None,
        price_max=_most(query.get("dph_total", {})),
    )


def _numbers(ops: Mapping[str, Any], names: tuple[str, ...]) -> list[float]:
    return [float(ops[n]) for n in names if isinstance(ops.get(n), int | float) and not isinstance(ops[n], bool)]


def _least(ops: Mapping[str, Any], *, whole: bool = False) -> float:
    low = max(_numbers(ops, ("eq", "gte", "gt")), default=0.0)
    # Of cards there are whole numbers.
    return low + 1 if whole and "gt" in ops and low == ops["gt"] else low


def _most(ops: Mapping[str, Any]) -> float | None:
    return min(_numbers(ops, ("eq", "lte", "lt")), default=0.0) or None


def with_disk(hardware: HardwareRequest, disk_gib: float) -> HardwareRequest:
    """With a disk of that size."""
    return replace(hardware, disk_gib=disk_gib)
