"""The web server of control on its inherited socket, and what it says while there is no database yet.

Used by `stoker.serving` alone. Without `wait` or `show` nothing is served: connections wait in the socket's queue.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator

import uvicorn
from starlette.applications import Starlette
from starlette.types import Message, Receive, Scope, Send

from stoker.api.problems import problem

# Of the reasons in docs/refusals.md: the gateway's own for a control that is away.
_HEADERS = {"X-Stoker-Reason": "control_unavailable", "Retry-After": "2"}
# How long what is being answered may still take at the end.
GRACE_S = 2.0


class _Server(uvicorn.Server):
    """Signals are the role's own business, not the web server's."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class Front:
    """All HTTP faces, or 503 with a reason as long as there are none."""

    def __init__(self, listening: socket.socket, *, grace_s: float = GRACE_S) -> None:
        self._socket = listening
        self._grace_s = grace_s
        self._answering: set[asyncio.Task[object]] = set()
        self._closing = False
        self._faces: Starlette | None = None
        self._why = ""
        self._server: _Server | None = None
        self._serving: asyncio.Task[None] | None = None

    def wait(self, why: str) -> None:
        """From now on, tell callers why they have to come again."""
        self._why = why
        self._serve()

    def show(self, faces: Starlette) -> None:
        """From now on, serve."""
        self._faces = faces
        self._serve()

    def _serve(self) -> None:
        if self._server is not None:
            return
        config = uvicorn.Config(
            self._answer,
            log_config=None,
            access_log=False,
            server_header=False,
            forwarded_allow_ips="*",
            # What is cut short after the grace has this for its last words.
            timeout_graceful_shutdown=int(self._grace_s) + 2,
            ws="none",
            lifespan="off",
            interface="asgi3",
        )
        self._server = _Server(config)
        self._serving = asyncio.create_task(self._server.serve(sockets=[self._socket]))

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun: dict[bytes, bytes] | None = None

        async def noting(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = dict(message.get("headers", ()))
            await send(message)

        task = asyncio.current_task()
        assert task is not None
        self._answering.add(task)
        try:
            await (self._faces or problem(503, self._why, headers=_HEADERS))(scope, receive, noting)
        except asyncio.CancelledError:
            if not self._closing:
                raise
            if begun is None:
                await problem(503, "control is stopping", headers=_HEADERS)(scope, receive, send)
            elif begun.get(b"content-type", b"").startswith(b"text/event-stream"):
                # Whoever reads it knows by the events whether there is more, and asks for that.
                await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            self._answering.discard(task)

    async def close(self) -> None:
        """Finish what is being answered, for two seconds; then answer that control is away, and end streams."""
        if self._server is not None and self._serving is not None:
            self._server.should_exit = True
            await asyncio.wait([self._serving], timeout=self._grace_s)
            self._closing = True
            for task in tuple(self._answering):
                task.cancel()
            await self._serving
