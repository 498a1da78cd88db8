"""Connects the providers that the settings name. Called by control when it starts."""

from __future__ import annotations

from stoker.providers import base
from stoker.providers.base import Provider, ProviderOptions
from stoker.settings import Settings
from stoker.settings_hardware import OF_ALL_KINDS, kind_of


def open_providers(settings: Settings) -> dict[str, Provider]:
    """By name. Raises `Unsupported` for one of a kind that is not there, or whose library is not installed."""
    common: dict[str, object] = {
        "log_mib": settings.worker_log_mib,
        "workers_kept": settings.workers_kept,
        "region": settings.region,
    }
    local = {**common, "ports": settings.worker_ports, "virtual_gpus": settings.virtual_gpus}
    found = {}
    for name, given in settings.providers.items():
        kind = kind_of(name, given)
        own = {option: value for option, value in given.items() if option not in OF_ALL_KINDS}
        options = {**(local if kind == "process" else common), **own}
        found[name] = base.load(kind, ProviderOptions(settings.data_dir, options, name))
    return found
