"""The folder that fetched weights lie in: `{key}/files` is complete, `{key}/parts` is not. Moved from one to the other
at one stroke, so that half a model is never taken for a whole one. Its methods block; nothing is remembered here.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from stoker.domain.models import FetchFailed, ModelSource, SourceKind, WeightsKey

_KEY = re.compile(r"[0-9a-f]{32}\Z")
_SHARD = re.compile(r"-\d{5}-of-\d{5}\Z")
_CHUNK_BYTES = 1024 * 1024
# Left free for the store, logs and everybody else.
RESERVE_BYTES = 512 * 1024 * 1024


class Cache:
    """Weights below `root`, at most `bytes_max` of them (`None`: as many as the disk takes). Readable by their owner
    alone, unless they are for programs of others (`readable_by_all`).
    """

    def __init__(
        self,
        root: Path,
        *,
        bytes_max: int | None,
        reserve_bytes: int = RESERVE_BYTES,
        readable_by_all: bool = False,
    ) -> None:
        self._root = root
        self.bytes_max = bytes_max
        self._reserve_bytes = reserve_bytes
        self._readable_by_all = readable_by_all

    def parts(self, key: WeightsKey) -> Path:
        """Where a download goes on."""
        folder = self._root / key / "parts"
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return folder

    def complete(self, key: WeightsKey) -> Path:
        """Everything is there and checked. Where it lies: its one GGUF file, else the folder."""
        parts, files = self._root / key / "parts", self._root / key / "files"
        if not files.is_dir():
            if self._readable_by_all:
                _show(parts)
            parts.rename(files)
            _sync(files.parent)
        return found_in(files)

    def completed(self, key: WeightsKey) -> Path | None:
        """Where complete weights lie, or `None` when they are not here."""
        files = self._root / key / "files"
        return found_in(files) if files.is_dir() else None

    def sizes(self) -> dict[WeightsKey, int]:
        """The bytes of everything that is kept, whole or in part."""
        if not self._root.is_dir():
            return {}
        return {WeightsKey(p.name): size_of(p) for p in self._root.iterdir() if _KEY.match(p.name)}

    def missing(self, needed: int, *, kept: int) -> tuple[int, str]:
        """How many bytes too few there are for `needed` more beside the `kept`, and what is full."""
        free = shutil.disk_usage(self._existing()).free - self._reserve_bytes
        over = 0 if self.bytes_max is None else kept + needed - self.bytes_max
        if needed - free >= over:
            return needed - free, f"the disk has {gib(max(0, free))} free"
        return over, f"models may take {gib(self.bytes_max or 0)} (models_cache_gib)"

    def _existing(self) -> Path:
        return next(path for path in (self._root, *self._root.parents) if path.exists())

    def remove(self, key: WeightsKey) -> None:
        """Forget them, at one stroke for whoever looks."""
        folder, aside = self._root / key, self._root / f".{key}"
        shutil.rmtree(aside, ignore_errors=True)
        with contextlib.suppress(FileNotFoundError):
            folder.rename(aside)
        shutil.rmtree(aside, ignore_errors=True)

    def tidy(self, known: frozenset[WeightsKey]) -> None:
        """Remove what nobody knows of, and what somebody died while removing."""
        if self._root.is_dir():
            for path in self._root.iterdir():
                if path.name.startswith(".") or (_KEY.match(path.name) and path.name not in known):
                    shutil.rmtree(path, ignore_errors=True)


def gib(count: int) -> str:
    """A number of bytes for people."""
    return f"{count / 2**30:.1f} GiB" if count >= 2**29 else f"{count / 2**20:.1f} MiB"


def size_of(path: Path) -> int:
    """The bytes of a file, or of everything below a folder. Links are not followed; what vanishes meanwhile is none."""
    if not path.is_dir():
        return path.stat().st_size
    total = 0
    for folder, _, names in os.walk(path):
        for name in names:
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(folder, name)).st_size
    return total


def _show(root: Path) -> None:
    """Let everybody read all of it."""
    root.parent.chmod(0o755)
    for folder, _, names in os.walk(root):
        os.chmod(folder, 0o755)
        for name in names:
            os.chmod(os.path.join(folder, name), 0o644)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def found_in(folder: Path) -> Path:
    """What of a folder is the model: its one GGUF file (the first part of one that is split), else the folder."""
    ggufs = sorted(folder.rglob("*.gguf"))
    whole = [file for file in ggufs if not _SHARD.search(file.stem) or "-00001-of-" in file.stem]
    if len(whole) > 1:
        shown = ", ".join(str(file.relative_to(folder)) for file in whole[:5])
        raise FetchFailed(f"there are several GGUF files ({shown}); name one of them", permanent=True)
    return whole[0] if whole else folder


def located(source: ModelSource) -> Path:
    """Where a source of this host is. Raises `FetchFailed` when nothing is there."""
    if source.kind is SourceKind.PACKAGE:
        # Found, never imported: it may be a plug-in of another program, whose libraries are absent.
        package = source.location.partition(".")[0]
        try:
            spec = find_spec(package)
        except (ImportError, ValueError) as exc:
            raise FetchFailed(f"the package {package} cannot be looked into: {exc}", permanent=True) from exc
        if spec is None or not spec.submodule_search_locations:
            raise FetchFailed(f"the package {package} is not installed beside Stoker; install it", permanent=True)
        root = Path(spec.submodule_search_locations[0], *source.location.split(".")[1:])
        path = root / (source.file or "")
        if not path.resolve().is_relative_to(root.resolve()):
            raise FetchFailed(f"{source.file} leads out of the package {source.location}", permanent=True)
    else:
        path = Path(source.location)
    if path.is_dir():
        return found_in(path)
    if not path.is_file():
        raise FetchFailed(f"there is no file or folder {path}", permanent=True)
    return path


def check_sum(path: Path, expected: str, *, moved: Callable[[int], None]) -> None:
    """Compare a file's SHA-256; `moved` is told of every piece that was read. Raises `FetchFailed`."""
    if not path.is_file():
        raise FetchFailed(f"{path} is a folder, and a SHA-256 is for one file", permanent=True)
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
            moved(len(chunk))
    if digest.hexdigest() != expected:
        raise FetchFailed(f"{path} has the SHA-256 {digest.hexdigest()} instead of {expected}", permanent=True)
