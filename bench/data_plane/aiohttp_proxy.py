"""A plain streaming proxy on aiohttp's server and client: `python -m data_plane.aiohttp_proxy PORT WORKER`."""

from __future__ import annotations

import asyncio
import sys

import aiohttp
import uvloop
from aiohttp import web

_HOP_BY_HOP = frozenset({"connection", "keep-alive", "te", "transfer-encoding", "upgrade", "content-length", "host"})
_SESSION: web.AppKey[aiohttp.ClientSession] = web.AppKey("session")


async def _serve(port: int, worker: int) -> None:
    async def handle(request: web.Request) -> web.StreamResponse:
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _HOP_BY_HOP}
        url = f"http://127.0.0.1:{worker}{request.path_qs}"
        data = await request.read()
        async with app[_SESSION].request(request.method, url, headers=headers, data=data) as got:
            kept = {name: value for name, value in got.headers.items() if name.lower() not in _HOP_BY_HOP}
            answer = web.StreamResponse(status=got.status, headers=kept)
            answer.content_length = got.content_length
            await answer.prepare(request)
            async for piece in got.content.iter_any():
                await answer.write(piece)
            await answer.write_eof()
            return answer

    app = web.Application(client_max_size=2**30)
    connector = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout, auto_decompress=False) as session:
        app[_SESSION] = session
        app.router.add_route("*", "/{tail:.*}", handle)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port, backlog=16_384).start()
        await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1]), int(sys.argv[2])))
