"""What the `exo` program sends, request by request in the order that was recorded from it, and what it needs back.

It is a program in Go: its bodies have no spaces and sorted keys, it asks for the zones first and unsigned, then goes
where they say, finds ids by names in lists, and polls operations.
"""

from __future__ import annotations

import json
from base64 import b64encode
from datetime import datetime
from http.client import HTTPConnection
from time import time
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from acceptance.installation import until
from clients.exoscale import conformance
from clients.exoscale.running import Stoker
from stoker.dialects.exoscale.signature import SCHEME, Signature, digest_of, signed_text

pytestmark = [pytest.mark.process, pytest.mark.timeout(300)]
AGENT = "exocli/1.97.0/unknown egoscale/v3.1.42 (linux; amd64)"


class Exo:
    """Sends what `exo` sends. `driven` has the operations that it asked for, by their ids."""

    def __init__(self, stoker: Stoker) -> None:
        self.endpoint = stoker.url
        self.key, self.secret = stoker.pair()
        self.driven: set[str] = set()

    def zone(self) -> str:
        """Every command begins with this; the address that all that follows goes to."""
        status, answer = self._send("GET", f"{self.endpoint}/zone", signed=False)
        assert status == 200
        [zone] = answer["zones"]
        assert zone["name"] == "ch-dk-2", "its default"
        assert zone["api-endpoint"].startswith("http")
        self.driven.add("list-zones")
        return str(zone["api-endpoint"])

    def command(self, operation: str, method: str, path: str, body: object = None) -> tuple[int, Any]:
        """The zones, then this."""
        self.driven.add(operation)
        return self._send(method, self.zone() + path, body)

    def ok(self, operation: str, method: str, path: str, body: object = None) -> Any:
        status, answer = self.command(operation, method, path, body)
        assert status == 200, answer
        return answer

    def done(self, operation: str, method: str, path: str, body: object = None) -> Any:
        """A change, and its operation until it has ended well."""
        found = self.ok(operation, method, path, body)
        assert found["id"]
        if found["state"] == "pending":
            id = found["id"]
            found = until(lambda: self._ended(id), what="the operation's end")
            self.driven.add("get-operation")
        assert found["state"] == "success", found
        return found

    def _ended(self, operation: str) -> Any:
        _, found = self._send("GET", f"{self.endpoint}/operation/{operation}")
        return found if found["state"] != "pending" else None

    def find(self, name: str, *, models: bool = False) -> str:
        """The id of what has this name: `exo` looks through the list, and fails when a name is there twice."""
        noun, operation = ("model", "list-models") if models else ("deployment", "list-deployments")
        listed = self.ok(operation, "GET", f"/ai/{noun}")[f"{noun}s"]
        for each in listed:
            # A time without a zone makes it fail the whole list.
            assert datetime.fromisoformat(each["created-at"]).tzinfo is not None
        [id] = [each["id"] for each in listed if name in (each["name"], each["id"])]
        return str(id)

    def _send(self, method: str, url: str, body: object = None, *, signed: bool = True) -> tuple[int, Any]:
        data = b"" if body is None else json.dumps(body, separators=(",", ":"), sort_keys=True).encode()
        split = urlsplit(url)
        headers = {"User-Agent": AGENT} | ({"Content-Type": "application/json"} if data else {})
        if signed:
            headers["Authorization"] = self._authorization(method, split.path, split.query, data)
        connection = HTTPConnection(split.netloc, timeout=30)
        try:
            target = f"{split.path}?{split.query}" if split.query else split.path
            connection.request(method, target, body=data or None, headers=headers)
            response = connection.getresponse()
            return response.status, json.loads(response.read())
        finally:
            connection.close()

    def _authorization(self, method: str, path: str, query: str, body: bytes) -> str:
        names = tuple(sorted(name for name, _ in parse_qsl(query)))
        given = Signature(credential=self.key, arguments=names, expires=int(time()) + 600, digest=b"")
        signature = b64encode(
            digest_of(signed_text(given, method=method, path=path, query=query, body=body), self.secret)
        )
        arguments = f",signed-query-args={';'.join(names)}" if names else ""
        return f"{SCHEME} credential={self.key}{arguments},expires={given.expires},signature={signature.decode()}"


def test_every_recorded_sequence_in_its_order(stoker: Stoker) -> None:
    exo = Exo(stoker)
    model = "HuggingFaceTB/SmolLM2-135M-Instruct"
    exo.done("create-model", "POST", "/ai/model", {"huggingface-token": "", "name": model})
    shown = exo.ok("get-model", "GET", f"/ai/model/{exo.find(model, models=True)}")
    assert (shown["name"], shown["state"]) == (model, "ready")
    created = {
        "gpu-count": 1,
        "gpu-type": "cpu",
        "inference-engine-parameters": ["--max-model-len=512"],
        "model": {"name": model},
        "name": "exo-chat",
        "replicas": 1,
    }
    status, refused = exo.command("create-deployment", "POST", "/ai/deployment", created | {"replicas": 0})
    assert (status, refused["title"]) == (400, "Bad Request"), "what it sends without --replicas"
    assert refused["errors"][0]["location"] == "$['replicas']"
    exo.done("create-deployment", "POST", "/ai/deployment", created)
    show = exo.ok("get-deployment", "GET", f"/ai/deployment/{exo.find('exo-chat')}")
    assert (show["state"], show["inference-engine-parameters"]) == ("ready", ["--max-model-len=512"])
    path = f"/ai/deployment/{exo.find('exo-chat')}"
    exo.done("update-deployment", "PATCH", path, {"name": "exo-talk"})
    exo.done("update-deployment", "PATCH", f"/ai/deployment/{exo.find('exo-talk')}", {})
    for replicas in (0, 1):
        exo.done("scale-deployment", "POST", f"/ai/deployment/{exo.find('exo-talk')}/scale", {"replicas": replicas})
    assert exo.ok("reveal-deployment-api-key", "GET", f"{path}/api-key")["api-key"].startswith("sk-")
    for line in exo.ok("get-deployment-logs", "GET", f"{path}/logs?tail=10")["logs"]:
        assert datetime.fromisoformat(line["time"]).tzinfo is not None
    for version in ("", "?version=0.15.1"):
        help = exo.ok("get-inference-engine-help", "GET", f"/ai/help/inference-engine-parameters{version}")
        for each in help["parameters"]:
            assert isinstance(each["default"], str), "it reads nothing but texts"
            assert all(isinstance(value, str) for value in each.get("allowed-values", []))
    types = exo.ok("list-ai-instance-types", "GET", "/ai/instance-type")["instance-types"]
    assert {"family": "cpu", "authorized": True} in types
    status, used = exo.command("delete-model", "DELETE", f"/ai/model/{exo.find(model, models=True)}")
    assert (status, used["deployments"]) == (412, ["exo-talk"])
    exo.done("delete-deployment", "DELETE", f"/ai/deployment/{exo.find('exo-talk')}")
    exo.done("delete-model", "DELETE", f"/ai/model/{exo.find(model, models=True)}")
    assert conformance.of(conformance.EXO) - exo.driven == set()


def test_an_error_is_made_of_texts(stoker: Stoker) -> None:
    exo = Exo(stoker)
    for method, path, body in (
        ("POST", "/ai/deployment", {"name": []}),
        ("POST", "/ai/deployment", []),
        ("GET", "/ai/deployment/nothing", None),
        ("GET", "/nowhere", None),
        ("GET", "/ai/help/inference-engine-parameters?version=9", None),
    ):
        status, answer = exo.command("list-deployments", method, path, body)
        assert status in (400, 404)
        assert all(isinstance(answer[name], str) for name in ("title", "detail", "error"))
        assert all(isinstance(each["detail"], str) for each in answer.get("errors", []))
    assert answer["errors"][0]["detail"] == 'does not have a value in the enumeration ["0.12.0", "0.15.1"]'
