"""Novita's serverless GPUs as its own clients speak them, and the protocol of workers that ask for jobs, which RunPod's
speak as well. Imports nothing heavy: all faces find it.
"""

from __future__ import annotations

from collections.abc import Sequence

from stoker.dialects.novita.names import label_of
from stoker.dialects.novita.webhook import FORM
from stoker.domain.endpoint import Endpoint
from stoker.domain.routing import InferenceAddress
from stoker.domain.worker import Worker
from stoker.web import Dialect

# Where the cloud itself has them, for clients that are led here by their resolver.
HOST = "runsync.serverless.novita.ai"


def _addresses(endpoint: Endpoint, _workers: Sequence[Worker]) -> Sequence[InferenceAddress]:
    label = label_of(endpoint)
    return (
        InferenceAddress(prefix=f"/novita/{label}"),
        InferenceAddress(prefix="/", host=f"{label}.{HOST}", strip=False),
    )


DIALECT = Dialect(
    name="novita",
    face="stoker.dialects.novita.face:make",
    hosts=("api.novita.ai", "async-public.serverless.novita.ai", "async.novita.ai"),
    addresses=_addresses,
    webhooks=FORM,
)
