"""`GET /metrics`: the Prometheus page, for a key that may read, or for everybody where the settings say so."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from stoker.control.keys import Keys
from stoker.domain.authorisation import Action, permits, visible
from stoker.domain.endpoint import Endpoint, EndpointId
from stoker.domain.errors import Unauthenticated
from stoker.domain.queueing import Mode
from stoker.domain.task import QueueTotals
from stoker.telemetry.metrics import Metrics
from stoker.telemetry.scaled import Scaled
from stoker.web import bearer_or_api_key


def route(
    metrics: Metrics,
    keys: Keys,
    *,
    endpoints: Callable[[], Iterable[Endpoint]],
    queue: Callable[[EndpointId], QueueTotals],
    scaled: Callable[[Endpoint], Scaled],
    gateways: Callable[[], int],
    anybody: bool,
) -> Route:
    """The route. A key sees the endpoints that it may read; with `anybody` no key is needed, and all are seen."""

    def page(request: Request) -> Response:
        seen = list(endpoints())
        metrics.forget(metrics.known() - {endpoint.id for endpoint in seen})
        if not anybody:
            try:
                principal = keys.principal(bearer_or_api_key(request))
            except Unauthenticated as exc:
                raise HTTPException(401, str(exc), {"WWW-Authenticate": 'Bearer realm="stoker"'}) from exc
            if not permits(principal, Action.ENDPOINT_LIST):
                raise HTTPException(403, "this key may not read")
            seen = [e for e in seen if visible(principal, Action.ENDPOINT_LIST, project=e.project, endpoint=e.id)]
        names: dict[str, str] = {endpoint.id: endpoint.slug for endpoint in seen}
        queues = {endpoint.slug: queue(endpoint.id) for endpoint in seen if endpoint.spec.mode is not Mode.HTTP}
        text = metrics.page(names, queues, gateways=gateways(), scaled={each.slug: scaled(each) for each in seen})
        return Response(text, media_type=CONTENT_TYPE_LATEST)

    async def answer(request: Request) -> Response:
        return page(request)

    return Route("/metrics", answer)
