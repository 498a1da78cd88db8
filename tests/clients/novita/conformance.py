"""Which operations of Novita's API are there, and which clients drive each of them in the tests here.

docs/dialects/novita.md is written from this; the tests fail when a client has not driven what is listed for it.
"""

from __future__ import annotations

from dataclasses import dataclass

CLI, SDK = "novita-0.1.0", "novita-sdk-0.5.0"
GPUS, RUNPOD = "novita-gpus-0.0.1", "runpod-1.12.0"
JOBS = (GPUS, RUNPOD)


@dataclass(frozen=True)
class Row:
    """An operation, and the environments of the clients that drive it."""

    operation: str
    call: str
    clients: tuple[str, ...]


_P = "/gpu-instance/openapi/v1"

ROWS = (
    Row("create-endpoint", f"POST {_P}/endpoint/create", (CLI, SDK)),
    Row("list-endpoints", f"GET {_P}/endpoints", (CLI, SDK)),
    Row("get-endpoint", f"GET {_P}/endpoint", (CLI, SDK)),
    Row("update-endpoint", f"POST {_P}/endpoint/update", (CLI, SDK)),
    Row("delete-endpoint", f"POST {_P}/endpoint/delete", (CLI, SDK)),
    Row("get-limits", f"GET {_P}/endpoint/limit", (SDK,)),
    Row("list-clusters", f"GET {_P}/clusters", (CLI, SDK)),
    Row("list-products", f"GET {_P}/products", (CLI, SDK)),
    Row("list-cpu-products", f"GET {_P}/cpu/products", (CLI, SDK)),
    Row("save-registry-auth", f"POST {_P}/repository/auth/save", (SDK,)),
    Row("list-registry-auths", f"GET {_P}/repository/auths", (SDK,)),
    Row("delete-registry-auth", f"POST {_P}/repository/auth/delete", (SDK,)),
    Row("create-storage", f"POST {_P}/networkstorage/create", (CLI, SDK)),
    Row("list-storages", f"GET {_P}/networkstorages/list", (SDK,)),
    Row("list-storages-short", f"GET {_P}/networkstorages", (CLI,)),
    Row("update-storage", f"POST {_P}/networkstorage/update", (SDK,)),
    Row("delete-storage", f"POST {_P}/networkstorage/delete", (CLI, SDK)),
    Row("run", "POST /v1/{name}/run", JOBS),
    Row("run-sync", "POST /v1/{name}/runsync", (RUNPOD,)),
    Row("get-status", "GET /v1/{name}/status/{id}", JOBS),
    Row("get-stream", "GET /v1/{name}/stream/{id}", (RUNPOD,)),
    Row("cancel", "POST /v1/{name}/cancel/{id}", JOBS),
    # Of an older guide; called through the client of the command line, which is told the path.
    Row("cancel-by-get", "GET /v1/{name}/cancel/{id}", (CLI,)),
    Row("get-health", "GET /v1/{name}/health", JOBS),
    Row("get-stats", "GET /v1/{name}/stats", (CLI,)),
    Row("purge-queue", "POST /v1/{name}/purge-queue", JOBS),
)

_COMMANDS = {
    "serverless create": ("create-endpoint",),
    "serverless list": ("list-endpoints",),
    "serverless get": ("get-endpoint",),
    "serverless update": ("get-endpoint", "update-endpoint"),
    "serverless delete": ("delete-endpoint",),
    "gpu clusters": ("list-clusters",),
    "gpu products": ("list-products",),
    "gpu cpu-products": ("list-cpu-products",),
    "storage list": ("list-storages-short",),
    "storage create": ("create-storage",),
    "storage delete": ("delete-storage",),
}
_METHODS = {
    "serverless_create_endpoint": "create-endpoint",
    "endpoints.get_limit_ranges": "get-limits",
    "endpoints.list": "list-endpoints",
    "endpoints.create": "create-endpoint",
    "endpoints.get": "get-endpoint",
    "endpoints.update": "update-endpoint",
    "endpoints.delete": "delete-endpoint",
    "clusters.list": "list-clusters",
    "products.list": "list-products",
    "products.list_cpu": "list-cpu-products",
    "registries.list": "list-registry-auths",
    "registries.create": "save-registry-auth",
    "registries.delete": "delete-registry-auth",
    "storages.list": "list-storages",
    "storages.create": "create-storage",
    "storages.update": "update-storage",
    "storages.delete": "delete-storage",
    "run": "run",
    "run_sync": "run-sync",
    "status": "get-status",
    "output": "get-status",
    "stream": "get-stream",
    "cancel": "cancel",
    "health": "get-health",
    "purge_queue": "purge-queue",
}


def of(client: str) -> set[str]:
    """The operations that this client drives, by their ids."""
    return {row.operation for row in ROWS if client in row.clients}


def of_command(arguments: tuple[str, ...]) -> set[str]:
    """Those that a command of the command line stands for."""
    words = [each for each in arguments if not each.startswith("-")]
    return set(_COMMANDS[" ".join(words[:2])])


def of_method(method: str, path: str = "") -> str:
    """The one that a method of a client stands for; of the command line's own `get`, that of the path."""
    if method == "get":
        return "get-stats" if path.endswith("/stats") else "cancel-by-get"
    return _METHODS[method]
