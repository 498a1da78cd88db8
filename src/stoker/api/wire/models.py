"""Models as they are said and answered. Pure."""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, Field

from stoker.api.wire.base import In, iso
from stoker.domain.errors import Invalid
from stoker.domain.models import ModelSource, ModelView, SourceKind


class SourceIn(In):
    """Where it comes from: exactly one of `path`, `package`, `huggingface` and `url`."""

    path: str | None = Field(default=None, description="a GGUF file or a folder on Stoker's host; needs scope admin")
    package: str | None = Field(default=None, description="an installed Python package; with `file`")
    huggingface: str | None = Field(default=None, description="a repository, as in owner/name")
    url: str | None = Field(default=None, description="an http or https URL of one file")
    file: str | None = Field(default=None, description="the file in the package, or a pattern as in *Q4_K_M.gguf")
    revision: str | None = Field(default=None, description="branch, tag or commit of the repository; default: main")

    def to_domain(self) -> ModelSource:
        said = {kind: text for kind in SourceKind if (text := getattr(self, kind.value)) is not None}
        if len(said) != 1:
            raise Invalid.at("/source", "say where it comes from once: path, package, huggingface or url")
        [(kind, location)] = said.items()
        return ModelSource(kind=kind, location=location, file=self.file, revision=self.revision)

    @classmethod
    def of(cls, source: ModelSource) -> Self:
        # A URL's query may be a password.
        shown = str(source) if source.kind is SourceKind.URL else source.location
        return cls(**{source.kind.value: shown}, file=source.file, revision=source.revision)


class ModelIn(In):
    """A model of the catalogue. With `pull` it is fetched at once, else when an endpoint needs it."""

    name: str
    aliases: tuple[str, ...] = ()
    source: SourceIn
    sha256: str | None = Field(default=None, description="of its one file; checked before it is used")
    token_secret: str | None = Field(default=None, max_length=63, description="a secret to authorise the download with")
    pinned: bool = Field(default=False, description="never removed to make room for others")
    pull: bool = False


class ModelPatchIn(In):
    """What changes; the rest is left as it is."""

    aliases: tuple[str, ...] | None = None
    pinned: bool | None = None


class ModelOut(BaseModel):
    """A model that has a name here. `origin` is project, settings or built-in; those two have no id. `progress` is
    between 0 and 1, null where it is not known; `state` is absent, downloading, ready or failed.
    """

    id: str | None
    number: int | None
    name: str
    aliases: list[str]
    origin: str
    source: SourceIn | None
    sha256: str | None
    token_secret: str | None
    pinned: bool
    state: str
    available: bool
    path: str | None
    size_bytes: int | None
    done_bytes: int | None
    progress: float | None
    rate_bytes_per_s: float | None
    error: str
    retry_at: str | None
    used_by: list[str]
    created_at: str | None

    @classmethod
    def of(cls, view: ModelView) -> Self:
        model, weights = view.model, view.weights
        done = None if weights is None else weights.done_bytes
        total = None if weights is None else weights.total_bytes
        return cls(
            id=None if model is None else model.id,
            number=None if model is None else model.number,
            name=view.name,
            aliases=list(view.aliases),
            origin=view.origin,
            source=None if model is None else SourceIn.of(model.source),
            sha256=None if model is None else model.sha256,
            token_secret=None if model is None else model.token_secret,
            pinned=model is not None and model.pinned,
            state=weights.state if weights is not None else "ready" if view.available else "absent",
            available=view.available,
            path=view.path,
            size_bytes=total,
            done_bytes=done,
            progress=1.0 if view.available else None if not total or done is None else min(1.0, done / total),
            rate_bytes_per_s=view.rate_bytes_per_s,
            error="" if weights is None else weights.error,
            retry_at=None if weights is None else iso(weights.retry_at),
            used_by=list(view.used_by),
            created_at=None if model is None else iso(model.created_at),
        )


class PrunedOut(BaseModel):
    """What was removed from the host; the models stay in the catalogue."""

    models: list[str]
    bytes: int
