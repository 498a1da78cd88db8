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
from starlette.types import Receive, Scope, Send

from stoker.api.problems import problem

# Of the reasons in docs/refusals.md: the gateway's own for a control that is away.
_HEADERS = {"X-Stoker-Reason": "control_unavailable", "Retry-After": "2"}


class _Server(uvicorn.Server):
    """Signals are the role's own business, not the web server's."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class Front:
    """All HTTP faces, or 503 with a reason as long as there are none."""

    def __init__(self, listening: socket.socket) -> None:
        self._socket = listening
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
            timeout_graceful_shutdown=2,
            ws="none",
            lifespan="off",
            interface="asgi3",
        )
        self._server = _Server(config)
        self._serving = asyncio.create_task(self._server.serve(sockets=[self._socket]))

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._faces is not None:
            await self._faces(scope, receive, send)
        else:
            await problem(503, self._why, headers=_HEADERS)(scope, receive, send)

    async def close(self) -> None:
        """Finish what is being answered, for two seconds."""
        if self._server is not None and self._serving is not None:
            self._server.should_exit = True
            await self._serving
