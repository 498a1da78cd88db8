"""Applications: templates of several components, and what is made of them. Each component is a deployment."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, Field, StringConstraints

from stoker.dialects.gcore.wire.base import LABEL, Flag, Text, Whole, Wire
from stoker.dialects.gcore.wire.deployments import KeyNames
from stoker.dialects.gcore.wire.scaling import MAX_REPLICAS
from stoker.domain.endpoint import POOLS_MAX

COMPONENTS_MAX = 16
PARAMETERS_MAX = 32
Replicas = Annotated[Whole, Field(ge=0, le=MAX_REPLICAS)]
Regions = Annotated[list[Whole], Field(min_length=1, max_length=POOLS_MAX)]
Word = Annotated[str, StringConstraints(min_length=1, max_length=63)]
# With the name of a component it is the name of a deployment.
Name = Annotated[str, StringConstraints(min_length=1, max_length=15, pattern=LABEL)]


class ParameterOut(Wire):
    default_value: str
    description: str
    display_name: str
    enum_values: list[str] | None = None
    max_value: str | None = None
    min_value: str | None = None
    pattern: str | None = None
    required: bool
    type: Literal["enum", "float", "integer", "string"]


class FlavorName(Wire):
    name: str


class ComponentTemplateOut(Wire):
    description: str
    display_name: str
    exposable: bool
    license_url: str = ""
    parameters: dict[str, ParameterOut]
    readme: str = ""
    required: bool
    suitable_flavors: list[FlavorName]


class TemplateOut(Wire):
    components: dict[str, ComponentTemplateOut]
    cover_url: str = ""
    description: str
    display_name: str
    name: str
    readme: str
    tags: dict[str, str]


class Override(Wire):
    value: Annotated[str, Field(max_length=255)]


class BoundsIn(Wire):
    min: Replicas
    max: Replicas


class ComponentIn(Wire):
    exposed: Flag
    flavor: Text
    parameter_overrides: dict[Word, Override] = Field(default_factory=dict, max_length=PARAMETERS_MAX)
    scale: BoundsIn


class ApplicationIn(Wire):
    """A new application."""

    application_name: Text
    components_configuration: Annotated[dict[Word, ComponentIn], Field(min_length=1, max_length=COMPONENTS_MAX)]
    name: Name
    regions: Regions
    api_keys: KeyNames = Field(default_factory=list)


class BoundsPatch(Wire):
    min: Replicas | None = None
    max: Replicas | None = None


class ComponentPatch(Wire):
    """What of a component is to be changed; an override that is null is undone."""

    exposed: Flag | None = None
    flavor: Text | None = None
    parameter_overrides: Annotated[dict[Word, Override | None], Field(max_length=PARAMETERS_MAX)] | None = None
    scale: BoundsPatch | None = None


class ApplicationPatch(Wire):
    """What is to be changed; a component that is null is taken away."""

    api_keys: KeyNames | None = None
    components_configuration: Annotated[dict[Word, ComponentPatch | None], Field(max_length=COMPONENTS_MAX)] | None = (
        None
    )
    regions: Regions | None = None


class PricedApplicationIn(Wire):
    """What somebody would like to know the price of."""

    application_name: Text
    components_configuration: Annotated[dict[Word, ComponentIn], Field(min_length=1, max_length=COMPONENTS_MAX)]
    regions: Regions


class Part(BaseModel):
    """What an endpoint's annotation says: which component of which application it is, and how that was asked for."""

    application: str
    deployment: str
    component: str
    exposed: bool
    overrides: dict[str, str] = Field(default_factory=dict)


class BoundsOut(Wire):
    max: int
    min: int


class ComponentOut(Wire):
    exposed: bool
    flavor: str
    parameter_overrides: dict[str, Override]
    scale: BoundsOut


class InferenceOut(Wire):
    flavor: str
    name: str


class AddressOut(Wire):
    address: str


class ComponentStatusOut(Wire):
    error: str
    status: str


class RegionStatusOut(Wire):
    components: dict[str, ComponentStatusOut]
    region_id: int
    status: str


Consolidated = Literal["Active", "Failed", "PartiallyDeployed", "Unknown"]


class ApplicationStatusOut(Wire):
    component_inferences: dict[str, InferenceOut]
    consolidated_status: Consolidated
    expose_addresses: dict[str, AddressOut]
    regions: list[RegionStatusOut]


class ApplicationOut(Wire):
    api_keys: list[str]
    application_name: str
    components_configuration: dict[str, ComponentOut]
    name: str
    regions: list[int]
    status: ApplicationStatusOut
