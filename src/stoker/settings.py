"""One frozen `Settings`, read once from `stoker.yaml` and the environment, and handed down.

Every key of the file is also an environment variable: `worker_ports` is `STOKER_WORKER_PORTS`, its value written as
YAML. The environment wins over the file, an argument over both.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from ipaddress import ip_network
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from stoker import settings_hardware as hardware
from stoker.domain.addresses import UrlRules
from stoker.domain.errors import Invalid
from stoker.domain.hardware import DEFAULT_REGION, PortRange, Prices, VirtualGpus
from stoker.domain.images import ImageRule
from stoker.paths import Paths

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 7878
# Master keys, when they are not in the data folder's file. No setting: it is read by control alone.
MASTER_KEY_VARIABLE = "STOKER_MASTER_KEY"
# Below the ephemeral ports of Linux (32768 on), so that no outgoing connection takes one.
DEFAULT_WORKER_PORTS = PortRange(20_000, 29_999)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that can be set. Durations are in seconds.

    `database` is the address of a PostgreSQL database, `postgresql://user@host/name`; without one, all is kept in the
    file `stoker.db` of the data folder.
    `models` maps names to GGUF files or folders. Under each of `domains`, `{slug}.{domain}` is an endpoint's host.
    `cors_origins` are origins (`https://console.example`) whose pages may call the native API from a browser, or `*`.
    `allow_private_urls` is `off`, `on` or a list of networks: where URLs that users give may lead to, beyond public
    addresses.
    From the networks in `trusted_proxies`, `X-Forwarded-*` and `Forwarded` are believed and extended, from everywhere
    else replaced. `tls_cert` and `tls_key` are PEM files, the former with its chain; with both, only TLS is spoken.
    `buffer_mib` bounds the bodies that requests hold in the gateway while they wait, all together.
    `attempt_mib` bounds the answer to one attempt of a task, `attempts_mib` all that are not acknowledged yet.
    `upgrade_drain_s` is how long a gateway that was replaced may finish its requests.
    With `metrics_open`, `/metrics` needs no key. `access_log` is a file, in the data folder or elsewhere, for one line
    about each request.
    `models_cache_gib` bounds what is kept of fetched models (none: the disk does); `downloads_at_once` are fetched side
    by side, together at `download_mib_per_s` at most; `hf_endpoint` is the hub, or a mirror of it, which in a private
    network needs `allow_private_urls`. Volumes are folders in `volumes_dir` (none: in the data folder).
    `providers` are where workers run, each with its options: `process`, `docker`, `kubernetes`, or any name with one
    of these as its `type`; `prices` among the options are that provider's.
    `region` is this machine's, one of `regions`, which have numbers; `zone` is how Stoker calls itself where clients of
    Exoscale ask for zones; `virtual_gpus` are pretended cards, `images` what runs instead of container images.
    An idle worker that has been ready for `eviction_residence_s` makes room for endpoints where requests wait (none:
    no worker ever does).
    `workers_kept` is how many ended workers' output is kept. `operation_timeout_s` bounds every asynchronous change.
    `prices` are per hour and card, by family, `cpu` for a worker without cards, and beside these `vcpu` and `ram_gib`,
    in a `currency`. Usage by hour is kept for
    `usage_days`; facts of single requests for `requests_days`, up to `requests_mib` for each endpoint and
    `requests_total_mib` for all.
    Of events, decisions and audit events the newest are kept, so many of each; ended workers, operations, keys that
    were revoked or have expired, and answers to an `Idempotency-Key` for so long.
    """

    data_dir: Path = field(default_factory=lambda: Path.home() / ".stoker")
    # It may have a password in it.
    database: str | None = field(default=None, repr=False)
    host: str = DEFAULT_HOST
    port: int = DEFAULT_PORT
    external_url: str | None = None
    domains: tuple[str, ...] = ()
    cors_origins: tuple[str, ...] = ()
    allow_private_urls: UrlRules = field(default_factory=UrlRules)
    trusted_proxies: tuple[str, ...] = ()
    tls_cert: str | None = None
    tls_key: str | None = None
    models: Mapping[str, str] = field(default_factory=dict)
    models_cache_gib: float | None = None
    downloads_at_once: int = 2
    download_mib_per_s: float | None = None
    hf_endpoint: str = "https://huggingface.co"
    providers: Mapping[str, Mapping[str, object]] = field(default_factory=lambda: {"process": {}})
    region: str = DEFAULT_REGION
    regions: Mapping[str, int] = field(default_factory=lambda: {DEFAULT_REGION: 1})
    zone: str = "ch-dk-2"
    virtual_gpus: tuple[VirtualGpus, ...] = ()
    prices: Prices | None = None
    images: tuple[ImageRule, ...] = ()
    volumes_dir: str | None = None
    worker_ports: PortRange = DEFAULT_WORKER_PORTS
    worker_log_mib: float = 16.0
    workers_kept: int = 100
    eviction_residence_s: float | None = 30.0
    operation_timeout_s: float = 1_800.0
    events_kept: int = 10_000
    decisions_kept: int = 10_000
    audit_kept: int = 100_000
    buffer_mib: float = 256.0
    attempt_mib: float = 64.0
    attempts_mib: float = 4_096.0
    upgrade_drain_s: float = 600.0
    metrics_open: bool = False
    access_log: str | None = None
    usage_days: float = 400.0
    requests_days: float = 30.0
    requests_mib: float = 64.0
    requests_total_mib: float = 2_048.0
    ended_workers_kept_s: float = 604_800.0
    operations_kept_s: float = 604_800.0
    ended_keys_kept_s: float = 2_592_000.0
    idempotency_kept_s: float = 86_400.0
    log_level: str = "info"

    @property
    def paths(self) -> Paths:
        return Paths(self.data_dir)

    @property
    def volumes_folder(self) -> Path:
        """What volumes are folders of."""
        return self.data_dir / "volumes" if self.volumes_dir is None else Path(self.volumes_dir)

    def prices_of(self, provider: str) -> Prices | None:
        """What an hour on a provider's hosts costs, unless these say it themselves."""
        own = self.providers.get(provider, {}).get("prices")
        return self.prices if own is None else hardware.prices(own)

    @property
    def url(self) -> str:
        """The address that Stoker hands out."""
        if self.external_url:
            return self.external_url.rstrip("/")
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.tls_cert else 'http'}://{host}:{self.port}"


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
    settings = Settings(data_dir=folder, **{name: _value(name, value) for name, value in values.items()})
    if (settings.tls_cert is None) != (settings.tls_key is None):
        raise Invalid("the settings tls_cert and tls_key belong together: give both or none")
    for region in (settings.region, *(each.region for each in settings.virtual_gpus)):
        if region not in settings.regions:
            raise Invalid(f"the region {region!r} has no number; the setting regions has {', '.join(settings.regions)}")
    return settings


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
    except ValueError as exc:
        # A date that no calendar has, a number of thousands of digits.
        raise Invalid(f"{source} has a value that cannot be read: {exc}; put it in quotes") from exc
    except RecursionError as exc:
        raise Invalid(f"{source} is nested too deeply") from exc


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


def _switch(value: object) -> bool:
    if not isinstance(value, bool):
        raise TypeError("expected true or false")
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


def _origins(value: object) -> tuple[str, ...]:
    origins = _texts(value)
    for origin in origins:
        # Compared letter by letter with what browsers send, which has neither a path nor a capital.
        if origin != "*" and not re.fullmatch(r"https?://[a-z0-9.\[\]:-]+", origin):
            raise ValueError("expected origins like https://console.example, without a path, or *")
    return origins


def _networks(value: object) -> tuple[str, ...]:
    # The whole network is meant, whichever of its addresses stands for it.
    return tuple(str(ip_network(item, strict=False)) for item in _texts(value))


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


def _or_none(parse: Any) -> Any:
    return lambda value: None if value is None else parse(value)


def _address(value: object) -> str:
    text = _text(value).rstrip("/")
    if not text.startswith(("http://", "https://")):
        raise ValueError("expected an http or https address")
    return text


def _absolute(value: object) -> str:
    path = Path(_text(value)).expanduser()
    if not path.is_absolute():
        raise ValueError("expected a path that begins with /")
    return str(path)


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
    "cors_origins": _origins,
    "allow_private_urls": UrlRules.parse,
    "trusted_proxies": _networks,
    "tls_cert": _text,
    "tls_key": _text,
    "models": _text_map,
    "models_cache_gib": _or_none(_number(0.001, 10_000_000)),
    "downloads_at_once": _whole(1, 32),
    "download_mib_per_s": _or_none(_number(0.001, 1_000_000)),
    "hf_endpoint": _address,
    "providers": hardware.providers,
    "region": _text,
    "regions": hardware.regions,
    "zone": _text,
    "virtual_gpus": hardware.virtual_gpus,
    "prices": hardware.prices,
    "images": hardware.images,
    "volumes_dir": _absolute,
    "worker_ports": _ports,
    "worker_log_mib": _number(0.1, 10_240),
    "workers_kept": _whole(0, 10_000),
    "eviction_residence_s": _or_none(_number(0, 86_400)),
    "operation_timeout_s": _number(1, 604_800),
    "events_kept": _whole(100, 10_000_000),
    "decisions_kept": _whole(100, 10_000_000),
    "audit_kept": _whole(100, 10_000_000),
    "buffer_mib": _number(1, 1_048_576),
    "attempt_mib": _number(0.001, 1_048_576),
    "attempts_mib": _number(0.001, 1_048_576),
    "upgrade_drain_s": _number(0, 604_800),
    "metrics_open": _switch,
    "access_log": _text,
    "usage_days": _number(1, 10_000),
    "requests_days": _number(0, 10_000),
    "requests_mib": _number(0, 1_048_576),
    "requests_total_mib": _number(0, 1_048_576),
    "ended_workers_kept_s": _number(60, 315_360_000),
    "operations_kept_s": _number(60, 315_360_000),
    "ended_keys_kept_s": _number(60, 315_360_000),
    "idempotency_kept_s": _number(60, 315_360_000),
    "log_level": _level,
}
