"""What can be set of the Docker provider, checked once when it is connected. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any
from urllib.parse import urlsplit

from stoker.domain.errors import Invalid
from stoker.domain.hardware import DEFAULT_REGION, PortRange

LOCAL = "unix:///var/run/docker.sock"
LOOPBACK = "127.0.0.1"
# Beside those of local processes, and below the ephemeral ports of Linux (32768 on).
PORTS = PortRange(30_000, 32_767)
_TLS = ("tls_ca", "tls_cert", "tls_key")
_VOLUME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}\Z")


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder of the daemon's host that every worker sees."""

    source: str
    path: str
    read_only: bool

    @classmethod
    def parse(cls, text: str) -> Folder:
        """SOURCE:PATH or SOURCE:PATH:rw. Raises `ValueError`."""
        source, _, rest = text.partition(":")
        path, _, mode = rest.partition(":")
        if not source.startswith("/") or not path.startswith("/") or mode not in ("", "ro", "rw"):
            raise ValueError("expected folders like /srv/models:/models or /srv/cache:/cache:rw")
        return cls(source, path, mode != "rw")


@dataclass(frozen=True, slots=True, kw_only=True)
class DockerOptions:
    """`host` is the daemon's address: unix://, tcp:// (with TLS by the three PEM files) or ssh://. Workers' ports are
    published at `publish`, an address of its host, out of `ports`; with `reach` = `container`, workers are reached at
    their own addresses instead. `network` and `runtime` are names that the daemon knows. `image` is what commands run
    in that come without an image, `engine_images` what engines do, by their names (`{version}` is the engine's).
    `user`, `read_only` (its file system, all but /tmp), `capabilities` (that it keeps), `pids_max`, `shm_gib` and
    `init` hold for each worker. `gpus` says how many cards of which family a remote host has.
    `models` is what volumes of the daemon begin with, or a folder of its host, that weights are fetched into by a step
    before each worker, which `models_image` runs: one with Stoker in it. Without, workers see what Stoker has fetched
    to its own folders. `installation` marks what belongs to this Stoker (none: a mark kept in the data folder).
    """

    host: str = LOCAL
    tls_ca: str | None = None
    tls_cert: str | None = None
    tls_key: str | None = None
    publish: str = LOOPBACK
    reach: str = "published"
    ports: PortRange = PORTS
    network: str | None = None
    runtime: str | None = None
    image: str | None = None
    engine_images: Mapping[str, str] = field(default_factory=dict)
    user: str | None = None
    read_only: bool = False
    capabilities: tuple[str, ...] = ()
    pids_max: int = 4096
    shm_gib: float | None = None
    init: bool = True
    folders: tuple[Folder, ...] = ()
    models: str | None = None
    models_image: str | None = None
    gpus: Mapping[str, int] | None = None
    installation: str | None = None
    pull_timeout_s: float = 3_600.0
    log_mib: float = 16.0
    workers_kept: int = 100
    region: str = DEFAULT_REGION

    @property
    def local(self) -> bool:
        """Is the daemon on this machine?"""
        return self.host.startswith("unix://") or urlsplit(self.host).hostname in (LOOPBACK, "localhost", "::1")

    @property
    def published(self) -> bool:
        """Are workers reached at ports of the daemon's host?"""
        return self.reach == "published"


def parse(given: Mapping[str, object]) -> DockerOptions:
    """Raises `Invalid` naming the option."""
    known = {field.name for field in fields(DockerOptions)}
    unknown = sorted(set(given) - known)
    if unknown:
        raise Invalid(f"the docker provider has no option {unknown[0]!r}; there are {', '.join(sorted(known))}")
    values: dict[str, Any] = {}
    for name, value in given.items():
        try:
            values[name] = _PARSERS[name](value)
        except (TypeError, ValueError) as exc:
            raise Invalid(f"the option {name} of the docker provider cannot be {str(value)[:100]!r}: {exc}") from exc
    options = DockerOptions(**values)
    if any(getattr(options, name) for name in _TLS) and not all(getattr(options, name) for name in _TLS):
        raise Invalid(f"the options {', '.join(_TLS)} of the docker provider belong together: give all or none")
    if (options.models is None) is not (options.models_image is None):
        raise Invalid("the options models and models_image of the docker provider belong together: give both or none")
    if options.published and not options.local and options.publish == LOOPBACK:
        raise Invalid(
            "workers at a remote Docker host cannot be reached at its loopback address: "
            "say with publish at which of its addresses"
        )
    return options


def _text(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise TypeError("expected text")
    return value


def _images(value: object) -> Mapping[str, str]:
    if not isinstance(value, Mapping):
        raise TypeError("expected an image for each engine, as in {vllm: 'vllm/vllm-openai:v{version}'}")
    return {_text(name): _text(image) for name, image in value.items()}


def _host(value: object) -> str:
    text = _text(value)
    if not text.startswith(("unix:///", "tcp://", "ssh://")):
        raise ValueError("expected an address that begins with unix:///, tcp:// or ssh://")
    return text


def _reach(value: object) -> str:
    if value not in ("published", "container"):
        raise ValueError("expected published or container")
    return str(value)


def _ports(value: object) -> PortRange:
    if isinstance(value, PortRange):
        return value
    first, _, last = str(value).partition("-")
    if first.isdecimal() and last.isdecimal() and 1 <= int(first) <= int(last) <= 65_535:
        return PortRange(int(first), int(last))
    raise ValueError("expected FIRST-LAST within 1-65535")


def _switch(value: object) -> bool:
    if not isinstance(value, bool):
        raise TypeError("expected true or false")
    return value


def _list(value: object) -> list[str]:
    if not isinstance(value, list | tuple):
        raise TypeError("expected a list")
    return [_text(item) for item in value]


def _capabilities(value: object) -> tuple[str, ...]:
    return tuple(name.upper().removeprefix("CAP_") for name in _list(value))


def _folders(value: object) -> tuple[Folder, ...]:
    return tuple(Folder.parse(item) for item in _list(value))


def _models(value: object) -> str:
    text = _text(value)
    plain = text.startswith("/") and text != "/" and ":" not in text and text.isprintable()
    if not plain and not _VOLUME.match(text):
        raise ValueError("expected the beginning of names of volumes, or a folder of the daemon's host")
    return text.rstrip("/")


def _gpus(value: object) -> Mapping[str, int]:
    if not isinstance(value, Mapping):
        raise TypeError("expected families and how many cards of each, as in {h100: 8}")
    return {_text(family): _whole(1, 64)(count) for family, count in value.items()}


def _whole(low: int, high: int) -> Any:
    def parse(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise ValueError(f"expected a whole number between {low} and {high}")
        return value

    return parse


def _number(low: float, high: float) -> Any:
    def parse(value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise ValueError(f"expected a number between {low:g} and {high:g}")
        return float(value)

    return parse


_PARSERS: Mapping[str, Any] = {
    "host": _host,
    "tls_ca": _text,
    "tls_cert": _text,
    "tls_key": _text,
    "publish": _text,
    "reach": _reach,
    "ports": _ports,
    "network": _text,
    "runtime": _text,
    "image": _text,
    "engine_images": _images,
    "user": _text,
    "read_only": _switch,
    "capabilities": _capabilities,
    "pids_max": _whole(16, 4_194_304),
    "shm_gib": _number(0.001, 10_000),
    "init": _switch,
    "folders": _folders,
    "models": _models,
    "models_image": _text,
    "gpus": _gpus,
    "installation": _text,
    "pull_timeout_s": _number(1, 86_400),
    "log_mib": _number(0.1, 10_240),
    "workers_kept": _whole(0, 10_000),
    "region": _text,
}
