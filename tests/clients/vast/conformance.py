"""Which operations of Vast.ai's API are there, and which clients drive each of them in the tests beside this.

docs/dialects/vast.md is written from this; the tests fail when a client has not driven what is listed for it.
"""

from __future__ import annotations

from dataclasses import dataclass

VERSION = "1.9.1"
CLI, SDK, SERVERLESS, WORKER = (
    f"{name} {VERSION}" for name in ("vastai", "vastai.VastAI", "vastai.Serverless", "PyWorker")
)


@dataclass(frozen=True)
class Row:
    """An operation, and who drives it: of each client by what it calls it."""

    operation: str
    call: str
    by: dict[str, str]

    @property
    def clients(self) -> tuple[str, ...]:
        return tuple(self.by)


def _row(
    operation: str,
    call: str,
    *,
    cli: str | None = None,
    sdk: str | None = None,
    serverless: str | None = None,
    worker: str | None = None,
) -> Row:
    given = ((CLI, cli), (SDK, sdk), (SERVERLESS, serverless), (WORKER, worker))
    return Row(operation, call, {client: name for client, name in given if name is not None})


_E, _A, _W = "/api/v0/endptjobs/", "/api/v0/autojobs/", "/api/v0/workergroups/"
ROWS = (
    _row("create endpoint", f"POST {_E}", cli="create endpoint", sdk="create_endpoint", serverless="create_endpoint"),
    _row("list endpoints", f"GET {_E}", cli="show endpoints", sdk="show_endpoints", serverless="get_endpoint"),
    _row("show endpoint", f"GET {_E}{{id}}/", serverless="fetch_endpoint"),
    _row("update endpoint", f"PUT {_E}{{id}}/", cli="update endpoint", sdk="update_endpoint"),
    _row("delete endpoint", f"DELETE {_E}{{id}}/", cli="delete endpoint", sdk="delete_endpoint", serverless="delete"),
    _row("create workergroup", f"POST {_A}", cli="create workergroup", sdk="create_workergroup"),
    _row("create workergroup", f"POST {_W}", serverless="add_workergroup"),
    _row("list workergroups", f"GET {_A}", cli="show workergroups", sdk="show_workergroups"),
    _row("list workergroups", f"GET {_W}", serverless="find_workergroup_for_endpoint"),
    _row("update workergroup", f"PUT {_A}{{id}}/", cli="update workergroup", sdk="update_workergroup"),
    _row("delete workergroup", f"DELETE {_A}{{id}}/", cli="delete workergroup", sdk="delete_workergroup"),
    _row("delete workergroup", f"DELETE {_W}{{id}}/", serverless="delete_workergroup"),
    _row("endpoint logs", "POST /get_endpoint_logs/", cli="get endpt-logs", sdk="get_endpt_logs"),
    _row("workergroup logs", "POST /get_autogroup_logs/", cli="get wrkgrp-logs", sdk="get_wrkgrp_logs"),
    _row(
        "endpoint workers",
        "POST /get_endpoint_workers/",
        cli="get endpt-workers",
        sdk="get_endpoint_workers",
        serverless="get_workers",
    ),
    _row(
        "update workers",
        "POST /update_workers/",
        cli="update workers",
        sdk="update_workers",
        serverless="update_workers",
    ),
    _row("route, then the worker", "POST /route/", serverless="request"),
    _row("route, then a stream", "POST /route/", serverless="stream"),
    _row("route again after 429", "POST /route/", serverless="queue"),
    _row("session of a worker", "POST /route/", serverless="session"),
    _row("certificate", "GET /static/jvastai_root.cer", serverless="enter"),
    _row("public key", "GET /pubkey/", worker="accepts what is signed"),
    _row("worker status", "POST /worker_status/", worker="loaded, with its perf"),
    _row("delete requests", "POST /delete_requests/", worker="through with a request"),
)


def of(client: str) -> set[str]:
    """What this client must have called."""
    return {row.by[client] for row in ROWS if client in row.by}
