"""Keys: asked for, changed, answered, and their secrets shown. Pure."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, Field

from stoker.api.wire.base import In, iso
from stoker.domain.access import ApiKey, KeyLimits, Scope

EndpointRefs = Annotated[tuple[str, ...], Field(max_length=1_000)]


class KeyIn(In):
    """A key to be made. `kind` `signing` makes a pair of id and secret for signed requests."""

    name: str
    scopes: frozenset[Scope]
    kind: Literal["bearer", "signing"] = "bearer"
    endpoints: EndpointRefs | None = None
    expires_in_s: float | None = None
    rate_per_s: float | None = Field(default=None, description="requests that may begin each second")
    burst: int | None = Field(default=None, description="how many of them at once, after a pause")
    concurrency: int | None = Field(default=None, description="requests under way at a time, waiting ones included")
    revealable: bool = Field(default=False, description="keep it, encrypted, to be shown again")
    installation: bool = Field(default=False, description="it may act for every project")

    def limits(self) -> KeyLimits:
        return KeyLimits(rate_per_s=self.rate_per_s, burst=self.burst, concurrency=self.concurrency)


class KeyPatchIn(In):
    """What is to be changed of a key; what is left out stays. Null takes a limit, the end or the list away."""

    name: str = ""
    endpoints: EndpointRefs | None = None
    expires_in_s: float | None = None
    rate_per_s: float | None = None
    burst: int | None = None
    concurrency: int | None = None


class KeyOut(BaseModel):
    """A key without its secret; `hint` is how it begins. `access_id` is a signing key's public half. `last_used_at` is
    coarse, and null when no use is known.
    """

    id: str
    number: int
    project: int
    name: str
    kind: str
    hint: str
    access_id: str | None
    scopes: list[str]
    endpoints: list[str] | None
    installation: bool
    revealable: bool
    rate_per_s: float | None
    burst: int | None
    concurrency: int | None
    created_at: str | None
    expires_at: str | None
    last_used_at: str | None

    @classmethod
    def of(cls, key: ApiKey) -> Self:
        return cls(
            id=key.id,
            number=key.number,
            project=key.project,
            name=key.name,
            kind="bearer" if key.access_id is None else "signing",
            hint=key.hint,
            access_id=key.access_id,
            scopes=sorted(key.scopes),
            endpoints=None if key.endpoints is None else sorted(key.endpoints),
            installation=key.installation,
            revealable=key.revealable,
            rate_per_s=key.limits.rate_per_s,
            burst=key.limits.burst,
            concurrency=key.limits.concurrency,
            created_at=iso(key.created_at),
            expires_at=iso(key.expires_at),
            last_used_at=iso(key.last_used_at),
        )


class KeyMade(BaseModel):
    """A new key, or one that is shown again. The secret is null when the same request is answered again."""

    key: KeyOut
    secret: str | None
