"""Resolves what a user wants to run into a launch that is stored with the endpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from stoker.domain.endpoint import EndpointSpec, Launch
from stoker.domain.errors import Invalid
from stoker.domain.hardware import HardwareRequest
from stoker.domain.models import WeightsKey
from stoker.domain.probe import Probe
from stoker.engines import base as engines
from stoker.engines import catalogue
from stoker.engines.base import ModelFile

# An unknown program may not take two requests at once; whoever knows better says `slots`.
UNKNOWN_SLOTS = 1


def resolve(
    spec: EndpointSpec,
    slug: str,
    *,
    models: Mapping[str, str],
    found: tuple[ModelFile, WeightsKey] | None = None,
) -> dict[str, Launch]:
    """The launch of each pool, whose workers also answer to the endpoint's name and `slug` as model names. `models` are
    those of the settings, `found` is the one of the catalogue that the spec names.

    Raises `Invalid`, with a pointer into the spec, for unknown models, engines and parameters. Looks at files.
    """
    launches = {pool.name: _resolve(spec, pool.hardware, slug, models, found) for pool in spec.pools}
    return {name: replace(launch, volumes=spec.volumes) for name, launch in launches.items()}


def _resolve(
    spec: EndpointSpec,
    hardware: HardwareRequest,
    slug: str,
    models: Mapping[str, str],
    found: tuple[ModelFile, WeightsKey] | None,
) -> Launch:
    wanted = spec.launch
    if wanted.model is not None:
        try:
            model = found[0] if found else catalogue.resolve(wanted.model, models, engine=wanted.engine)
        except OSError as exc:
            raise Invalid.at("/launch/model", f"cannot look for the model: {exc.strerror}") from exc
        engine = engines.load(catalogue.choose(wanted, model, hardware))
        names = tuple(dict.fromkeys((spec.name, slug)))
        launch = engine.launch(wanted, model, hardware, names=names, slots=spec.slots)
        return launch if found is None else replace(launch, weights=found[1])
    notes: tuple[str, ...] = ()
    if spec.slots is None:
        notes = (f"each worker gets {UNKNOWN_SLOTS} request at a time; set slots if it takes more at once",)
    return Launch(
        engine=None,
        command=wanted.command,
        image=wanted.image,
        credential=wanted.credential,
        env=dict(wanted.env),
        port=wanted.port,
        # Nothing is known of its paths: ready is when it accepts connections.
        probe=Probe(path=None),
        slots=UNKNOWN_SLOTS,
        notes=notes,
    )
