"""How native routes take requests: bodies are bounded, and a POST with an `Idempotency-Key` runs once."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from stoker.web import Answer, principal_of, services_of

BODY_BYTES_MAX = 4 * 1024 * 1024


class OnceRoute(APIRoute):
    """A route that bounds its body and honours `Idempotency-Key` on POST."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        route = f"{self.path}"

        async def bounded(request: Request) -> Response:
            await _bound_body(request)
            key = request.headers.get("idempotency-key")
            if key is None or request.method != "POST":
                return await handle(request)
            return await _once(request, route, key, handle)

        return bounded


async def _bound_body(request: Request) -> None:
    if request.method not in ("POST", "PUT", "PATCH"):
        return
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > BODY_BYTES_MAX:
            raise HTTPException(413, f"a body has at most {BODY_BYTES_MAX} bytes")
        chunks.append(chunk)
    # Where `Request.body` keeps what it has read.
    request._body = b"".join(chunks)


async def _once(
    request: Request, route: str, key: str, handle: Callable[[Request], Coroutine[Any, Any, Response]]
) -> Response:
    once = services_of(request).once
    project = principal_of(request).project
    # The path is part of what is compared: the same key for another endpoint is another request.
    compared = request.url.path.encode() + b"\0" + await request.body()
    begun = await once.begin(project, route, key, compared)
    if isinstance(begun, Answer):
        headers = {"Idempotent-Replayed": "true"}
        return Response(begun.body, begun.status, media_type="application/json", headers=headers)
    try:
        response = await handle(request)
    except BaseException:
        await once.abandon(begun)
        raise
    if 200 <= response.status_code < 300:
        await once.finish(begun, response.status_code, _storable(bytes(response.body)))
    else:
        await once.abandon(begun)
    return response


def _storable(body: bytes) -> str:
    """The answer as it may be kept: a secret is shown once and never stored."""
    value = json.loads(body)
    if isinstance(value, dict) and "secret" in value:
        value["secret"] = None
    return json.dumps(value)
