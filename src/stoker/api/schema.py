"""The JSON Schema of the endpoint document: the shape of the wire types, and what the domain refuses of single values
and of fields that stand together. For editors and generators; the API goes on refusing with its own sentences. Pure.

What no schema can say (two pools of one name, `min` above `max`) is told by the API alone.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from copy import deepcopy
from typing import Any

from stoker.api.wire.spec import SpecIn
from stoker.domain.endpoint import LABELS_MAX, NAME_CHARS_MAX, WORKERS_MAX
from stoker.domain.gpus import NAME_CHARS_MAX as HARDWARE_CHARS_MAX
from stoker.domain.hardware import FAMILIES_MAX, GPUS_MAX
from stoker.domain.launch import ENV_ENTRIES_MAX, ENV_VALUE_CHARS_MAX, PORTS_MAX
from stoker.domain.limits import ARGUMENT_CHARS_MAX, ARGUMENTS_MAX
from stoker.domain.logging import BYTES_MAX, RETENTION_S_MAX
from stoker.domain.volumes import MOUNTS_MAX

DIALECT = "https://json-schema.org/draft/2020-12/schema"
MEDIA_TYPE = "application/schema+json"

_Words = dict[str, Any]


def _between(low: float, high: float) -> _Words:
    return {"minimum": low, "maximum": high}


_SIZE: _Words = {"exclusiveMinimum": 0, "maximum": 100_000}
_PORT = _between(1, 65_535)
_ARGUMENTS: _Words = {
    "maxItems": ARGUMENTS_MAX,
    "items": {"type": "string", "maxLength": ARGUMENT_CHARS_MAX, "pattern": "^[^\\u0000]*$"},
}
_TEXTS: _Words = {
    "maxProperties": LABELS_MAX,
    "propertyNames": {"maxLength": 255},
    "additionalProperties": {"type": "string", "maxLength": 4_096},
}
_FAMILY: _Words = {"type": "string", "minLength": 1, "maxLength": HARDWARE_CHARS_MAX}
_SAID: _Words = {"type": "string"}

# What is said of a field beyond its type, by the definition's name.
_FIELDS: Mapping[str, Mapping[str, _Words]] = {
    "SpecIn": {
        "name": {"minLength": 1, "maxLength": NAME_CHARS_MAX, "pattern": "\\S"},
        "slots": _between(1, 100_000),
        "labels": _TEXTS,
        "annotations": _TEXTS,
        "volumes": {"maxItems": MOUNTS_MAX},
    },
    "LaunchIn": {
        "parameters": _ARGUMENTS,
        "command": _ARGUMENTS,
        "port": _PORT,
        "ports": {"maxItems": PORTS_MAX - 1, "uniqueItems": True, "items": {"type": "integer", **_PORT}},
        "env": {
            "maxProperties": ENV_ENTRIES_MAX,
            "propertyNames": {"pattern": "^[A-Za-z_][A-Za-z0-9_]*$"},
            "additionalProperties": {
                "anyOf": [
                    {"type": "string", "maxLength": ENV_VALUE_CHARS_MAX, "pattern": "^[^\\u0000]*$"},
                    {"$ref": "#/$defs/SecretRefIn"},
                ]
            },
        },
    },
    "Pool": {"name": {"pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$"}},
    "Bounds": {name: _between(0, WORKERS_MAX) for name in ("min", "max", "cold")},
    "Hardware": {
        "gpu_count": _between(0, GPUS_MAX),
        "gpu_family": {
            "anyOf": [_FAMILY, {"type": "array", "maxItems": FAMILIES_MAX, "items": _FAMILY}, {"type": "null"}]
        },
        **dict.fromkeys(
            ("vram_gib_min", "vcpu", "ram_gib", "vcpu_per_gpu", "ram_gib_per_gpu", "disk_gib", "price_max"), _SIZE
        ),
    },
    "ProbeIn": {
        "path": {"maxLength": 1_024, "pattern": "^/\\S*$"},
        "command": _ARGUMENTS,
        "initial_delay_s": _between(0, 3_600),
        "period_s": _between(0.1, 3_600),
        "timeout_s": _between(0.1, 300),
        "failures_max": _between(1, 100),
        "successes_min": _between(1, 100),
        "start_timeout_s": _between(1, 86_400),
    },
    "AutoIn": {"late_cost": _between(0, 1e6), "wait_target_s": _between(0.1, 3_600), "cold_cost": _between(0, 1)},
    "Scaling": {
        "target": _between(0.01, 100_000),
        "scale_down_delay_s": _between(0, 86_400),
        "idle_timeout_s": _between(0, 604_800),
    },
    "SqsIn": {
        "endpoint": {"pattern": "^https?://", "maxLength": 1_024},
        "messages": _between(1, 2**53),
        "activation": _between(1, 2**53),
        "every_s": _between(5, 3_600),
    },
    "TimeoutsIn": {name: _between(0.1, 604_800) for name in ("connect_s", "first_byte_s", "idle_s", "total_s")},
    "Waiting": {"requests_max": _between(0, 100_000), "wait_s_max": _between(0, 86_400)},
    "RoutingIn": {"session_idle_s": _between(1, 604_800)},
    "RolloutIn": {
        "surge": _between(1, WORKERS_MAX),
        "drain_timeout_s": _between(0, 86_400),
        "grace_s": _between(0, 600),
    },
    "LoggingIn": {"retention_s": _between(0, RETENTION_S_MAX), "bytes_max": _between(0, BYTES_MAX)},
    "VolumeMountIn": {
        "volume": {"pattern": "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"},
        "path": {"maxLength": 1_024, "pattern": "^/."},
    },
}


def _has(name: str, value: _Words) -> _Words:
    return {"required": [name], "properties": {name: value}}


_COMMANDED = _has("command", {"type": "array", "minItems": 1})
# What holds of several fields of one object together.
_RULES: Mapping[str, tuple[_Words, ...]] = {
    "LaunchIn": (
        {"anyOf": [_has("model", _SAID), _has("image", _SAID), _COMMANDED]},
        {"not": {"allOf": [_has("model", _SAID), {"anyOf": [_has("image", _SAID), _COMMANDED]}]}},
        {"if": _has("parameters", {"type": "array", "minItems": 1}), "then": _has("model", _SAID)},
        {"if": _has("credential", _SAID), "then": _has("image", _SAID)},
        {"if": _has("ports", {"type": "array", "minItems": 1}), "then": _has("port", {"type": "integer"})},
    ),
    "Hardware": tuple(
        {"not": {"allOf": [_has(name, {"type": "number"}), _has(f"{name}_per_gpu", {"type": "number"})]}}
        for name in ("vcpu", "ram_gib")
    ),
}


def document() -> dict[str, Any]:
    """The schema. A document that names a template is a patch of it (RFC 7396): nothing is required there, and null
    takes a field out.
    """
    shape = SpecIn.model_json_schema()
    definitions: dict[str, Any] = shape.pop("$defs")
    definitions["SpecIn"] = shape
    for name, definition in definitions.items():
        _add(name, definition)
    objects = frozenset(name for name, definition in definitions.items() if "properties" in definition)
    patches = {f"{name}Patch": _patch(definitions[name], objects) for name in sorted(objects)}
    return {
        "$schema": DIALECT,
        "title": "Stoker endpoint",
        "description": "What `stoker apply` reads and the API takes.",
        "if": _has("template", _SAID),
        "then": {"$ref": "#/$defs/SpecInPatch"},
        "else": {"$ref": "#/$defs/SpecIn"},
        "$defs": definitions | patches,
    }


def _add(name: str, definition: dict[str, Any]) -> None:
    for field, words in _FIELDS.get(name, {}).items():
        definition["properties"][field] |= deepcopy(words)
    if name in _RULES:
        definition["allOf"] = deepcopy(list(_RULES[name]))


def _patch(definition: Mapping[str, Any], objects: Collection[str]) -> dict[str, Any]:
    kept = {key: deepcopy(value) for key, value in definition.items() if key not in ("required", "allOf")}
    kept["properties"] = {name: _or_null(value, objects) for name, value in kept["properties"].items()}
    return kept


def _or_null(value: dict[str, Any], objects: Collection[str]) -> dict[str, Any]:
    # Defaults are those of a whole document; here, what is left out is the template's.
    told: _Words = {key: value.pop(key) for key in ("description", "title") if key in value}
    value.pop("default", None)
    within = value.get("additionalProperties")
    if isinstance(within, dict):
        value["additionalProperties"] = {"anyOf": [within, {"type": "null"}]}
    options = (
        [_patched(each, objects) for each in value["anyOf"]] if set(value) == {"anyOf"} else [_patched(value, objects)]
    )
    return {**told, "anyOf": [*options, *([] if {"type": "null"} in options else [{"type": "null"}])]}


def _patched(value: dict[str, Any], objects: Collection[str]) -> dict[str, Any]:
    """Objects are patched in turn; lists are replaced as a whole."""
    reference = value.get("$ref", "")
    return {**value, "$ref": f"{reference}Patch"} if reference.rpartition("/")[2] in objects else value
