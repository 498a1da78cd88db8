"""Templates: parts of endpoints' documents under a name, in versions that never change."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stoker.domain.endpoint import ProjectId
from stoker.domain.errors import Invalid

VERSIONS_MAX = 1_000
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """One version of a template. `spec` is a part of an endpoint's document; `digest` is the SHA-256 of its content."""

    id: str
    number: int
    project: ProjectId
    name: str
    version: int
    spec: Mapping[str, Any]
    digest: str
    created_at: float

    @property
    def reference(self) -> str:
        """What names exactly this version."""
        return f"{self.name}@{self.version}"


def check_template_name(name: str) -> None:
    """Raises `Invalid`."""
    if not _NAME.match(name) or name.isdigit():
        raise Invalid.at(
            "/name",
            "a template's name has up to 63 letters, digits, dots, dashes or underscores, and is no number alone",
        )


def parse_reference(text: str) -> tuple[str, int | None]:
    """Name and version of `name@version`, or of a name alone, which is its newest version. Raises `Invalid`."""
    name, at, version = text.partition("@")
    if not name or (at and not (version.isascii() and version.isdigit() and 1 <= len(version) <= 9)):
        raise Invalid.at("/template", "a template is NAME, or NAME@VERSION")
    return name, int(version) if at else None


def merged(target: Any, patch: Any) -> Any:
    """`patch` laid over `target` as RFC 7396 (JSON Merge Patch) has it: objects field by field, a null removes, all
    else, lists included, replaces.
    """
    if not isinstance(patch, Mapping):
        return patch
    result = dict(target) if isinstance(target, Mapping) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merged(result.get(name), value)
    return result
