"""Runs in the environment of Vast.ai's own package, unmodified: one call of its clients for each line of JSON on stdin.

A line is `[client, method, arguments, named]`; the answer `{"is": ...}`, or `{"raised": class, ...}`. Clients are
`sdk` (`vastai.VastAI`), `grammar` (its reader of queries) and `serverless` (`vastai.Serverless`), whose endpoints and
sessions are named by what they are called here.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import sys
from typing import Any


class Serverless:
    """The calls of the asynchronous client, and what they gave."""

    def __init__(self, url: str, key: str) -> None:
        from vastai import Serverless as Client

        # The one line that an installation without a way to the cloud needs.
        Client.SSL_CERT_URL = f"{url}/static/jvastai_root.cer"
        self._client = Client(key, webserver_url=url, autoscaler_url=url)
        self._managed: dict[str, Any] = {}
        self._sessions: dict[str, Any] = {}

    async def enter(self) -> bool:
        await self._client.__aenter__()
        return True

    async def leave(self) -> None:
        await self._client.__aexit__(None, None, None)

    async def create_endpoint(self, **config: Any) -> int:
        from vastai.data.endpoint import EndpointConfig

        made = await self._client.create_endpoint(EndpointConfig(**config))
        self._managed[config["endpoint_name"]] = made
        return int(made.id)

    async def add_workergroup(self, name: str, template: str) -> int:
        return int(await self._managed[name].add_workergroup(template))

    async def managed_request(self, name: str, route: str, payload: Any) -> Any:
        return _plain(await self._managed[name].request(route, payload))

    async def delete(self, name: str) -> None:
        await self._managed[name].delete()

    async def fetch_endpoint(self, id: int) -> Any:
        found = await self._client.fetch_endpoint(id)
        return {"id": found.id, "name": found.config.endpoint_name, "cold_workers": found.config.cold_workers}

    async def find_workergroup_for_endpoint(self, id: int) -> Any:
        return await self._client.find_workergroup_for_endpoint(id)

    async def update_workers(self, id: int) -> Any:
        return await self._client.update_workers(id)

    async def delete_workergroup(self, id: int) -> None:
        await self._client.delete_workergroup(id)

    async def get_endpoint(self, name: str) -> Any:
        found = await self._client.get_endpoint(name)
        return {"id": found.id, "name": found.name}

    async def get_workers(self, name: str) -> Any:
        endpoint = await self._client.get_endpoint(name)
        return [vars(worker) for worker in await endpoint.get_workers()]

    async def request(self, name: str, route: str, payload: Any, **more: Any) -> Any:
        endpoint = await self._client.get_endpoint(name)
        return _plain(await endpoint.request(route, payload, **more))

    async def stream(self, name: str, route: str, payload: Any) -> Any:
        endpoint = await self._client.get_endpoint(name)
        answer = await endpoint.request(route, payload, stream=True)
        return [each async for each in answer["response"]]

    async def queue(self, name: str, route: str, payload: Any, max_retries: int) -> Any:
        endpoint = await self._client.get_endpoint(name)
        return _plain(await self._client.queue_endpoint_request(endpoint, route, payload, max_retries=max_retries))

    async def session(self, name: str, route: str, payload: Any) -> Any:
        endpoint = await self._client.get_endpoint(name)
        session = await endpoint.session(cost=5, lifetime=30)
        first = _plain(await session.request(route, payload))
        second = _plain(await session.request(route, payload))
        was_open = await session.is_open()
        await session.close()
        return {"answers": [first, second], "open": was_open}


def _plain(answer: Any) -> Any:
    return {name: answer.get(name) for name in ("ok", "status", "response", "request_idx", "url", "auth_data")}


async def _called(serverless: Serverless, url: str, key: str, call: list[Any]) -> dict[str, Any]:
    client, method, arguments, named = call
    try:
        if client == "sdk":
            from vastai import VastAI

            # What it says to people is not for the reader of answers.
            with contextlib.redirect_stdout(io.StringIO()):
                return {"is": getattr(VastAI(api_key=key, server_url=url), method)(*arguments, **named)}
        if client == "grammar":
            from vastai.api.query import offers_alias, offers_fields, offers_mult, parse_query

            return {"is": parse_query(*arguments, {}, offers_fields, offers_alias, offers_mult)}
        return {"is": await getattr(serverless, method)(*arguments, **named)}
    except Exception as exc:  # noqa: BLE001
        answer = getattr(exc, "response", None)
        return {
            "raised": type(exc).__name__,
            "text": f"{exc} {getattr(answer, 'text', '')}",
            "status": getattr(answer, "status_code", None),
        }


def main() -> None:
    url, key = sys.argv[1:]
    loop = asyncio.new_event_loop()
    serverless = Serverless(url, key)
    for line in sys.stdin:
        answer = loop.run_until_complete(_called(serverless, url, key, json.loads(line)))
        sys.stdout.write(json.dumps(answer, default=str) + "\n")
        sys.stdout.flush()
    loop.run_until_complete(serverless.leave())


if __name__ == "__main__":
    main()
