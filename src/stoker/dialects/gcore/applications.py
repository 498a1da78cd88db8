"""Applications as endpoints: one for each component, which says in an annotation what it is part of.

There is one template, of models behind OpenAI's API.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from pydantic import ValidationError

from stoker.dialects import keeping
from stoker.dialects.gcore.flavors import Flavor, Place
from stoker.dialects.gcore.mapping import APPLICATION, DESCRIPTION, FLAVOR, KEPT, contained, settled
from stoker.dialects.gcore.wire.applications import (
    AddressOut,
    ApplicationOut,
    ApplicationStatusOut,
    BoundsOut,
    ComponentIn,
    ComponentOut,
    ComponentPatch,
    ComponentStatusOut,
    ComponentTemplateOut,
    Consolidated,
    FlavorName,
    InferenceOut,
    Override,
    ParameterOut,
    Part,
    RegionStatusOut,
    TemplateOut,
)
from stoker.dialects.gcore.wire.deployments import DeploymentOut, Kept
from stoker.dialects.gcore.wire.scaling import ContainerIn, ScaleIn
from stoker.domain.endpoint import Access, EndpointSpec
from stoker.domain.errors import Invalid, Problem
from stoker.domain.launch import LaunchSpec

CHAT = "openai-chat"
SLOTS_MAX = 256
# Whether it must be there, by the names of components.
COMPONENTS: Mapping[str, bool] = {"model": True, "second": False}
_WORDS = {
    "model": ("Model", "A model behind OpenAI's API."),
    "second": ("Second model", "Another one beside it: smaller, or for embeddings."),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Component:
    """One component as it is wanted."""

    name: str
    exposed: bool
    flavor: str
    min: int
    max: int
    overrides: Mapping[str, str]


def template(flavors: Sequence[Flavor], models: Sequence[str]) -> TemplateOut:
    """The template, with the sizes and models that there are."""
    suitable = [FlavorName(name=each.name) for each in flavors]
    parameters = {
        "model": ParameterOut(
            display_name="Model",
            description="A model of the catalogue, by its name or an alias.",
            default_value=models[0] if models else "",
            required=not models,
            type="string",
        ),
        "slots": ParameterOut(
            display_name="Slots",
            description="How many requests one replica takes at once; 0 leaves it to the engine.",
            default_value="0",
            min_value="0",
            max_value=str(SLOTS_MAX),
            required=False,
            type="integer",
        ),
    }
    return TemplateOut(
        name=CHAT,
        display_name="Models behind OpenAI's API",
        description="One or two models of the catalogue, each served with OpenAI's API.",
        readme="Each component is a deployment of its own, called as the application and the component.",
        tags={"task": "text-generation"},
        components={
            name: ComponentTemplateOut(
                display_name=_WORDS[name][0],
                description=_WORDS[name][1],
                exposable=True,
                required=required,
                suitable_flavors=suitable,
                parameters=parameters,
            )
            for name, required in COMPONENTS.items()
        },
    )


def part_of(spec: EndpointSpec) -> Part | None:
    """Which component of which application an endpoint is; `None` for one that is none."""
    return keeping.read(spec, APPLICATION, Part)


def wanted(components: Mapping[str, ComponentIn]) -> list[Component]:
    """The components of a new application. Raises `Invalid`."""
    problems = [Problem(_at(name), "no such component") for name in components if name not in COMPONENTS]
    missing = [name for name, required in COMPONENTS.items() if required and name not in components]
    problems += [Problem(_at(name), "this component is required") for name in missing]
    if problems:
        raise Invalid("the components do not fit the template", problems=tuple(problems))
    return [
        Component(
            name=name,
            exposed=each.exposed,
            flavor=each.flavor,
            min=each.scale.min,
            max=each.scale.max,
            overrides={key: override.value for key, override in each.parameter_overrides.items()},
        )
        for name, each in components.items()
    ]


def present(spec: EndpointSpec, part: Part) -> Component:
    """A component as it is. Where its regions have different bounds by now, the first one's stand for all."""
    bounds = spec.pools[0].bounds
    return Component(
        name=part.component,
        exposed=part.exposed,
        flavor=spec.annotations.get(FLAVOR, ""),
        min=bounds.min,
        max=bounds.max,
        overrides=part.overrides,
    )


def patched(component: str, before: Component | None, patch: ComponentPatch) -> Component:
    """A component with its changes, or a new one. Raises `Invalid`."""
    if component not in COMPONENTS:
        raise Invalid.at(_at(component), "no such component")
    if before is None:
        try:
            whole = ComponentIn.model_validate(patch.model_dump(exclude_none=True))
        except ValidationError as exc:
            said = {".".join(map(str, error["loc"])): error["msg"] for error in exc.errors()}
            problems = tuple(Problem(f"{_at(component)}/{where}", text) for where, text in said.items())
            raise Invalid("a new component must be said in full", problems=problems) from exc
        return wanted({**_required_of(whole), component: whole})[-1]
    overrides = dict(before.overrides)
    for key, override in (patch.parameter_overrides or {}).items():
        overrides.pop(key, None)
        if override is not None:
            overrides[key] = override.value
    scale = patch.scale
    return replace(
        before,
        exposed=before.exposed if patch.exposed is None else patch.exposed,
        flavor=patch.flavor or before.flavor,
        min=before.min if scale is None or scale.min is None else scale.min,
        max=before.max if scale is None or scale.max is None else scale.max,
        overrides=overrides,
    )


def _required_of(whole: ComponentIn) -> dict[str, ComponentIn]:
    return {name: whole for name, required in COMPONENTS.items() if required}


def endpoint_of(
    deployment: str,
    component: Component,
    regions: Sequence[int],
    place: Place,
    *,
    default_model: str | None,
    keyed: bool,
    before: EndpointSpec | None = None,
) -> EndpointSpec:
    """The endpoint of one component; `before` is what it was; `keyed` ones are called with keys. Raises `Invalid`."""
    at = _at(component.name)
    model, slots = _parameters(component, default_model, f"{at}/parameter_overrides")
    launch = replace(before.launch, model=model) if before is not None else LaunchSpec(model=model)
    part = Part(
        application=CHAT,
        deployment=deployment,
        component=component.name,
        exposed=component.exposed,
        overrides=dict(component.overrides),
    )
    access = Access.PROJECT if not component.exposed else Access.ATTACHED if keyed else Access.OPEN
    if before is None:
        said = {DESCRIPTION: "", KEPT: Kept().model_dump_json()}
        before = EndpointSpec(name=name_of(deployment, component.name), launch=launch, annotations=said)
    annotations = {**before.annotations, FLAVOR: component.flavor, APPLICATION: part.model_dump_json()}
    spec = replace(before, launch=launch, slots=slots, access=access, annotations=annotations)
    if component.flavor not in place.flavors:
        raise Invalid.at(f"{at}/flavor", f"no flavor {component.flavor[:64]!r}")
    if component.min > component.max:
        raise Invalid.at(f"{at}/scale", f"min ({component.min}) is above max ({component.max})")
    scale = ScaleIn(min=component.min, max=component.max)
    containers = [ContainerIn(region_id=region, scale=scale) for region in regions]
    return settled(contained(spec, containers, place.flavors[component.flavor], place))


def _parameters(component: Component, default_model: str | None, at: str) -> tuple[str, int | None]:
    unknown = [key for key in component.overrides if key not in ("model", "slots")]
    if unknown:
        raise Invalid.at(f"{at}/{unknown[0][:64]}", "no such parameter")
    model = component.overrides.get("model") or default_model
    if model is None:
        raise Invalid.at(f"{at}/model", "say which model: there is none on this host")
    slots = component.overrides.get("slots", "0")
    if not (slots.isascii() and slots.isdigit() and int(slots[:9]) <= SLOTS_MAX):
        raise Invalid.at(f"{at}/slots", f"a whole number from 0 to {SLOTS_MAX}")
    return model, int(slots) or None


def _at(component: str) -> str:
    return f"/components_configuration/{component[:64]}"


def name_of(deployment: str, component: str) -> str:
    """What the deployment of one component is called."""
    return f"{deployment}-{component}"


# As it is shown


@dataclass(frozen=True, slots=True)
class Shown:
    """One component of an application that is there, and its deployment."""

    part: Part
    component: Component
    deployment: DeploymentOut


def application(name: str, components: Sequence[Shown]) -> ApplicationOut:
    """An application of these components, of which there is one at least."""
    keys = {key for each in components for key in each.deployment.api_keys or ()}
    regions = sorted({container.region_id for each in components for container in each.deployment.containers})
    return ApplicationOut(
        api_keys=sorted(keys),
        application_name=components[0].part.application,
        components_configuration={each.part.component: _configured(each.component) for each in components},
        name=name,
        regions=regions,
        status=ApplicationStatusOut(
            component_inferences={
                each.part.component: InferenceOut(flavor=each.component.flavor, name=each.deployment.name)
                for each in components
            },
            consolidated_status=_together([_status(each.deployment, None) for each in components]),
            expose_addresses={
                each.part.component: AddressOut(address=each.deployment.address)
                for each in components
                if each.part.exposed and each.deployment.address is not None
            },
            regions=[_region(region, components) for region in regions],
        ),
    )


def _configured(component: Component) -> ComponentOut:
    return ComponentOut(
        exposed=component.exposed,
        flavor=component.flavor,
        parameter_overrides={key: Override(value=value) for key, value in component.overrides.items()},
        scale=BoundsOut(min=component.min, max=component.max),
    )


def _region(region: int, components: Sequence[Shown]) -> RegionStatusOut:
    statuses = {each.part.component: _status(each.deployment, region) for each in components}
    return RegionStatusOut(
        components={
            each.part.component: ComponentStatusOut(
                error=_error(each.deployment, region), status=statuses[each.part.component]
            )
            for each in components
        },
        region_id=region,
        status=_together(list(statuses.values())),
    )


def _error(deployment: DeploymentOut, region: int | None) -> str:
    errors = [each.error_message for each in deployment.containers if region in (None, each.region_id)]
    return next((error for error in errors if error), "")


def _status(deployment: DeploymentOut, region: int | None) -> Consolidated:
    match deployment.status:
        case "ACTIVE" | "PENDING":
            return "Active"
        case "DISABLED" | "DELETING":
            return "Unknown"
    return "Failed" if _error(deployment, region) else "PartiallyDeployed"


def _together(statuses: Sequence[Consolidated]) -> Consolidated:
    for worst in ("Failed", "PartiallyDeployed", "Unknown"):
        if worst in statuses:
            return worst
    return "Active"
