"""What runs instead of a container image, where images cannot be run: a rule by pattern. Pure data."""

from __future__ import annotations

from dataclasses import dataclass

from stoker.domain.errors import Invalid
from stoker.domain.limits import check_arguments

PATTERN_CHARS_MAX = 1_024
# Where an image is whose name does not say, and what else that is called.
HUB = "docker.io"
_HUBS = frozenset({HUB, f"index.{HUB}", f"registry-1.{HUB}", "hub.docker.com", "registry.hub.docker.com"})


def registry_of(image: str) -> str:
    """The host that an image is fetched from.

    >>> registry_of("ghcr.io/org/app:1"), registry_of("org/app")
    ('ghcr.io', 'docker.io')
    """
    first, slash, _ = image.partition("/")
    named = slash and ("." in first or ":" in first or first == "localhost")
    return registry_named(first) if named else HUB


def registry_named(host: str) -> str:
    """The registry at this host, under the one name that it has here."""
    return HUB if host in _HUBS else host


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageRule:
    """`pattern` is an image's name in which `*` stands for anything; without a tag it is for all tags. What runs
    instead is a `model` with an engine's `parameters`, or a `command`.
    """

    pattern: str
    model: str | None = None
    parameters: tuple[str, ...] = ()
    command: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 0 < len(self.pattern) <= PATTERN_CHARS_MAX or any(c.isspace() or c in "[]?" for c in self.pattern):
            raise Invalid(f"{self.pattern[:64]!r} is no pattern for images: a name in which * stands for anything")
        if (self.model is None) == (not self.command):
            raise Invalid(f"say what runs instead of {self.pattern}, once: a model or a command")
        if self.parameters and self.model is None:
            raise Invalid(f"the parameters of {self.pattern} are an engine's and need a model")
        check_arguments("/command", self.command)
        check_arguments("/parameters", self.parameters)

    @property
    def instead(self) -> str:
        """What runs, in words."""
        return f"the model {self.model}" if self.model is not None else f"the command {' '.join(self.command)[:200]}"
