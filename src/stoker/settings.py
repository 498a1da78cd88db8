"""One frozen `Settings`, read once from `stoker.yaml` and the environment, and handed down.

Every key of the file is also an environment variable: `worker_ports` is `STOKER_WORKER_PORTS`, its value written as
YAML. The environment wins over the file, an argument over both.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from stoker.domain.errors import Invalid
from stoker.domain.hardware import PortRange

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 7878
# Below the ephemeral ports of Linux (32768 on), so that no outgoing connection takes one.
DEFAULT_WORKER_PORTS = PortRange(20_000, 29_999)
# A Unix socket's address has 108 bytes on Linux and 104 on macOS, terminator included; the longest name below `run`
# takes 13 of them.
_SOCKET_FOLDER_CHARS_MAX = 88


@dataclass(frozen=True, slots=True)
class Paths:
    """Where things lie below the data folder."""

    data_dir: Path

    @property
    def supervisor_lock(self) -> Path:
        """Held by `stoker up`; contains its process id."""
        return self.data_dir / "stoker.lock"

    @property
    def control_lock(self) -> Path:
        """Held by control, from before it opens the store."""
        return self.data_dir / "control.lock"

    @property
    def database(self) -> Path:
        return self.data_dir / "stoker.db"

    @property
    def admin_key(self) -> Path:
        """The key made at the first start, which the command line on this machine finds."""
        return self.data_dir / "admin-key"

    @property
    def key_files(self) -> tuple[Path, ...]:
        """The files without which the records are of no use, or of less: a backup has them too."""
        return (self.admin_key,)

    @property
    def address(self) -> Path:
        """The URL that the running Stoker answers at, for the command line on this machine."""
        return self.data_dir / "address"

    @property
    def settings(self) -> Path:
        return self.data_dir / "stoker.yaml"

    @property
    def workers(self) -> Path:
        return self.data_dir / "workers"

    @property
    def table(self) -> Path:
        """The gateway's last table."""
        return self.data_dir / "table.json"

    @property
    def run(self) -> Path:
        """The folder of the Unix sockets: below the data folder, unless its path is too long for a socket's address."""
        inside = self.data_dir / "run"
        if len(os.fsencode(inside)) <= _SOCKET_FOLDER_CHARS_MAX:
            return inside
        digest = hashlib.sha256(os.fsencode(self.data_dir)).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"stoker-{os.getuid()}-{digest}"

    @property
    def control_socket(self) -> Path:
        """Control's HTTP faces."""
        return self.run / "control.sock"

    @property
    def link_socket(self) -> Path:
        """Control's end of the link."""
        return self.run / "link.sock"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that can be set. Durations are in seconds.

    `database` is the address of a PostgreSQL database, `postgresql://user@host/name`; without one, all is kept in the
    file `stoker.db` of the data folder. `models` maps names to GGUF files or folders. Under each of `domains`,
    `{slug}.{domain}` is an endpoint's host. `workers_kept` is how many ended workers' output is kept.
    `operation_timeout_s` bounds every asynchronous change. Of events and decisions the newest are kept, so many of
    each; ended workers, operations, keys that were revoked or have expired, and answers to an `Idempotency-Key` for so
    long.
    """

    data_dir: Path = field(default_factory=lambda: Path.home() / ".stoker")
    # It may have a password in it.
    database: str | None = field(default=None, repr=False)
    host: str = DEFAULT_HOST
    port: int = DEFAULT_PORT
    external_url: str | None = None
    domains: tuple[str, ...] = ()
    models: Mapping[str, str] = field(default_factory=dict)
    worker_ports: PortRange = DEFAULT_WORKER_PORTS
    worker_log_mib: float = 16.0
    workers_kept: int = 100
    operation_timeout_s: float = 1_800.0
    events_kept: int = 10_000
    decisions_kept: int = 10_000
    ended_workers_kept_s: float = 604_800.0
    operations_kept_s: float = 604_800.0
    ended_keys_kept_s: float = 2_592_000.0
    idempotency_kept_s: float = 86_400.0
    log_level: str = "info"

    @property
    def paths(self) -> Paths:
        return Paths(self.data_dir)

    @property
    def url(self) -> str:
        """The address that Stoker hands out."""
        if self.external_url:
            return self.external_url.rstrip("/")
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"


def read(
    environ: Mapping[str, str], *, data_dir: Path | None = None, overrides: Mapping[str, object] | None = None
) -> Settings:
    """The settings of the data folder. Raises `Invalid` naming the key, and the line for a file that is no YAML."""
    folder = data_dir or Path(environ.get("STOKER_DATA_DIR") or Path.home() / ".stoker")
    folder = folder.expanduser().absolute()
    values: dict[str, object] = {}
    path = Paths(folder).settings
    if path.exists():
        # One in which nothing is set is as good as none.
        loaded = _yaml(_text_of(path), str(path)) or {}
        if not isinstance(loaded, Mapping):
            raise Invalid(f"{path}: expected a mapping of settings")
        values.update({str(key): value for key, value in loaded.items()})
    names = {f.name for f in fields(Settings)} - {"data_dir"}
    for name in names:
        text = environ.get(f"STOKER_{name.upper()}")
        if text is not None:
            # Text is taken as it is: as YAML, `::` would be a mapping and `1` a number.
            values[name] = (
                text if _PARSERS[name] in (_text, _level, _database) else _yaml(text, f"STOKER_{name.upper()}")
            )
    values.update({key: value for key, value in (overrides or {}).items() if value is not None})
    unknown = sorted(set(values) - names)
    if unknown:
        raise Invalid(f"unknown setting {unknown[0]!r}; there are {', '.join(sorted(names))}")
    return Settings(data_dir=folder, **{name: _value(name, value) for name, value in values.items()})


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise Invalid(f"{path} cannot be read: {exc}") from exc


def _yaml(text: str, source: str) -> object:
    # Imported here: every command reads settings, few machines have a file, and the parser takes 60 ms to import.
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        return YAML(typ="safe", pure=True).load(text)
    except YAMLError as exc:
        raise Invalid(f"{source} is not YAML: {' '.join(str(exc).split())}") from exc


def _value(name: str, value: object) -> Any:
    expected = _PARSERS[name]
    try:
        return expected(value)
    except (TypeError, ValueError) as exc:
        if name == "database":
            raise Invalid(f"the setting database cannot be what it is: {exc}") from None
        raise Invalid(f"the setting {name} cannot be {str(value)[:200]!r}: {exc}") from exc


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("expected text")
    return value


def _database(value: object) -> str:
    # No message repeats any of it: there may be a password anywhere in an address that is written wrongly.
    text = _text(value)
    if not text.startswith(("postgresql://", "postgres://")):
        raise ValueError("expected an address like postgresql://user@host/name")
    parts = urlsplit(text)
    try:
        named = parts.path.strip("/")
        _ = parts.port
    except ValueError:
        raise ValueError("its port is no number; write special characters of a password as %XX") from None
    if not named:
        raise ValueError("it names no database: expected an address like postgresql://user@host/name")
    return text


def _texts(value: object) -> tuple[str, ...]:
    if not isinstance(value, list | tuple):
        raise TypeError("expected a list of texts")
    return tuple(_text(item) for item in value)


def _text_map(value: object) -> Mapping[str, str]:
    if not isinstance(value, Mapping):
        raise TypeError("expected a mapping of texts")
    return {_text(key): _text(item) for key, item in value.items()}


def _whole(low: int, high: int) -> Any:
    def parse(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeError("expected a whole number")
        if not low <= value <= high:
            raise ValueError(f"expected a number between {low} and {high}")
        return value

    return parse


def _number(low: float, high: float) -> Any:
    def parse(value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise TypeError("expected a number")
        if not low <= value <= high:
            raise ValueError(f"expected a number between {low:g} and {high:g}")
        return float(value)

    return parse


def _ports(value: object) -> PortRange:
    if isinstance(value, PortRange):
        return value
    first, _, last = str(value).partition("-")
    if first.isdecimal() and last.isdecimal() and 1024 <= int(first) <= int(last) <= 65_535:
        return PortRange(int(first), int(last))
    raise ValueError("expected FIRST-LAST within 1024-65535")


def _level(value: object) -> str:
    if value not in ("debug", "info", "warning", "error"):
        raise ValueError("expected debug, info, warning or error")
    return str(value)


_PARSERS: Mapping[str, Any] = {
    "database": _database,
    "host": _text,
    "port": _whole(1, 65_535),
    "external_url": _text,
    "domains": _texts,
    "models": _text_map,
    "worker_ports": _ports,
    "worker_log_mib": _number(0.1, 10_240),
    "workers_kept": _whole(0, 10_000),
    "operation_timeout_s": _number(1, 604_800),
    "events_kept": _whole(100, 10_000_000),
    "decisions_kept": _whole(100, 10_000_000),
    "ended_workers_kept_s": _number(60, 315_360_000),
    "operations_kept_s": _number(60, 315_360_000),
    "ended_keys_kept_s": _number(60, 315_360_000),
    "idempotency_kept_s": _number(60, 315_360_000),
    "log_level": _level,
}
