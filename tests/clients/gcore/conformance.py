"""Which operations of Gcore's API are there, and which versions of its client drive each of them in the tests here.

docs/dialects/gcore.md is written from this; the tests fail when a client has not driven what is listed for it.
"""

from __future__ import annotations

from dataclasses import dataclass

OLD, NEW = "gcore-0.41.0", "gcore-0.59.0"
ALL = (OLD, NEW)
# Paths that the package has no method for: called through its own `get` and `post`.
BY_PATH = ""
_I = "cloud.inference"
_D = f"{_I}.deployments"
_A = f"{_I}.applications"


@dataclass(frozen=True)
class Row:
    """An operation, the method of the client that stands for it, and the environments of those that drive it."""

    operation: str
    call: str
    method: str = BY_PATH
    clients: tuple[str, ...] = ALL


_DEPLOYMENTS = "/cloud/v3/inference/{project_id}/deployments"
_DEPLOYMENT = f"{_DEPLOYMENTS}/{{deployment_name}}"
_CREDENTIALS = "/cloud/v3/inference/{project_id}/registry_credentials"
_SECRETS = "/cloud/v3/inference/{project_id}/secrets"
_KEYS = "/cloud/v3/inference/{project_id}/api_keys"
_APPLICATIONS = "/cloud/v3/inference/applications/{project_id}/deployments"
_APPLICATION = f"{_APPLICATIONS}/{{deployment_name}}"
_CATALOG = "/cloud/v3/inference/applications/catalog"

ROWS = (
    Row("create-deployment", f"POST {_DEPLOYMENTS}", f"{_D}.create"),
    Row("list-deployments", f"GET {_DEPLOYMENTS}", f"{_D}.list"),
    Row("get-deployment", f"GET {_DEPLOYMENT}", f"{_D}.get"),
    Row("update-deployment", f"PATCH {_DEPLOYMENT}", f"{_D}.update"),
    Row("delete-deployment", f"DELETE {_DEPLOYMENT}", f"{_D}.delete"),
    Row("start-deployment", f"POST {_DEPLOYMENT}/start", f"{_D}.start"),
    Row("stop-deployment", f"POST {_DEPLOYMENT}/stop", f"{_D}.stop"),
    Row("list-logs", f"GET {_DEPLOYMENT}/logs", f"{_D}.logs.list"),
    # Gone from later ones.
    Row("get-deployment-api-key", f"GET {_DEPLOYMENT}/apikey", f"{_D}.get_api_key", (OLD,)),
    Row("check-limits", f"POST {_DEPLOYMENTS}/check_limits"),
    Row("list-flavors", "GET /cloud/v3/inference/flavors", f"{_I}.flavors.list"),
    Row("get-flavor", "GET /cloud/v3/inference/flavors/{flavor_name}", f"{_I}.flavors.get"),
    Row("get-capacity", "GET /cloud/v3/inference/capacity", f"{_I}.get_capacity_by_region"),
    Row("list-models", "GET /cloud/v3/inference/models"),
    Row("get-model", "GET /cloud/v3/inference/models/{model_id}"),
    Row("create-registry-credential", f"POST {_CREDENTIALS}", f"{_I}.registry_credentials.create"),
    Row("list-registry-credentials", f"GET {_CREDENTIALS}", f"{_I}.registry_credentials.list"),
    Row("get-registry-credential", f"GET {_CREDENTIALS}/{{credential_name}}", f"{_I}.registry_credentials.get"),
    Row("replace-registry-credential", f"PUT {_CREDENTIALS}/{{credential_name}}", f"{_I}.registry_credentials.replace"),
    Row(
        "delete-registry-credential", f"DELETE {_CREDENTIALS}/{{credential_name}}", f"{_I}.registry_credentials.delete"
    ),
    Row("create-secret", f"POST {_SECRETS}", f"{_I}.secrets.create"),
    Row("list-secrets", f"GET {_SECRETS}", f"{_I}.secrets.list"),
    Row("get-secret", f"GET {_SECRETS}/{{secret_name}}", f"{_I}.secrets.get"),
    Row("replace-secret", f"PUT {_SECRETS}/{{secret_name}}", f"{_I}.secrets.replace"),
    Row("delete-secret", f"DELETE {_SECRETS}/{{secret_name}}", f"{_I}.secrets.delete"),
    Row("create-api-key", f"POST {_KEYS}", f"{_I}.api_keys.create"),
    Row("list-api-keys", f"GET {_KEYS}", f"{_I}.api_keys.list"),
    Row("get-api-key", f"GET {_KEYS}/{{api_key_name}}", f"{_I}.api_keys.get"),
    Row("update-api-key", f"PATCH {_KEYS}/{{api_key_name}}", f"{_I}.api_keys.update"),
    Row("delete-api-key", f"DELETE {_KEYS}/{{api_key_name}}", f"{_I}.api_keys.delete"),
    Row("list-tasks", "GET /cloud/v1/tasks", "cloud.tasks.list"),
    Row("get-task", "GET /cloud/v1/tasks/{task_id}", "cloud.tasks.get"),
    Row("get-task-short", "GET /v1/tasks/{task_id}"),
    Row("list-active-tasks", "GET /cloud/v1/tasks/{project_id}/{region_id}/active"),
    Row("acknowledge-task", "POST /cloud/v1/tasks/{task_id}/acknowledge", "cloud.tasks.acknowledge_one"),
    Row("acknowledge-all-tasks", "POST /cloud/v1/tasks/acknowledge_all", "cloud.tasks.acknowledge_all"),
    Row("create-application", f"POST {_APPLICATIONS}", f"{_A}.deployments.create"),
    Row("list-applications", f"GET {_APPLICATIONS}", f"{_A}.deployments.list"),
    Row("get-application", f"GET {_APPLICATION}", f"{_A}.deployments.get"),
    Row("update-application", f"PATCH {_APPLICATION}", f"{_A}.deployments.update"),
    Row("delete-application", f"DELETE {_APPLICATION}", f"{_A}.deployments.delete"),
    Row("list-application-templates", f"GET {_CATALOG}", f"{_A}.templates.list"),
    Row("get-application-template", f"GET {_CATALOG}/{{application_name}}", f"{_A}.templates.get"),
    Row("list-projects", "GET /cloud/v1/projects", "cloud.projects.list"),
    Row("get-project", "GET /cloud/v1/projects/{project_id}", "cloud.projects.get"),
    Row("list-regions", "GET /cloud/v1/regions", "cloud.regions.list"),
    Row("get-region", "GET /cloud/v1/regions/{region_id}", "cloud.regions.get"),
    Row("preview-deployment-price", "POST /cloud/v2/pricing/inference/deployments"),
    Row("preview-application-price", "POST /cloud/v2/pricing/inference/applications"),
)
_BY_METHOD = {row.method: row.operation for row in ROWS if row.method != BY_PATH}


def of(client: str) -> set[str]:
    """The operations that this client drives, by their ids."""
    return {row.operation for row in ROWS if client in row.clients}


def operation_of(method: str) -> str:
    """The operation that a method of the client stands for; those that wait stand for the one they begin with."""
    begun = {f"{_D}.{verb}_and_poll": f"{_D}.{verb}" for verb in ("create", "update", "delete")}
    return _BY_METHOD[begun.get(method, method).replace("cloud.tasks.poll", "cloud.tasks.get")]


def by_path(operation: str) -> tuple[str, str]:
    """How an operation is called that the package has no method for: its own method for that, and the path."""
    verb, _, path = next(row.call for row in ROWS if row.operation == operation).partition(" ")
    return verb.lower(), path
