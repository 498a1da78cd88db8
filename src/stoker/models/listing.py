"""Which files a source of the network has: one for a URL, those of a repository that match for Hugging Face.

Speaks the hub's plain HTTP, by which mirrors work too. Called by `stoker.models.fetcher`.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import msgspec

from stoker.domain.models import FetchFailed, ModelSource, SourceKind
from stoker.models.transfer import RemoteFile, Session, refused

LIST_BYTES_MAX = 32 * 1024 * 1024
FILES_MAX = 10_000
# What engines read of a repository without a pattern: not the same weights again in other formats.
_WANTED = ("*.safetensors", "*.json", "*.txt", "*.model", "*.jinja", "*.tiktoken", "*.py")


async def listing(
    session: Session, source: ModelSource, *, sha256: str | None, token: str | None, hf_endpoint: str
) -> tuple[RemoteFile, ...]:
    """The files of a source that is not on this host. Raises `FetchFailed`, `Unavailable`, `UrlRefused`."""
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    if source.kind is SourceKind.URL:
        return (RemoteFile(name=source.file_name, url=source.location, sha256=sha256, headers=headers),)
    repository = quote(source.location, safe="/")
    revision = quote(source.revision or "main", safe="")
    address = f"{hf_endpoint}/api/models/{repository}/revision/{revision}?blobs=true"
    async with session.request("GET", address, headers=headers) as answer:
        if answer.status != 200:
            raise refused(answer)
        raw = await answer.body(bytes_max=LIST_BYTES_MAX)
    try:
        found = msgspec.json.decode(raw, type=dict[str, Any])
        entries: list[Mapping[str, Any]] = found["siblings"]
        # The commit that the revision is now: what is fetched later is of the same one.
        commit = quote(str(found.get("sha") or source.revision or "main"), safe="")
        names = [str(entry["rfilename"]) for entry in entries]
    except (msgspec.DecodeError, KeyError, TypeError) as exc:
        raise FetchFailed(f"{hf_endpoint} does not answer as a hub does: {exc}") from exc
    chosen = _chosen(source, names)
    if sha256 is not None and len(chosen) != 1:
        raise FetchFailed(f"a SHA-256 is for one file, and {source} has {len(chosen)}: name it", permanent=True)
    base = f"{hf_endpoint}/{repository}/resolve/{commit}"
    return tuple(
        _file(entry, f"{base}/{quote(name, safe='/')}", sha256=sha256, headers=headers)
        for name, entry in zip(names, entries, strict=True)
        if name in chosen
    )


def _chosen(source: ModelSource, names: list[str]) -> frozenset[str]:
    safe = [n for n in names if n and not n.startswith("/") and "\\" not in n and ".." not in n.split("/")]
    patterns = _WANTED if source.file is None else (source.file,)
    chosen = frozenset(n for n in safe if any(fnmatch.fnmatchcase(n, pattern) for pattern in patterns))
    if source.file is None and not any(n.endswith(".safetensors") for n in chosen):
        # Older repositories, and those that are made for another engine.
        chosen = frozenset(n for n in safe if not n.startswith("."))
    if not chosen:
        shown = ", ".join(sorted(n for n in safe if n.endswith(".gguf"))[:5] or sorted(safe)[:5]) or "none"
        raise FetchFailed(f"no file of {source.location} matches {source.file!r}; there are {shown}", permanent=True)
    if len(chosen) > FILES_MAX:
        raise FetchFailed(f"{source} has {len(chosen)} files, more than {FILES_MAX}", permanent=True)
    return chosen


def _file(entry: Mapping[str, Any], url: str, *, sha256: str | None, headers: Mapping[str, str]) -> RemoteFile:
    lfs = entry.get("lfs")
    digest = lfs.get("sha256") or lfs.get("oid") if isinstance(lfs, dict) else None
    size = entry.get("size")
    return RemoteFile(
        name=str(entry["rfilename"]),
        url=url,
        size=size if isinstance(size, int) else None,
        sha256=sha256 or (str(digest).removeprefix("sha256:") if digest else None),
        blob_sha1=None if digest or not isinstance(entry.get("blobId"), str) else entry["blobId"],
        headers=headers,
        digest_is_etag=True,
    )
