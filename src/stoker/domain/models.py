"""Models of the catalogue, and their weights on this host: where they come from, and how far they have come."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from pathlib import PurePosixPath
from typing import NewType
from urllib.parse import unquote, urlsplit

from stoker.domain.endpoint import ProjectId
from stoker.domain.errors import Invalid, StokerError

ModelId = NewType("ModelId", str)
# Names the weights of one source on this host; several models may share them.
WeightsKey = NewType("WeightsKey", str)

ALIASES_MAX = 16
LOCATION_CHARS_MAX = 2_048
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}\Z")
_ALIAS = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,254}\Z")
_REPO = re.compile(r"[A-Za-z0-9][\w.-]{0,95}(/[A-Za-z0-9][\w.-]{0,95})?\Z")
_REVISION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,127}\Z")
_PACKAGE = re.compile(r"[A-Za-z_]\w{0,127}(\.[A-Za-z_]\w{0,127}){0,7}\Z")
_SHA256 = re.compile(r"[0-9a-f]{64}\Z")


class SourceKind(StrEnum):
    """PATH: a file or folder of this host. PACKAGE: a file in an installed Python package. HUGGINGFACE: files of a
    repository there. URL: one file.
    """

    PATH = "path"
    PACKAGE = "package"
    HUGGINGFACE = "huggingface"
    URL = "url"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSource:
    """Where weights come from. `location` is the path, package, repository or URL. `file` is the file in the package,
    or the pattern of the repository's files that are wanted (`None`: all that an engine reads); `revision` is of the
    repository (`None`: main).
    """

    kind: SourceKind
    location: str
    file: str | None = None
    revision: str | None = None

    def __post_init__(self) -> None:
        at = f"/source/{self.kind}"
        if not self.location or len(self.location) > LOCATION_CHARS_MAX or not self.location.isprintable():
            raise Invalid.at(at, f"this has between 1 and {LOCATION_CHARS_MAX} printable characters")
        if self.file is not None and (self.kind in (SourceKind.PATH, SourceKind.URL) or not _inside(self.file)):
            raise Invalid.at("/source/file", "a file or pattern is of a package or repository, and stays within it")
        if self.revision is not None and (
            self.kind is not SourceKind.HUGGINGFACE or not _REVISION.match(self.revision) or ".." in self.revision
        ):
            raise Invalid.at("/source/revision", "a revision is a branch, tag or commit of a repository")
        match self.kind:
            case SourceKind.PATH if not self.location.startswith("/"):
                raise Invalid.at(at, "a path begins with /")
            case SourceKind.PACKAGE if not _PACKAGE.match(self.location) or self.file is None:
                raise Invalid.at(at, "this is the import name of a package, with the file in it under file")
            case SourceKind.HUGGINGFACE if not _REPO.match(self.location) or ".." in self.location:
                raise Invalid.at(at, "a repository is owner/name")
            case SourceKind.URL if urlsplit(self.location).scheme not in ("http", "https"):
                raise Invalid.at(at, "a URL begins with http:// or https://")

    @property
    def local(self) -> bool:
        """Is it on this host already, so that nothing is fetched?"""
        return self.kind in (SourceKind.PATH, SourceKind.PACKAGE)

    @property
    def file_name(self) -> str:
        """What a file from a URL is called."""
        name = PurePosixPath(unquote(urlsplit(self.location).path)).name
        return name if name not in ("", ".", "..") and name.isprintable() and len(name) <= 200 else "model"

    @property
    def expects_gguf(self) -> bool:
        """Will it be one GGUF file, as far as its name tells?"""
        name = self.file_name if self.kind is SourceKind.URL else self.file or self.location
        return name.endswith(".gguf") and (self.kind is not SourceKind.HUGGINGFACE or self.file is not None)

    def __str__(self) -> str:
        shown = self.location
        if self.kind is SourceKind.URL:
            # Without the query, where secrets travel.
            shown = urlsplit(self.location)._replace(query="", fragment="").geturl()
        if self.file is not None:
            shown = f"{shown}/{self.file}"
        return shown if self.revision is None else f"{shown}@{self.revision}"


def _inside(name: str) -> bool:
    parts = name.split("/")
    return 0 < len(name) <= 512 and name.isprintable() and all(part not in ("", ".", "..") for part in parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A model that endpoints of the project name. `sha256` is that of its one file; `token_secret` names the secret
    that its download is authorised with; a `pinned` one is never removed to make room for others.
    """

    id: ModelId
    number: int
    project: ProjectId
    name: str
    aliases: tuple[str, ...]
    source: ModelSource
    sha256: str | None
    token_secret: str | None
    pinned: bool
    key: WeightsKey
    created_at: float
    updated_at: float

    @property
    def names(self) -> tuple[str, ...]:
        """All that endpoints may call it."""
        return (self.name, *self.aliases)


def check_model(name: str, aliases: tuple[str, ...], sha256: str | None) -> None:
    """Raises `Invalid`."""
    if not _NAME.match(name) or name.isdigit():
        raise Invalid.at(
            "/name", "a model's name has up to 128 letters, digits, dots, dashes or underscores, and is no number alone"
        )
    if len(aliases) > ALIASES_MAX:
        raise Invalid.at("/aliases", f"at most {ALIASES_MAX} aliases")
    for index, alias in enumerate(aliases):
        if not _ALIAS.match(alias) or alias.isdigit() or alias in (name, *aliases[:index]):
            raise Invalid.at(f"/aliases/{index}", "an alias is another name, as in owner/name; slashes are allowed")
    if sha256 is not None and not _SHA256.match(sha256):
        raise Invalid.at("/sha256", "a SHA-256 is 64 hexadecimal digits in lower case")


class WeightsState(StrEnum):
    """ABSENT: not on this host. DOWNLOADING: on the way, or being checked. READY: complete. FAILED: the last try did
    not succeed; `retry_at` says whether there will be another.
    """

    ABSENT = "absent"
    DOWNLOADING = "downloading"
    READY = "ready"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """The weights of one source on this host. Sizes are in bytes, `None` where they are not known; times are seconds
    since the epoch.

    `project` is whose secret `token_secret` is. `asked`: somebody wants them whatever endpoints do. `path` is where
    they lie once READY. `used_at`: when something last needed them, for making room. `failures` counts failed tries in
    a row; the next one is at `retry_at` (`None`: none, until somebody asks).
    """

    key: WeightsKey
    source: ModelSource
    sha256: str | None
    project: ProjectId
    token_secret: str | None
    state: WeightsState
    asked: bool
    used_at: float
    path: str | None = None
    done_bytes: int = 0
    total_bytes: int | None = None
    error: str = ""
    failures: int = 0
    retry_at: float | None = None

    @property
    def percent(self) -> int | None:
        """How much of them is here, rounded down."""
        if self.state is WeightsState.READY:
            return 100
        return None if not self.total_bytes else min(100, self.done_bytes * 100 // self.total_bytes)

    @property
    def gguf(self) -> bool:
        """Are they one GGUF file, as far as is known?"""
        return self.source.expects_gguf if self.path is None else self.path.endswith(".gguf")


@dataclass(frozen=True, slots=True)
class Hold:
    """Why no worker of an endpoint may start now, because of its model or (`volume`) a volume. `failed`: waiting alone
    will not help. `left_s` is how long it will take, as far as is known.
    """

    reason: str
    failed: bool = False
    left_s: float | None = None
    volume: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelView:
    """A model that can be named here. Those of the settings and the built-in one have no record and no weights of their
    own: `path` is where they lie. `used_by` are slugs of endpoints.
    """

    name: str
    aliases: tuple[str, ...]
    path: str | None
    available: bool
    origin: str
    model: Model | None = None
    weights: Weights | None = None
    rate_bytes_per_s: float | None = None
    used_by: tuple[str, ...] = ()


class FetchFailed(StokerError):
    """Weights could not be brought here. `permanent`: another try would end the same way. `after_s`: the other side
    asks for this pause before the next.
    """

    def __init__(self, message: str, *, permanent: bool = False, after_s: float | None = None) -> None:
        super().__init__(message)
        self.permanent = permanent
        self.after_s = after_s
