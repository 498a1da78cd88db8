"""Which operations of Exoscale's API are there, and which clients drive each of them in the tests beside this.

docs/dialects/exoscale.md is written from this; the tests fail when a client has not driven what is listed for it.
"""

from __future__ import annotations

from dataclasses import dataclass

PYTHON = ("exoscale-0.16.3", "exoscale-0.16.4")
NEWEST = PYTHON[-1:]
# What it sends was recorded from it, and is sent again in the same order.
EXO = "exo 1.97 (recorded)"
ALL = (*PYTHON, EXO)


@dataclass(frozen=True)
class Row:
    """An operation, and the clients that drive it: names of environments, or `EXO`."""

    operation: str
    call: str
    clients: tuple[str, ...]


ROWS = (
    Row("list-deployments", "GET /ai/deployment", ALL),
    Row("create-deployment", "POST /ai/deployment", ALL),
    Row("get-deployment", "GET /ai/deployment/{id}", ALL),
    Row("update-deployment", "PATCH /ai/deployment/{id}", ALL),
    Row("delete-deployment", "DELETE /ai/deployment/{id}", ALL),
    Row("scale-deployment", "POST /ai/deployment/{id}/scale", ALL),
    Row("reveal-deployment-api-key", "GET /ai/deployment/{id}/api-key", ALL),
    Row("get-deployment-logs", "GET /ai/deployment/{id}/logs", ALL),
    Row("get-inference-engine-help", "GET /ai/help/inference-engine-parameters", ALL),
    Row("list-ai-instance-types", "GET /ai/instance-type", ALL),
    Row("list-models", "GET /ai/model", ALL),
    Row("create-model", "POST /ai/model", ALL),
    Row("get-model", "GET /ai/model/{id}", ALL),
    Row("delete-model", "DELETE /ai/model/{id}", ALL),
    Row("get-operation", "GET /operation/{id}", ALL),
    Row("list-zones", "GET /zone", ALL),
    Row("list-ai-api-keys", "GET /ai/api-key", NEWEST),
    Row("create-ai-api-key", "POST /ai/api-key", NEWEST),
    Row("get-ai-api-key", "GET /ai/api-key/{id}", NEWEST),
    Row("delete-ai-api-key", "DELETE /ai/api-key/{id}", NEWEST),
    Row("get-user-org-consumption-quota", "GET /ai/quota", NEWEST),
)


def of(client: str) -> set[str]:
    """The operations that this client drives, by their ids."""
    return {row.operation for row in ROWS if client in row.clients}
