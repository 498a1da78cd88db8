"""Templates as they are made, searched and shown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, Strict, ValidationError

from stoker.dialects.vast.wire.base import Flag, Identified, Text, Wire

# Where a template of Stoker's keeps what its launch does not say.
ABOUT = "vast/template"
Script = Annotated[str, Strict(), Field(max_length=32_768)]


class TemplateIn(Identified):
    """A template to be made. `env` has docker's own options, `recommended_disk_space` is a number in a text."""

    name: Annotated[str, Strict(), Field(min_length=1, max_length=255)] | None = None
    image: Annotated[str, Strict(), Field(min_length=1, max_length=1_024)]
    tag: Text | None = None
    href: Text | None = None
    repo: Text | None = None
    env: Script | None = None
    onstart: Script | None = None
    args_str: Script | None = None
    runtype: Literal["args", "ssh", "jupyter", "ssh_direct", "ssh_proxy", "jupyter_direct", "jupyter_proxy"] | None = (
        None
    )
    jup_direct: Flag | None = None
    ssh_direct: Flag | None = None
    use_jupyter_lab: Flag | None = None
    use_ssh: Flag | None = None
    docker_login_repo: Text | None = None
    docker_login_user: Text | None = None
    docker_login_pass: Text | None = None
    extra_filters: dict[str, Any] | None = None
    recommended_disk_space: str | float | None = None
    readme_visible: Flag | None = None
    desc: Script | None = None
    private: Flag | None = None


class About(Wire):
    """What of a template its launch does not say."""

    name: str
    tag: str | None = None
    runtype: str | None = None
    extra_filters: dict[str, Any] | None = None
    recommended_disk_space: float | None = None
    desc: str | None = None
    env: str | None = None
    onstart: str | None = None


def about_of(spec: Mapping[str, Any], name: str) -> About:
    """What a template says beside its launch; its `name` alone where it says nothing, or somebody else wrote it."""
    try:
        return About.model_validate_json((spec.get("annotations") or {}).get(ABOUT, ""))
    except ValidationError:
        return About(name=name)


class TemplateOut(Wire):
    """A template. `created_at` is in seconds since the epoch."""

    id: int
    hash_id: str
    name: str
    image: str | None
    tag: str | None
    env: str | None
    onstart: str | None
    runtype: str
    extra_filters: dict[str, Any]
    recommended_disk_space: float | None
    desc: str | None
    creator_id: int
    created_at: float


class TemplateMade(Wire):
    success: bool = True
    msg: str
    template: TemplateOut


class TemplatesOut(Wire):
    success: bool = True
    templates_found: int
    templates: list[TemplateOut]
