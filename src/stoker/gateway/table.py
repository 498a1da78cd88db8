"""What the gateway knows: endpoints by every name, inference addresses, keys by digest. Fed by the link, kept on disk.

Look-ups are dictionary look-ups; nothing here reads a clock or a socket. `TableFile` writes outside the event loop.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import msgspec
import structlog

from stoker.domain.endpoint import Access
from stoker.link.messages import AddressEntry, Delta, EndpointEntry, KeyEntry, Snapshot

log = structlog.get_logger(__name__)

# Refusals that say something of the moment: after a restart of everything they are an old moment's.
_LASTING_REFUSALS = frozenset({"stopped", "deleting"})


class Address:
    """One row: where an inference address leads. `strip_chars` of the path are not for the worker to see."""

    __slots__ = ("_base", "_open", "endpoint", "hosted", "keys", "pin", "strip_chars")

    def __init__(self, endpoint: str, entry: AddressEntry) -> None:
        self.endpoint = endpoint
        self.hosted = bool(entry.host)
        self.pin = entry.worker
        self.keys = entry.keys
        self.strip_chars = len(_prefix(entry)) if entry.strip else 0
        self._base = entry.base.rstrip("/").encode("utf-8")
        self._open = _prefix(entry) if entry.open else None

    def is_open(self, path: bytes) -> bool:
        """May anybody ask for this path (raw, without query)?"""
        return path == self._open

    def below(self, target: bytes) -> bytes:
        """What of this target (with its query) the worker sees."""
        rest = target[self.strip_chars :]
        if not rest.startswith(b"/"):
            rest = b"/" + rest
        base = self._base
        if base and not (rest.startswith(base) and rest[len(base) : len(base) + 1] in (b"", b"/", b"?")):
            path, mark, query = rest.partition(b"?")
            rest = base + (b"" if path == b"/" else path) + mark + query
        return rest


def _prefix(entry: AddressEntry) -> bytes:
    return entry.prefix.rstrip("/").encode("utf-8")


class _Rows:
    """The rows of one host, found by the longest prefix in whole path segments."""

    __slots__ = ("_by_prefix", "_depths", "_prefixes_at")

    def __init__(self) -> None:
        self._by_prefix: dict[bytes, list[Address]] = {}
        self._prefixes_at: dict[int, int] = {}
        self._depths: tuple[int, ...] = ()

    def __bool__(self) -> bool:
        return bool(self._by_prefix)

    def add(self, prefix: bytes, address: Address) -> None:
        rows = self._by_prefix.setdefault(prefix, [])
        if not rows:
            self._count(prefix, 1)
        rows.append(address)

    def remove(self, prefix: bytes, endpoint: str) -> None:
        rows = self._by_prefix.get(prefix)
        if rows is None:
            return
        rows[:] = [address for address in rows if address.endpoint != endpoint]
        if not rows:
            del self._by_prefix[prefix]
            self._count(prefix, -1)

    def _count(self, prefix: bytes, step: int) -> None:
        depth = prefix.count(b"/")
        count = self._prefixes_at.get(depth, 0) + step
        if count:
            self._prefixes_at[depth] = count
        else:
            del self._prefixes_at[depth]
        if count <= 1:
            self._depths = tuple(sorted(self._prefixes_at, reverse=True))

    def find(self, path: bytes) -> Address | None:
        for depth in self._depths:
            segments = path.split(b"/", depth + 1)
            if len(segments) > depth:
                found = self._by_prefix.get(b"/".join(segments[: depth + 1]))
                if found is not None:
                    # Two endpoints that claim one address: the one that was there first keeps it.
                    return found[0]
        return None


class Table:
    """The table at `seq`. `present` is False until a snapshot or a saved table was taken; `changes` counts them."""

    def __init__(self) -> None:
        self.present = False
        self.seq = 0
        self.changes = 0
        self.endpoints: dict[str, EndpointEntry] = {}
        self.keys: dict[str, KeyEntry] = {}
        # Ids of those that requests came with since this was last reported.
        self.keys_used: set[str] = set()
        self.management_hosts: frozenset[bytes] = frozenset()
        self._open: set[str] = set()
        self._named: dict[str, dict[str, EndpointEntry]] = {}
        self._serving: dict[str, dict[str, EndpointEntry]] = {}
        self._rows = _Rows()
        self._hosts: dict[bytes, _Rows] = {}

    def replace(self, snapshot: Snapshot) -> None:
        """Take the snapshot for all there is."""
        self.changes += 1
        for endpoint in [*self.endpoints]:
            self._drop(endpoint)
        self.keys = {key.digest: key for key in snapshot.keys}
        for entry in snapshot.endpoints:
            self._put(entry)
        self.management_hosts = frozenset(_host(host) for host in snapshot.management_hosts)
        self.seq = snapshot.seq
        self.present = True

    def change(self, delta: Delta) -> None:
        """Take over what a delta says."""
        self.changes += 1
        for endpoint in delta.endpoints_gone:
            self._drop(endpoint)
        for entry in delta.endpoints:
            self._put(entry)
        for digest in delta.keys_gone:
            self.keys.pop(digest, None)
        for key in delta.keys:
            self.keys[key.digest] = key
        self.seq = delta.seq

    def to_snapshot(self) -> Snapshot:
        """All of it, as it would be sent."""
        hosts = tuple(sorted(host.decode() for host in self.management_hosts))
        return Snapshot(self.seq, tuple(self.endpoints.values()), tuple(self.keys.values()), management_hosts=hosts)

    def find_address(self, host: bytes, path: bytes) -> Address | None:
        """The row for a request's host (lower case, without port) and path (raw, without query)."""
        if self._hosts:
            rows = self._hosts.get(host)
            if rows is not None:
                found = rows.find(path)
                if found is not None:
                    return found
        return self._rows.find(path)

    def is_host(self, host: bytes) -> bool:
        """Does any row name this host?"""
        return host in self._hosts

    @property
    def has_open(self) -> bool:
        """Is there an endpoint that needs no key?"""
        return bool(self._open)

    def by_reference(self, text: str) -> EndpointEntry | None:
        """The endpoint with this id, slug or number."""
        entries = self._named.get(text, {}).values()
        for names in (_id, _slug, _number):
            for entry in entries:
                if names(entry) == text:
                    return entry
        return None

    def named(self, text: str) -> Iterable[EndpointEntry]:
        """Endpoints whose slug, name or id this is; the slug's owner first."""
        entries = self._named.get(text)
        if not entries:
            return ()
        return sorted(
            (entry for entry in entries.values() if text in (entry.slug, entry.name, entry.id)),
            key=lambda entry: entry.slug != text,
        )

    def serving(self, model: str) -> Iterable[EndpointEntry]:
        """Endpoints whose workers answer to this model's name."""
        return self._serving.get(model, {}).values()

    def _put(self, entry: EndpointEntry) -> None:
        known = self.endpoints.get(entry.id)
        # Nearly every change is one of workers: names and rows stay as they are, and so does who was first.
        if known is None or known.addresses != entry.addresses:
            self._drop_rows(known)
            for item in entry.addresses:
                self._rows_of(item.host).add(_prefix(item), Address(entry.id, item))
        self._drop_names(known)
        self.endpoints[entry.id] = entry
        if entry.access == Access.OPEN:
            self._open.add(entry.id)
        for name in _names(entry):
            self._named.setdefault(name, {})[entry.id] = entry
        for model in entry.models:
            self._serving.setdefault(model, {})[entry.id] = entry

    def _drop(self, endpoint: str) -> None:
        entry = self.endpoints.pop(endpoint, None)
        self._drop_rows(entry)
        self._drop_names(entry)

    def _drop_names(self, entry: EndpointEntry | None) -> None:
        if entry is None:
            return
        self._open.discard(entry.id)
        for index, names in ((self._named, _names(entry)), (self._serving, set(entry.models))):
            for name in names:
                index[name].pop(entry.id, None)
                if not index[name]:
                    del index[name]

    def _drop_rows(self, entry: EndpointEntry | None) -> None:
        if entry is None:
            return
        for item in entry.addresses:
            rows = self._rows_of(item.host)
            rows.remove(_prefix(item), entry.id)
            if item.host and not rows:
                del self._hosts[_host(item.host)]

    def _rows_of(self, host: str) -> _Rows:
        if not host:
            return self._rows
        return self._hosts.setdefault(_host(host), _Rows())


def _id(entry: EndpointEntry) -> str:
    return entry.id


def _slug(entry: EndpointEntry) -> str:
    return entry.slug


def _number(entry: EndpointEntry) -> str:
    return str(entry.number)


def _names(entry: EndpointEntry) -> set[str]:
    return {entry.id, entry.slug, str(entry.number), entry.name}


def _host(text: str) -> bytes:
    return text.lower().encode("idna" if not text.isascii() else "ascii")


def host_of(value: bytes) -> bytes:
    """The host of a Host header, in lower case and without port."""
    if value.startswith(b"["):
        return value.partition(b"]")[0].lower() + b"]"
    return value.partition(b":")[0].lower()


class TableFile:
    """The last table on disk, readable by its owner only: it has digests of keys and addresses of workers."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self) -> Snapshot | None:
        """The saved table, or `None` when there is none that can be read. Refusals of the moment are left out."""
        try:
            data = self._path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as exc:
            log.warning("table_unreadable", path=str(self._path), error=str(exc))
            return None
        try:
            saved = msgspec.json.decode(data, type=Snapshot)
        except msgspec.DecodeError as exc:
            log.warning("table_unreadable", path=str(self._path), error=str(exc))
            return None
        entries = tuple(
            entry
            if entry.refusal is None or entry.refusal in _LASTING_REFUSALS
            else msgspec.structs.replace(entry, refusal=None, refusal_text="", retry_after_s=None)
            for entry in saved.endpoints
        )
        return Snapshot(saved.seq, entries, saved.keys, management_hosts=saved.management_hosts)

    def save(self, snapshot: Snapshot) -> None:
        """Replace the saved table in one step; blocks, so that it is not for the event loop. Raises `OSError`."""
        temporary = self._path.with_name(f"{self._path.name}.{os.getpid()}")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(msgspec.json.encode(snapshot))
        temporary.replace(self._path)
