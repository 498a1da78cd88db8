"""The published OpenAPI schema of Kubernetes, in which no field may be that is not in it."""

from __future__ import annotations

import json
import re
from functools import cache
from importlib.resources import files
from typing import Any

from jsonschema import Draft202012Validator
from referencing import Registry, Resource

# Of which version's API objects are.
VERSION = "1.37.0"


@cache
def _folder() -> Any:
    return files("kubernetes_validate") / "kubernetes-json-schema" / f"v{VERSION}-local-strict"


@cache
def _registry() -> Any:
    definitions: Any = Resource.from_contents(json.loads((_folder() / "_definitions.json").read_text()))
    return definitions @ Registry()


@cache
def _validator(kind: str, version: str) -> Draft202012Validator:
    # rbac.authorization.k8s.io/v1 stands there as rbac-v1.
    version = re.sub(r"^([^./]*)(?:\.[^/]*)?/", r"\1-", version)
    schema = json.loads((_folder() / f"{kind.lower()}-{version}.json").read_text())
    return Draft202012Validator(schema, registry=_registry())


def faults(thing: dict[str, Any]) -> list[str]:
    """What is wrong with an object; nothing when it is as its schema says."""
    validator = _validator(str(thing["kind"]), str(thing["apiVersion"]))
    return [f"{'.'.join(map(str, error.absolute_path))}: {error.message}" for error in validator.iter_errors(thing)]
