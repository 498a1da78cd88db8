"""What dialects keep with an endpoint for the round trip alone: JSON in its annotations."""

from __future__ import annotations

from typing import TypeVar

from pydantic import BaseModel, ValidationError

from stoker.domain.endpoint import EndpointSpec

M = TypeVar("M", bound=BaseModel)


def read(spec: EndpointSpec, key: str, model: type[M]) -> M | None:
    """What an annotation holds; `None` where there is none, or somebody else wrote it."""
    try:
        return model.model_validate_json(spec.annotations[key]) if key in spec.annotations else None
    except ValidationError:
        return None
