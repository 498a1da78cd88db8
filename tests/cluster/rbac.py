"""Who may do what: the rules of roles, as they stand in manifests, and what was asked for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML


@dataclass(frozen=True, order=True)
class Call:
    """One kind of call: `namespaced` or for the whole cluster; `resource` with its subresource."""

    namespaced: bool
    resource: str
    verb: str


def manifests(folder: Path) -> list[dict[str, Any]]:
    """All objects of the manifests of a folder."""
    texts = [path.read_text() for path in sorted(folder.glob("*.yaml")) if path.name != "kustomization.yaml"]
    return [thing for text in texts for thing in YAML(typ="safe").load_all(text) if thing]


def allowed(things: Iterable[dict[str, Any]]) -> frozenset[Call]:
    """What the roles among them allow."""
    return frozenset(
        Call(thing["kind"] == "Role", f"{group}/{resource}" if group else resource, verb)
        for thing in things
        if thing["kind"] in ("Role", "ClusterRole")
        for rule in thing["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    )


@dataclass
class Authoriser:
    """Lets nothing through that no rule allows, and remembers what was asked for. No rules: everybody is an admin."""

    rules: frozenset[Call] | None = None
    asked: set[Call] = field(default_factory=set)

    def admits(self, call: Call) -> bool:
        self.asked.add(call)
        return self.rules is None or call in self.rules or Call(False, call.resource, call.verb) in self.rules
