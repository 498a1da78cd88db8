"""Vast.ai's Serverless, as its own clients and workers speak it. Imports nothing heavy: all faces find it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from urllib.parse import quote

from stoker.domain.endpoint import Endpoint
from stoker.domain.load import Trial
from stoker.domain.routing import KEY_PLACES, InferenceAddress
from stoker.domain.worker import Worker, WorkerState
from stoker.web import Dialect, Start

KEPT, GROUP = "vast/endpoint", "vast/group/"
# What holds for a workergroup that says nothing.
TEST_WORKERS = 3
OPENAI_HOST = "openai.vast.ai"
# Clients show their key in the header and in the query at once, and workers are to see neither.
_KEYS = (*KEY_PLACES, "query:api_key")
_CALLED = (WorkerState.READY, WorkerState.DRAINING)
# Where a container listens that does not say so.
_PORT = 3000


def worker_path(worker: str) -> str:
    """Where requests for this one worker go, below Stoker's own address."""
    return f"/vast/worker/{worker}"


def _addresses(endpoint: Endpoint, workers: Sequence[Worker]) -> Sequence[InferenceAddress]:
    names = dict.fromkeys((quote(endpoint.spec.name, safe=""), endpoint.slug))
    return (
        *(InferenceAddress(prefix=f"/vast/openai/{name}", base="/v1", keys=_KEYS) for name in names),
        *(InferenceAddress(host=OPENAI_HOST, prefix=f"/{name}", base="/v1", keys=_KEYS) for name in names),
        *(address for worker in workers if worker.state in _CALLED for address in _of_worker(endpoint, worker)),
    )


def _of_worker(endpoint: Endpoint, worker: Worker) -> Sequence[InferenceAddress]:
    path = worker_path(worker.id)
    own = InferenceAddress(prefix=path, worker=worker.id, keys=_KEYS)
    if not reports(endpoint):
        return (own,)
    # Clients show no key here, and what the session was made with instead, which the worker compares.
    bare = ("/session/get", "/session/end")
    return (own, *(InferenceAddress(prefix=path + p, base=p, worker=worker.id, open=True) for p in bare))


def reports(endpoint: Endpoint) -> bool:
    """May its workers be such that report their load? Engines that Stoker starts itself do not."""
    return any(key.startswith(GROUP) for key in endpoint.spec.annotations) and endpoint.launch.engine is None


async def _environ(start: Start) -> Mapping[str, str]:
    if not reports(start.endpoint):
        return {}
    address, launch = start.worker.address, start.endpoint.launch
    own = start.port or launch.port or _PORT
    return {
        "CONTAINER_ID": str(start.worker.number),
        "MASTER_TOKEN": start.token,
        "REPORT_ADDR": f"{start.url}/vast",
        "WORKER_PORT": str(own),
        # Beside it the worker listens for its own machine's programs: on any port that is free.
        "WORKER_HTTP_PORT": "0",
        f"VAST_TCP_PORT_{own}": str(own),
        "PUBLIC_IPADDR": "127.0.0.1" if address is None else address.host,
        "USE_SSL": "false",
    }


def _trial(endpoint: Endpoint) -> Trial | None:
    """What `wire.groups.GroupKept` has of its workergroups, read without what makes types."""
    try:
        groups = [json.loads(v) for k, v in endpoint.spec.annotations.items() if k.startswith(GROUP)]
        workers = max((int(group.get("test_workers", TEST_WORKERS)) for group in groups), default=0)
        since = max((float(group.get("created_at", 0)) for group in groups), default=0.0)
    except (ValueError, TypeError, AttributeError):
        # Somebody else wrote it.
        return None
    return Trial(workers=workers, since=since) if workers else None


DIALECT = Dialect(
    name="vast",
    face="stoker.dialects.vast.face:make",
    hosts=("console.vast.ai", "run.vast.ai"),
    addresses=_addresses,
    environ=_environ,
    trial=_trial,
)
