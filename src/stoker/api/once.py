"""How native routes take requests: from callers whom the table lets in, bodies bounded, and a POST with an
`Idempotency-Key` once.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from stoker.api.actions import action_of
from stoker.domain.access import Principal
from stoker.domain.authorisation import admit
from stoker.domain.errors import TooLarge
from stoker.web import BODY_BYTES_MAX, Answer, check_characters, principal_of, read_body, services_of

Handle = Callable[[Request], Coroutine[Any, Any, Response]]


class OnceRoute(APIRoute):
    """A route that asks who calls before anything else, bounds its body and honours `Idempotency-Key` on POST. Bodies
    are JSON of up to `bytes_max`, or anything with `raw`. What makes one too long is at `large`, a JSON pointer.
    """

    bytes_max = BODY_BYTES_MAX
    raw = False
    large = ""

    def get_route_handler(self) -> Handle:
        handle = self._prepared(super().get_route_handler())
        route = f"{self.path}"
        [action] = {action_of(method, self.path) for method in self.methods or ()}

        async def bounded(request: Request) -> Response:
            # First of all: nobody's body is read, and no mistake in it explained, without a key that may do this.
            caller = principal_of(request)
            admit(caller, action)
            request.state.principal = caller
            await _bound_body(request, self.bytes_max, raw=self.raw, large=self.large)
            key = request.headers.get("idempotency-key")
            if key is None or request.method != "POST":
                return await handle(request)
            return await _once(request, caller, route, key, handle)

        return bounded

    def _prepared(self, handle: Handle) -> Handle:
        async def prepared(request: Request) -> Response:
            await self.prepare(request)
            return await handle(request)

        return prepared

    async def prepare(self, request: Request) -> None:
        """What a kind of route does with a request before it is read. Its body is there."""


async def _bound_body(request: Request, bytes_max: int, *, raw: bool, large: str) -> None:
    if request.method not in ("POST", "PUT", "PATCH"):
        return
    if raw:
        await read_body(request, bytes_max=bytes_max)
        return
    try:
        body = await read_body(request, bytes_max=bytes_max)
    except HTTPException as exc:
        raise TooLarge.at(large, str(exc.detail)) from exc
    if body and not _says_json(request.headers.get("content-type", "")):
        raise HTTPException(415, "a body is JSON: send it with `Content-Type: application/json`")
    check_characters(body)


def _says_json(content_type: str) -> bool:
    kind = content_type.partition(";")[0].strip().lower()
    return kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json"))


async def _once(
    request: Request,
    caller: Principal,
    route: str,
    key: str,
    handle: Handle,
) -> Response:
    once = services_of(request).once
    # The path is part of what is compared: the same key for another endpoint is another request. So is the caller: an
    # answer is for whom it was made, as others may not be allowed to see it.
    compared = b"\0".join((caller.key.encode(), request.url.path.encode(), await request.body()))
    begun = await once.begin(caller.project, route, key, compared)
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
