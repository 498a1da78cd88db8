"""Resolves what a user wants to run into a launch that is stored with the endpoint."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from stoker.control import substitutes
from stoker.domain.endpoint import EndpointSpec, PoolSpec
from stoker.domain.errors import Invalid
from stoker.domain.hardware import HardwareRequest
from stoker.domain.images import ImageRule
from stoker.domain.launch import Launch, LaunchSpec
from stoker.domain.models import WeightsKey
from stoker.domain.probe import Probe
from stoker.domain.weights import VideoMemory, WeightsSize
from stoker.engines import base as engines
from stoker.engines import catalogue
from stoker.engines.base import ModelFile
from stoker.models import headers
from stoker.policy.images import rule_for

# An unknown program may not take two requests at once; whoever knows better says `slots`.
UNKNOWN_SLOTS = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """What a pool's workers stand on. `images` says what runs instead of images, `None` where images run, and then
    `image_of` which image an engine runs in, if the provider's options say so; `cards` is real or virtual, `None`
    without any; `card_gib` the memory of each card that was asked for, as far as that is known.
    """

    images: Sequence[ImageRule] | None = None
    image_of: Callable[[str], str | None] = lambda engine: None
    cards: str | None = None
    card_gib: float | None = None
    provider: str = "process"


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A model of the catalogue. `size` is that of its weights, once they are here."""

    file: ModelFile
    key: WeightsKey
    size: WeightsSize | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Shelf:
    """Where models are found: those of the settings by name, and of the catalogue those that the spec names."""

    named: Mapping[str, str]
    found: Mapping[str, Found] = field(default_factory=dict)


def resolve(
    spec: EndpointSpec, slug: str, *, shelf: Shelf, grounds: Mapping[str, Ground] | None = None
) -> dict[str, Launch]:
    """The launch of each pool, whose workers also answer to the endpoint's name and `slug` as model names.

    Raises `Invalid`, with a pointer into the spec, for unknown models, engines and parameters, and images that nothing
    stands in for. Looks at files.
    """
    own = grounds or {}
    found: dict[str, Launch] = {}
    for index, pool in enumerate(spec.pools):
        with _said_at("" if pool.launch is None else f"/pools/{index}"):
            found[pool.name] = _resolve(spec, pool, slug, shelf, own.get(pool.name, Ground()))
    return found


@contextmanager
def _said_at(pool: str) -> Iterator[None]:
    """What is wrong with a launch is wrong where that is said: in the spec, or in the pool."""
    try:
        yield
    except Invalid as exc:
        places = ((pool if each.pointer.startswith("/launch") else "", each) for each in exc.problems)
        problems = tuple(replace(each, pointer=place + each.pointer) for place, each in places)
        raise Invalid(str(exc), problems=problems) from exc


def _resolve(spec: EndpointSpec, pool: PoolSpec, slug: str, shelf: Shelf, ground: Ground) -> Launch:
    said, slots = spec.launch_of(pool), spec.slots_of(pool)
    wanted = said
    names: tuple[str, ...] = (spec.name, slug)
    notes: tuple[str, ...] = ()
    if wanted.image is not None and ground.images is not None:
        instead = substitutes.instead_of(wanted, rule_for(wanted.image, ground.images))
        wanted, names, notes = instead.launch, (*instead.names, *names), instead.notes
    if wanted.model is None:
        launch = _plain(wanted, slots=slots)
    else:
        where = f"/pools/{spec.pools.index(pool)}/hardware"
        launch = _served(wanted, pool.hardware, tuple(dict.fromkeys(names)), shelf, ground, where, slots=slots)
    notes = (*notes, *launch.notes)
    ping_s = spec.queue.ping_s if spec.queue.pull else None
    return replace(launch, ports=said.ports, port=said.port, volumes=spec.volumes, notes=notes, ping_s=ping_s)


def _served(
    wanted: LaunchSpec,
    hardware: HardwareRequest,
    names: tuple[str, ...],
    shelf: Shelf,
    ground: Ground,
    pointer: str,
    *,
    slots: int | None,
) -> Launch:
    assert wanted.model is not None
    try:
        own = shelf.found.get(wanted.model)
        model = own.file if own else catalogue.resolve(wanted.model, shelf.named, engine=wanted.engine)
    except OSError as exc:
        raise Invalid.at("/launch/model", f"cannot look for the model: {exc.strerror}") from exc
    virtual = ground.cards == "virtual"
    engine = engines.load(catalogue.choose(wanted, model, hardware, virtual=virtual))
    if virtual:
        # The machine has neither these cards nor the processors that are pretended beside them.
        hardware = HardwareRequest()
    launch = engine.launch(wanted, model, hardware, names=names, slots=slots)
    if hardware.gpu_count and ground.card_gib is not None:
        memory = engine.video_memory(wanted, hardware, card_gib=ground.card_gib)
        _check_fits(memory, model, own, pointer)
        launch = replace(launch, video_memory=memory)
    if ground.images is None:
        launch = replace(launch, base=_base(engine, wanted, ground), files=_files(model))
    notes = (*launch.notes, "the GPUs are virtual: the model runs without any") if virtual else launch.notes
    weights = own.key if own else launch.weights
    return replace(launch, cards=ground.cards, weights=weights, notes=notes)


def _base(engine: engines.Engine, wanted: LaunchSpec, ground: Ground) -> str:
    """The image that the engine's command runs in: as the provider's options say, else that of the engine's makers."""
    image = ground.image_of(engine.name) or engine.image
    if image is None:
        raise Invalid.at(
            "/launch/engine",
            f"the {ground.provider} provider runs images, and nobody publishes one for {engine.name}: name one that "
            "has it in the provider's options, under engine_images",
        )
    return image.replace("{version}", wanted.engine_version or engine.version or "latest")


def _files(model: ModelFile) -> tuple[str, ...]:
    """What a container needs to see of this host: the file, or the folder with all its parts."""
    if model.path is None or not model.path.startswith("/"):
        return ()
    path = Path(model.path)
    return (str(path.parent if headers.is_part(path) else path),)


def _check_fits(memory: VideoMemory | None, model: ModelFile, found: Found | None, pointer: str) -> None:
    """Refuse weights that are too large for the cards, where their size is known already."""
    if memory is None:
        return
    here = None if found is not None or model.path is None else headers.size_of(Path(model.path))
    size = here if found is None else found.size
    lack = None if size is None else memory.lack(size)
    if lack is not None:
        raise Invalid.at(f"{pointer}/vram_gib_min", lack)


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
