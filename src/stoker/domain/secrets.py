"""Secrets and registry credentials as they are named and recorded; their values travel apart from them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from stoker.domain.access import Sealed
from stoker.domain.endpoint import ProjectId
from stoker.domain.errors import Invalid
from stoker.domain.images import registry_named, registry_of
from stoker.domain.launch import ENV_VALUE_CHARS_MAX

DESCRIPTION_CHARS_MAX = 1_024
LOGIN_CHARS_MAX = 255
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}\Z")
# In the place of a registry: whichever the image comes from that is fetched with this log-in.
ANY_REGISTRY = "*"
_REGISTRY = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?(:[0-9]{1,5})?\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Secret:
    """A named value that is never shown with it. `sealed` is the value, encrypted."""

    id: str
    number: int
    project: ProjectId
    name: str
    description: str
    sealed: Sealed
    created_at: float
    updated_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """A log-in at a container registry, or at those whose hosts lie below it. `sealed` is the password, encrypted."""

    id: str
    number: int
    project: ProjectId
    name: str
    registry: str
    username: str
    sealed: Sealed
    created_at: float
    updated_at: float

    def registry_for(self, image: str) -> str:
        """The host to log in at in order to fetch this image. Raises `Invalid` when it comes from elsewhere, where the
        password is not to be shown.
        """
        host, own = registry_of(image), registry_named(self.registry)
        if own in (ANY_REGISTRY, host) or host.endswith(f".{own}"):
            return host
        detail = f"the registry credential {self.name!r} is for {self.registry}, and the image comes from {host}"
        raise Invalid.at("/launch/credential", detail)


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryLogin:
    """What a provider needs to fetch an image."""

    registry: str
    username: str
    password: str = field(repr=False)


def check_secret_name(name: str) -> None:
    """Raises `Invalid`."""
    if not _NAME.match(name) or name.isdigit():
        raise Invalid.at(
            "/name", "a name has up to 63 letters, digits, dots, dashes or underscores, and is not a number alone"
        )


def check_secret_value(value: str, pointer: str = "/value") -> None:
    """Raises `Invalid`, without a word of the value."""
    if not value or len(value) > ENV_VALUE_CHARS_MAX or "\0" in value:
        raise Invalid.at(pointer, f"this has between 1 and {ENV_VALUE_CHARS_MAX} characters and no NUL")


def check_description(text: str) -> None:
    """Raises `Invalid`."""
    if len(text) > DESCRIPTION_CHARS_MAX:
        raise Invalid.at("/description", f"a description has at most {DESCRIPTION_CHARS_MAX} characters")


def check_login(registry: str, username: str) -> None:
    """Raises `Invalid`."""
    if (registry != ANY_REGISTRY and not _REGISTRY.match(registry)) or len(registry) > LOGIN_CHARS_MAX:
        raise Invalid.at("/registry", "a registry is a host, perhaps with a port, as in ghcr.io or local.test:5000")
    if not username or len(username) > LOGIN_CHARS_MAX or not username.isprintable() or ":" in username:
        raise Invalid.at("/username", f"a user name has between 1 and {LOGIN_CHARS_MAX} characters and no colon")
