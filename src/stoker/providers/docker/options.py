"""What can be set of the Docker provider, checked once when it is connected. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from stoker.domain.errors import Invalid
from stoker.domain.hardware import DEFAULT_REGION, PortRange
from stoker.providers import parsing

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
    values = parsing.read(given, _PARSERS, provider="docker")
    options = DockerOptions(**values)
    if any(getattr(options, name) for name in _TLS) and not all(getattr(options, name) for name in _TLS):
        raise Invalid(f"the options {', '.join(_TLS)} of the docker provider belong together: give all or none")
    if options.published and not options.local and options.publish == LOOPBACK:
        raise Invalid(
            "workers at a remote Docker host cannot be reached at its loopback address: "
            "say with publish at which of its addresses"
        )
    return options


def _host(value: object) -> str:
    text = parsing.text(value)
    if not text.startswith(("unix:///", "tcp://", "ssh://")):
        raise ValueError("expected an address that begins with unix:///, tcp:// or ssh://")
    return text


def _reach(value: object) -> str:
    if value not in ("published", "container"):
        raise ValueError("expected published or container")
    return str(value)


def _folders(value: object) -> tuple[Folder, ...]:
    return tuple(Folder.parse(parsing.text(item)) for item in parsing.items(value))


def _models(value: object) -> str:
    text = parsing.text(value)
    plain = text.startswith("/") and text != "/" and ":" not in text and text.isprintable()
    if not plain and not _VOLUME.match(text):
        raise ValueError("expected the beginning of names of volumes, or a folder of the daemon's host")
    return text.rstrip("/")


_PARSERS: Mapping[str, Any] = {
    "host": _host,
    "tls_ca": parsing.text,
    "tls_cert": parsing.text,
    "tls_key": parsing.text,
    "publish": parsing.text,
    "reach": _reach,
    "ports": parsing.ports,
    "network": parsing.text,
    "runtime": parsing.text,
    "image": parsing.text,
    "engine_images": parsing.images,
    "user": parsing.text,
    "read_only": parsing.switch,
    "capabilities": parsing.capabilities,
    "pids_max": parsing.whole(16, 4_194_304),
    "shm_gib": parsing.number(0.001, 10_000),
    "init": parsing.switch,
    "folders": _folders,
    "models": _models,
    "models_image": parsing.text,
    "gpus": lambda value: parsing.cards(value, most=64),
    "installation": parsing.text,
    "pull_timeout_s": parsing.number(1, 86_400),
    "log_mib": parsing.number(0.1, 10_240),
    "workers_kept": parsing.whole(0, 10_000),
    "region": parsing.text,
}
