"""Which operations of Yotta's API are there, and what of its package drives each of them in the tests here.

docs/dialects/yotta.md is written from this; the tests fail when a client has not driven what is listed for it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

# Both come with yottaml 0.2.0: the command line `yotta`, and the classes of the package.
CLI, SDK = "yotta (yottaml-0.2.0)", "yottaml-0.2.0"
BOTH = (CLI, SDK)
# The package has no command and no method for these: called through its class's own `http_get`, `http_post`.
BY_PATH = (f"{SDK}, by path",)


@dataclass(frozen=True)
class Row:
    """An operation, and the clients that drive it."""

    operation: str
    call: str
    clients: tuple[str, ...] = BOTH


_E = "/v2/serverless"
_ONE = f"{_E}/{{id}}"
_C = "/v2/container-registry-auths"

ROWS = (
    Row("create-endpoint", f"POST {_E}"),
    Row("submit-task", f"POST {_ONE}/tasks"),
    Row("start-endpoint", f"POST {_ONE}/start"),
    Row("stop-endpoint", f"POST {_ONE}/stop"),
    Row("scale-workers", f"PUT {_ONE}/workers"),
    Row("scale-workers-by-path", f"PUT {_ONE}/workers/{{count}}", BY_PATH),
    Row("update-endpoint", f"PATCH {_ONE}", (SDK,)),
    Row("delete-endpoint", f"DELETE {_ONE}"),
    Row("list-endpoints", f"GET {_E}"),
    Row("get-endpoint", f"GET {_ONE}"),
    Row("get-task", f"GET {_ONE}/tasks/{{task_id}}"),
    Row("count-tasks", f"GET {_ONE}/tasks/count"),
    Row("list-workers", f"GET {_ONE}/workers"),
    Row("search-gpus", "POST /api/v2/resource/gpu/list", BY_PATH),
    Row("list-tasks", f"GET {_ONE}/tasks"),
    Row("get-worker-logs", f"GET {_ONE}/workers/{{worker_id}}/logs", BY_PATH),
    Row("list-types", "GET /v2/vms/types"),
    Row("create-credential", f"POST {_C}"),
    Row("list-credentials", f"GET {_C}"),
    Row("get-credential", f"GET {_C}/{{id}}"),
    Row("update-credential", f"PATCH {_C}/{{id}}"),
    Row("delete-credential", f"DELETE {_C}/{{id}}"),
)
_COMMANDS = {
    "serverless create": "create-endpoint",
    "serverless list": "list-endpoints",
    "serverless get": "get-endpoint",
    "serverless delete": "delete-endpoint",
    "serverless start": "start-endpoint",
    "serverless stop": "stop-endpoint",
    "serverless scale": "scale-workers",
    "serverless workers": "list-workers",
    "tasks create": "submit-task",
    "tasks get": "get-task",
    "tasks list": "list-tasks",
    "tasks count": "count-tasks",
    "gpus list": "list-types",
    "credentials create": "create-credential",
    "credentials list": "list-credentials",
    "credentials get": "get-credential",
    "credentials update": "update-credential",
    "credentials delete": "delete-credential",
}
_METHODS = {
    "create_deployment": "create-endpoint",
    "get_deployments": "list-endpoints",
    "get_deployment_detail": "get-endpoint",
    "update_deployment": "update-endpoint",
    "delete_deployment": "delete-endpoint",
    "start_deployment": "start-endpoint",
    "stop_deployment": "stop-endpoint",
    "scale_workers": "scale-workers",
    "get_workers": "list-workers",
    "create_task": "submit-task",
    "get_task": "get-task",
    "list_tasks": "list-tasks",
    "get_processing_count": "count-tasks",
    "create_credential": "create-credential",
    "get_credentials": "list-credentials",
    "get_credential": "get-credential",
    "update_credential": "update-credential",
    "delete_credential": "delete-credential",
}


def of(client: str) -> set[str]:
    """The operations that this client drives, by their ids."""
    return {row.operation for row in ROWS if client in row.clients}


def operation_of_command(group: str, command: str) -> str:
    """The operation that a command of `yotta` stands for."""
    return _COMMANDS[f"{group} {command}"]


def operation_of(method: str, path: str) -> str:
    """The operation that a method of the package stands for; one of its own verbs, by the path that it is given."""
    if method == "get_gpus":
        return "list-types"
    if method in _METHODS:
        return _METHODS[method]
    verb = method.removeprefix("http_").upper()
    for row in ROWS:
        known, _, template = row.call.partition(" ")
        pattern = re.sub(r"\\{\w+\\}", "[^/]+", re.escape(template))
        if known == verb and re.fullmatch(pattern, path):
            return row.operation
    raise LookupError(f"{verb} {path}")
