"""Keys: asked for, answered, and shown once. Pure."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import BaseModel, Field

from stoker.api.wire.base import In, iso
from stoker.domain.access import ApiKey, Scope


class KeyIn(In):
    """A key to be made."""

    name: str
    scopes: frozenset[Scope]
    endpoints: Annotated[tuple[str, ...], Field(max_length=1_000)] | None = None
    expires_in_s: float | None = None


class KeyOut(BaseModel):
    """A key without its secret; `hint` is how it begins."""

    id: str
    number: int
    name: str
    hint: str
    scopes: list[str]
    endpoints: list[str] | None
    created_at: str | None
    expires_at: str | None

    @classmethod
    def of(cls, key: ApiKey) -> Self:
        return cls(
            id=key.id,
            number=key.number,
            name=key.name,
            hint=key.hint,
            scopes=sorted(key.scopes),
            endpoints=None if key.endpoints is None else sorted(key.endpoints),
            created_at=iso(key.created_at),
            expires_at=iso(key.expires_at),
        )


class KeyMade(BaseModel):
    """A new key. The secret is shown this once; null when the same request is answered again."""

    key: KeyOut
    secret: str | None
