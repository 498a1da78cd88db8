"""What the cluster knows: objects with versions, and what has happened to them, as far back as it remembers."""

from __future__ import annotations

import asyncio
import copy
import re
import time
import uuid
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

Thing = dict[str, Any]
Key = tuple[str, str | None, str]


class Fault(Exception):
    """An answer other than success, as the fields of a Status object."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.code, self.reason, self.message = code, reason, message

    def status(self) -> Thing:
        return {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            "code": self.code,
        }


def now() -> str:
    return stamp(time.time())


def stamp(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def key_of(thing: Mapping[str, Any]) -> Key:
    return thing["kind"], thing["metadata"].get("namespace"), thing["metadata"]["name"]


class Objects:
    """`version` is that of the last change; watches from before `forgotten` are too old."""

    def __init__(self) -> None:
        self.version, self.forgotten = 100, 0
        self._things: dict[Key, Thing] = {}
        self.history: list[tuple[int, str, Thing]] = []
        self._changed = asyncio.Event()

    def find(self, kind: str, namespace: str | None, name: str) -> Thing | None:
        return self._things.get((kind, namespace, name))

    def get(self, kind: str, namespace: str | None, name: str) -> Thing:
        found = self.find(kind, namespace, name)
        if found is None:
            raise Fault(404, "NotFound", f'{kind.lower()}s "{name}" not found')
        return found

    def all(self, kind: str, namespace: str | None = None) -> list[Thing]:
        return [
            thing
            for (of, within, _), thing in sorted(self._things.items(), key=lambda item: str(item[0]))
            if of == kind and namespace in (None, within)
        ]

    def create(self, thing: Thing) -> Thing:
        key = key_of(thing)
        if key in self._things:
            raise Fault(409, "AlreadyExists", f'{key[0].lower()}s "{key[2]}" already exists')
        thing = copy.deepcopy(thing)
        thing["metadata"] |= {"uid": str(uuid.uuid4()), "creationTimestamp": now()}
        return self._write("ADDED", thing)

    def update(self, thing: Thing) -> Thing:
        """Raises a conflict when somebody else has changed it since it was read."""
        there = self._things.get(key_of(thing))
        if there is None or there["metadata"]["uid"] != thing["metadata"]["uid"]:
            raise Fault(404, "NotFound", f'{thing["kind"].lower()}s "{thing["metadata"]["name"]}" not found')
        if there["metadata"]["resourceVersion"] != thing["metadata"]["resourceVersion"]:
            raise Fault(
                409, "Conflict", "the object has been modified; please apply your changes to the latest version"
            )
        return self._write("MODIFIED", copy.deepcopy(thing))

    def change(self, key: Key, uid: str, **status: Any) -> Thing | None:
        """Set fields of its status; `None` when it is gone."""
        there = self._things.get(key)
        if there is None or there["metadata"]["uid"] != uid:
            return None
        thing = copy.deepcopy(there)
        thing["status"] = {**thing.get("status", {}), **status}
        return self._write("MODIFIED", thing)

    def remove(self, key: Key) -> Thing | None:
        thing = self._things.pop(key, None)
        if thing is not None:
            thing = copy.deepcopy(thing)
            self._tell("DELETED", thing)
        return thing

    def _write(self, kind: str, thing: Thing) -> Thing:
        self._things[key_of(thing)] = thing
        self._tell(kind, thing)
        return thing

    def _tell(self, kind: str, thing: Thing) -> None:
        self.version += 1
        thing["metadata"]["resourceVersion"] = str(self.version)
        self.history.append((self.version, kind, thing))
        self._changed.set()
        self._changed = asyncio.Event()

    def forget(self) -> None:
        """Remember nothing of what has happened so far."""
        self.history.clear()
        self.version += 1
        self.forgotten = self.version

    async def changed(self, within_s: float) -> None:
        """Wait until something happens, or the time is over."""
        try:
            async with asyncio.timeout(within_s):
                await self._changed.wait()
        except TimeoutError:
            return

    def since(self, version: int) -> Iterator[tuple[int, str, Thing]]:
        if version < self.forgotten:
            raise Fault(410, "Expired", f"too old resource version: {version} ({self.forgotten})")
        # Each event is one version.
        behind = self.version - version
        yield from self.history[-behind:] if behind > 0 else ()


def condition(thing: Thing, kind: str, status: str, **more: Any) -> list[Thing]:
    """The conditions of its status with this one changed."""
    others = [each for each in thing.get("status", {}).get("conditions", ()) if each["type"] != kind]
    return [*others, {"type": kind, "status": status, "lastTransitionTime": now(), **more}]


_LABEL = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?\Z")
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*\Z")


def check_names(thing: Thing) -> list[str]:
    """What the schema does not say of names and labels."""
    metadata, found = thing["metadata"], []
    if len(metadata.get("name", "")) > 253 or not _SUBDOMAIN.match(metadata.get("name", "")):
        found.append(f"metadata.name: Invalid value: {metadata.get('name')!r}: a lowercase RFC 1123 subdomain")
    for group in ("labels", "annotations"):
        for name, value in (metadata.get(group) or {}).items():
            prefix, slash, rest = name.rpartition("/")
            if not rest or not _LABEL.match(rest) or (slash and not _SUBDOMAIN.match(prefix)):
                found.append(f"metadata.{group}: Invalid value: {name!r}")
            if group == "labels" and not _LABEL.match(value):
                found.append(f"metadata.labels: Invalid value: {value!r}")
    return found


def selects(selector: str, labels: Mapping[str, str]) -> bool:
    """Does a label selector (equalities and names) take these labels?"""
    for part in filter(None, selector.split(",")):
        name, equals, value = part.partition("=")
        if labels.get(name) is None or (equals and labels[name] != value.removeprefix("=")):
            return False
    return True
