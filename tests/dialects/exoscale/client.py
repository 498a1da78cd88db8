"""Exoscale's API on a world of virtual time, called as its clients call it: signed, or with a bearer key."""

from __future__ import annotations

import base64
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from api.client import Answer, Api, Exchange, run
from simulation.virtual import wall
from stoker.dialects.exoscale.signature import SCHEME, Signature, digest_of, signed_text
from stoker.domain.access import KeyDraft, Scope
from stoker.store.installation import DEFAULT_PROJECT

ROOT = "/exoscale/v2"
SMOL = "HuggingFaceTB/SmolLM2-135M-Instruct"


def authorization(
    credential: str, secret: str, *, method: str, target: str, body: bytes = b"", expires: int | None = None
) -> str:
    """The header that a client sends."""
    path, _, query = target.partition("?")
    names = tuple(sorted({name for name, _ in parse_qsl(query)}))
    given = Signature(
        credential=credential, arguments=names, expires=int(wall()) + 600 if expires is None else expires, digest=b""
    )
    text = signed_text(given, method=method, path=path, query=query, body=body)
    arguments = f",signed-query-args={';'.join(names)}" if names else ""
    signature = base64.b64encode(digest_of(text, secret)).decode()
    return f"{SCHEME} credential={credential}{arguments},expires={given.expires},signature={signature}"


@dataclass(frozen=True)
class Cloud:
    """The API, and a pair that signs for it."""

    api: Api
    credential: str
    secret: str

    async def send(self, method: str, target: str, body: bytes = b"", headers: Mapping[str, str] = {}) -> Answer:
        """A request as it is. `target` begins at the root of the server."""
        sent = {"host": "127.0.0.1:7878"} | ({"content-type": "application/json"} if body else {}) | dict(headers)
        return await Exchange(self.api.app, method, target, sent, body).answer()

    async def call(self, method: str, path: str, value: object = None) -> Answer:
        """A signed call of `path` below the API's address."""
        body, target = b"" if value is None else json.dumps(value).encode(), ROOT + path
        signed = authorization(self.credential, self.secret, method=method, target=target, body=body)
        return await self.send(method, target, body, {"authorization": signed})

    async def ok(self, method: str, path: str, value: object = None) -> Any:
        """The same, which must succeed."""
        answer = await self.call(method, path, value)
        assert answer.status == 200, answer.body
        return answer.json

    async def wait(self, operation: Any) -> Any:
        """The operation when it has ended."""
        while operation["state"] == "pending":
            operation = await self.ok("GET", f"/operation/{operation['id']}")
        return operation

    async def deploy(self, name: str = "d", **more: Any) -> str:
        """A deployment of the built-in model; its id."""
        made = await self.ok("POST", "/ai/deployment", deployment(name, **more))
        return str(made["reference"]["id"])


def deployment(name: str = "d", **more: Any) -> dict[str, Any]:
    """A request to create one."""
    values: dict[str, Any] = {
        "name": name,
        "model": {"name": SMOL},
        "gpu-type": "cpu",
        "gpu-count": 1,
        "replicas": 1,
        **{key.replace("_", "-"): value for key, value in more.items()},
    }
    return {key: value for key, value in values.items() if value is not None}


def told(answer: Answer, status: int) -> str:
    """The message of an error, which must have this status and the whole envelope."""
    assert answer.status == status, answer.body
    body = answer.json
    assert {"type", "title", "status", "detail", "error"} <= set(body)
    assert body["status"] == status
    assert all(isinstance(body[name], str) for name in ("type", "title", "detail", "error"))
    assert body["detail"] == body["error"]
    return str(body["detail"])


async def pair(api: Api, *scopes: Scope, **more: Any) -> tuple[str, str]:
    """A new signing pair."""
    draft = KeyDraft(name="pair", scopes=frozenset(scopes or {Scope.ADMIN}), signing=True, **more)
    key, secret = await api.world.stoker.keys.make(draft, project=DEFAULT_PROJECT, by=None)
    assert key.access_id is not None
    return key.access_id, secret


def play(body: Callable[[Cloud], Awaitable[None]]) -> None:
    """Run `body` with one of these."""

    async def main(api: Api) -> None:
        await body(Cloud(api, *await pair(api)))

    run(main)
