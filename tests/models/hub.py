"""A hub on loopback that speaks as Hugging Face does: lists, redirects, ETags, ranges, tokens; breaks off when told."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

REPO = "owner/tiny"
PIECE_BYTES = 256 * 1024


@dataclass
class Hub:
    """`files` are those of the one repository. `cut_after` ends the next answers after so many bytes; `stall_after`
    lets one hang there.
    """

    files: dict[str, bytes]
    token: str | None = None
    lfs: bool = True
    etags: bool = True
    ranges: bool = True
    cut_after: list[int] = field(default_factory=list)
    stall_after: int | None = None
    statuses: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    spoiled: bool = False
    url: str = ""
    ranged: list[str] = field(default_factory=list)
    sent: int = 0
    authorisations: list[str | None] = field(default_factory=list)

    def sha256(self, name: str) -> str:
        return hashlib.sha256(self.files[name]).hexdigest()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        path = request.path
        if path.startswith("/store/"):
            return await self._file(request, path.removeprefix("/store/"))
        self.authorisations.append(request.headers.get("authorization"))
        if self.token is not None and request.headers.get("authorization") != f"Bearer {self.token}":
            return web.Response(status=401)
        if path.startswith(f"/api/models/{REPO}/revision/"):
            return web.json_response({"sha": "c0ffee", "siblings": [self._sibling(name) for name in self.files]})
        prefix = f"/{REPO}/resolve/c0ffee/"
        if path.startswith(prefix) and path.removeprefix(prefix) in self.files:
            return web.Response(
                status=302, headers={"Location": f"/store/{path.removeprefix(prefix)}?signature=secret"}
            )
        return web.Response(status=404)

    def _sibling(self, name: str) -> dict[str, object]:
        body = self.files[name]
        if self.lfs and not name.endswith(".json"):
            return {"rfilename": name, "size": len(body), "lfs": {"sha256": self.sha256(name), "size": len(body)}}
        blob = hashlib.sha1(b"blob %d\0" % len(body) + body, usedforsecurity=False).hexdigest()
        return {"rfilename": name, "size": len(body), "blobId": blob}

    async def _file(self, request: web.Request, name: str) -> web.StreamResponse:
        if self.statuses:
            status, headers = self.statuses.pop(0)
            return web.Response(status=status, headers=headers)
        body = self.files.get(name)
        if body is None:
            return web.Response(status=404)
        etag = f'"{hashlib.md5(body, usedforsecurity=False).hexdigest()}"'
        start = 0
        wanted = request.headers.get("range")
        if wanted is not None and self.ranges and request.headers.get("if-range", etag) == etag:
            self.ranged.append(wanted)
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
        status = 206 if start else 200
        response = web.StreamResponse(status=status, headers={"ETag": etag} if self.etags else {})
        response.content_length = len(body) - start
        if start:
            response.headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
        await response.prepare(request)
        await self._send(request, response, bytes(len(body) - start) if self.spoiled else body[start:])
        return response

    async def _send(self, request: web.Request, response: web.StreamResponse, body: bytes) -> None:
        cut = self.cut_after.pop(0) if self.cut_after else None
        stall, self.stall_after = self.stall_after, None
        shown = body[: cut if cut is not None else stall]
        for start in range(0, len(shown), PIECE_BYTES):
            await response.write(shown[start : start + PIECE_BYTES])
            self.sent += len(shown[start : start + PIECE_BYTES])
        if stall is not None:
            await asyncio.sleep(600)
        if cut is not None and request.transport is not None:
            await asyncio.sleep(0.05)
            request.transport.abort()


@asynccontextmanager
async def hub(files: dict[str, bytes], *, host: str = "127.0.0.1", **more: Any) -> AsyncIterator[Hub]:
    """One, on a free port of an address of this machine."""
    made = Hub(files, **more)
    app = web.Application()
    app.router.add_get("/{path:.*}", made.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, host, 0)
    await site.start()
    made.url = f"http://{host}:{runner.addresses[0][1]}"
    try:
        yield made
    finally:
        await runner.cleanup()
