"""What tests of the store put into it."""

from __future__ import annotations

from dataclasses import replace

from builders import endpoint as built_endpoint
from stoker.domain.access import ApiKey, KeyId, Scope
from stoker.domain.endpoint import Endpoint, EndpointId, ProjectId
from stoker.domain.operation import Operation, OperationId, OperationKind, OperationState

P = ProjectId(1)
E = EndpointId("e")


def an_endpoint(number: int, name: str, **more: object) -> Endpoint:
    made = built_endpoint(low=1, high=3)
    values: dict[str, object] = {"id": EndpointId(f"id-{number}"), "number": number, "slug": f"s{number}", **more}
    return replace(made, spec=replace(made.spec, name=name), **values)  # type: ignore[arg-type]


def an_operation(number: int, state: OperationState = OperationState.PENDING, **more: object) -> Operation:
    values: dict[str, object] = {
        "id": OperationId(f"o{number}"),
        "number": number,
        "kind": OperationKind.CREATE,
        "endpoint": E,
        "state": state,
        "created_at": 1.5,
        "deadline_at": 1801.25,
        "revision": 1,
        **more,
    }
    return Operation(**values)  # type: ignore[arg-type]


def a_key(number: int, **more: object) -> ApiKey:
    values: dict[str, object] = {
        "id": KeyId(f"k{number}"),
        "number": number,
        "project": P,
        "name": f"key {number}",
        "digest": f"{number:064}",
        "hint": "sk-…abcd",
        "scopes": frozenset({Scope.READ, Scope.INVOKE}),
        "endpoints": None,
        "created_at": 1.0,
        "expires_at": None,
        "revoked_at": None,
        **more,
    }
    return ApiKey(**values)  # type: ignore[arg-type]
