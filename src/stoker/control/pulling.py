"""What a worker that asks for tasks finds in its environment: where to ask, and by which credential it is known.

The names are those that the packages `runpod` and `novita-gpus` read, unmodified.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from stoker.control.vault import Vault
from stoker.domain.worker import WorkerSpec

PATH = "/novita/pull/v2"
PACKAGES = ("RUNPOD", "NOVITA")
# The packages go on with `&`: an address needs a query to begin with.
_QUERY = "?v=2"


async def completed(vault: Vault, url: str, spec: WorkerSpec) -> WorkerSpec:
    """With all that only its start may know. `url` is Stoker's own address. Raises `NotFound`, `Unavailable`."""
    spec = await vault.complete(spec)
    if spec.ping_s is None:
        return spec
    told = environment(spec, url, vault.worker_token(spec.id), ping_s=spec.ping_s)
    return replace(spec, env={**DEFAULTS, **spec.env, **told})


# What the owner's own environment may say otherwise. The packages' check of the machine looks for 4 GiB of memory and a
# way to the internet, and ends the worker without.
DEFAULTS = {"RUNPOD_SKIP_AUTO_SYSTEM_CHECKS": "true"}


def environment(spec: WorkerSpec, url: str, token: str, *, ping_s: int) -> Mapping[str, str]:
    """The variables of both packages."""
    base = f"{url}{PATH}/{spec.endpoint}"
    found: dict[str, str] = {}
    for package in PACKAGES:
        # What is left to the package: its worker's id, and for each job that job's.
        me = f"${package}_POD_ID"
        found |= {
            f"{package}_POD_ID": spec.id,
            f"{package}_ENDPOINT_ID": spec.endpoint,
            f"{package}_POD_HOSTNAME": spec.name,
            f"{package}_AI_API_KEY": f"Bearer {token}",
            f"{package}_WEBHOOK_GET_JOB": f"{base}/job-take/$ID{_QUERY}",
            f"{package}_WEBHOOK_PING": f"{base}/ping/{me}",
            f"{package}_WEBHOOK_POST_OUTPUT": f"{base}/job-done/{me}/$ID{_QUERY}",
            f"{package}_WEBHOOK_POST_STREAM": f"{base}/job-stream/{me}/$ID{_QUERY}",
            f"{package}_PING_INTERVAL": str(ping_s * 1_000),
        }
    return found
