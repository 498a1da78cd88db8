"""Models, which are repositories of Hugging Face by their names there, and what the catalogue calls them."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field

from stoker.dialects.exoscale.wire.base import Wire
from stoker.domain.models import Model, ModelView, SourceKind, Weights, WeightsState
from stoker.domain.times import iso

State = Literal["created", "creating", "downloading", "error", "ready"]
TOKEN_CHARS_MAX = 4_096


class ModelIn(Wire):
    """`name` is that of a repository, to the letter; the token is for one that is not for everybody."""

    name: Annotated[str, Field(min_length=1, max_length=193)]
    huggingface_token: Annotated[str, Field(max_length=TOKEN_CHARS_MAX)] | None = None


class ModelOut(Wire):
    id: str
    name: str
    state: State
    model_size: int | None
    created_at: str
    updated_at: str

    @classmethod
    def of(cls, model: Model, weights: Weights | None) -> Self:
        return cls(
            id=model.id,
            name=shown_name(model),
            state=state_of(weights),
            model_size=None if weights is None else weights.total_bytes,
            created_at=iso(model.created_at),
            updated_at=iso(model.updated_at),
        )


class ModelsOut(Wire):
    models: list[ModelOut]


def catalogue_name(repository: str) -> str:
    """What the catalogue calls it, whose names have no slash; the repository's own name becomes an alias.

    >>> catalogue_name("owner/tiny")
    'owner--tiny'
    """
    return repository.replace("/", "--")[:128]


def shown_name(model: Model) -> str:
    """The repository, or what looks most like one."""
    if model.source.kind is SourceKind.HUGGINGFACE:
        return model.source.location
    return next((alias for alias in model.aliases if "/" in alias), model.name)


def state_of(weights: Weights | None) -> State:
    if weights is None:
        return "created"
    match weights.state:
        case WeightsState.READY:
            return "ready"
        case WeightsState.DOWNLOADING:
            return "downloading"
        case WeightsState.FAILED:
            # Another try comes by itself.
            return "error" if weights.retry_at is None else "downloading"
        case WeightsState.ABSENT:
            return "creating" if weights.asked else "created"


def named(view: ModelView, text: str) -> bool:
    """Is `text` a name of this model?"""
    return view.model is not None and text in (shown_name(view.model), *view.model.names)
