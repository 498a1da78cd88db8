"""Templates as they are said and answered. Pure."""

from __future__ import annotations

from typing import Any, Self

from pydantic import BaseModel, Field, ValidationError

from stoker.api.wire.base import In, below, iso
from stoker.api.wire.spec import SpecIn
from stoker.domain.errors import Invalid, Problem
from stoker.domain.templates import Template, merged

# What a part of a document may lack, and a whole one may not.
_REST = {"name": "a-name"}
_WHAT = {"model": "a-model"}


class TemplateIn(In):
    """A part of an endpoint's document, without `name` and `template`."""

    name: str
    spec: dict[str, Any] = Field(description="fields of the endpoint document")

    def checked(self) -> dict[str, Any]:
        """The part, if endpoints can be made with it. Raises `Invalid` with pointers into this document."""
        for field in ("name", "template"):
            if field in self.spec:
                raise Invalid.at(f"/spec/{field}", f"a template has no {field}: the endpoint says it")
        launch = self.spec.get("launch")
        said = isinstance(launch, dict) and any(launch.get(each) for each in ("model", "image", "command"))
        whole = merged(_REST if said else {**_REST, "launch": _WHAT}, self.spec)
        try:
            with below("/spec"):
                SpecIn.model_validate(whole).to_spec()
        except ValidationError as exc:
            problems = tuple(
                Problem("/spec" + "".join(f"/{part}" for part in error["loc"]), error["msg"]) for error in exc.errors()
            )
            raise Invalid(f"{problems[0].pointer}: {problems[0].detail}", problems=problems) from exc
        return self.spec


class TemplateOut(BaseModel):
    """One version of a template. `digest` is the SHA-256 of its content; endpoints name it by `reference`."""

    id: str
    number: int
    name: str
    version: int
    reference: str
    digest: str
    spec: dict[str, Any]
    created_at: str | None

    @classmethod
    def of(cls, template: Template, *, reveal: bool) -> Self:
        """`reveal` shows the values of the workers' environment, which may be secrets, as they are."""
        return cls(
            id=template.id,
            number=template.number,
            name=template.name,
            version=template.version,
            reference=template.reference,
            digest=template.digest,
            spec=dict(template.spec) if reveal else _masked(template.spec),
            created_at=iso(template.created_at),
        )


def _masked(spec: Any) -> dict[str, Any]:
    launch = spec.get("launch")
    env = launch.get("env") if isinstance(launch, dict) else None
    if not isinstance(env, dict):
        return dict(spec)
    hidden = {name: "***" if isinstance(value, str) else value for name, value in env.items()}
    return {**spec, "launch": {**launch, "env": hidden}}
