"""Resolves what a user wants to run into a launch that is stored with the endpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from stoker.control import substitutes
from stoker.domain.endpoint import EndpointSpec, Launch, LaunchSpec, PoolSpec
from stoker.domain.errors import Invalid
from stoker.domain.hardware import HardwareRequest
from stoker.domain.images import ImageRule
from stoker.domain.models import WeightsKey
from stoker.domain.probe import Probe
from stoker.engines import base as engines
from stoker.engines import catalogue
from stoker.engines.base import ModelFile
from stoker.policy.images import rule_for

# An unknown program may not take two requests at once; whoever knows better says `slots`.
UNKNOWN_SLOTS = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """What a pool's workers stand on. `images` says what runs instead of images, `None` where images run; `cards` is
    real or virtual, `None` without any.
    """

    images: Sequence[ImageRule] | None = None
    cards: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Shelf:
    """Where models are found: those of the settings by name, and the one of the catalogue that the spec names."""

    named: Mapping[str, str]
    found: tuple[ModelFile, WeightsKey] | None = None


def resolve(
    spec: EndpointSpec, slug: str, *, shelf: Shelf, grounds: Mapping[str, Ground] | None = None
) -> dict[str, Launch]:
    """The launch of each pool, whose workers also answer to the endpoint's name and `slug` as model names.

    Raises `Invalid`, with a pointer into the spec, for unknown models, engines and parameters, and images that nothing
    stands in for. Looks at files.
    """
    own = grounds or {}
    return {pool.name: _resolve(spec, pool, slug, shelf, own.get(pool.name, Ground())) for pool in spec.pools}


def _resolve(spec: EndpointSpec, pool: PoolSpec, slug: str, shelf: Shelf, ground: Ground) -> Launch:
    wanted = spec.launch
    names: tuple[str, ...] = (spec.name, slug)
    notes: tuple[str, ...] = ()
    if wanted.image is not None and ground.images is not None:
        instead = substitutes.instead_of(wanted, rule_for(wanted.image, ground.images))
        wanted, names, notes = instead.launch, (*instead.names, *names), instead.notes
    if wanted.model is None:
        launch = _plain(wanted, slots=spec.slots)
    else:
        launch = _served(wanted, pool.hardware, tuple(dict.fromkeys(names)), shelf, ground, slots=spec.slots)
    notes = (*notes, *launch.notes)
    ping_s = spec.queue.ping_s if spec.queue.pull else None
    return replace(
        launch, ports=spec.launch.ports, port=spec.launch.port, volumes=spec.volumes, notes=notes, ping_s=ping_s
    )


def _served(
    wanted: LaunchSpec,
    hardware: HardwareRequest,
    names: tuple[str, ...],
    shelf: Shelf,
    ground: Ground,
    *,
    slots: int | None,
) -> Launch:
    assert wanted.model is not None
    try:
        model = shelf.found[0] if shelf.found else catalogue.resolve(wanted.model, shelf.named, engine=wanted.engine)
    except OSError as exc:
        raise Invalid.at("/launch/model", f"cannot look for the model: {exc.strerror}") from exc
    virtual = ground.cards == "virtual"
    engine = engines.load(catalogue.choose(wanted, model, hardware, virtual=virtual))
    if virtual:
        # The machine has neither these cards nor the processors that are pretended beside them.
        hardware = HardwareRequest()
    launch = engine.launch(wanted, model, hardware, names=names, slots=slots)
    notes = (*launch.notes, "the GPUs are virtual: the model runs without any") if virtual else launch.notes
    weights = shelf.found[1] if shelf.found else launch.weights
    return replace(launch, cards=ground.cards, weights=weights, notes=notes)


def _plain(wanted: LaunchSpec, *, slots: int | None) -> Launch:
    notes: tuple[str, ...] = ()
    if slots is None:
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
