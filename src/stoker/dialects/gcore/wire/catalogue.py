"""What there is to choose from: flavors and how much of them is free, models, projects, regions, and prices."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from stoker.dialects.gcore.wire.base import Text, Whole, Wire
from stoker.dialects.gcore.wire.scaling import MAX_REPLICAS, ContainerIn
from stoker.domain.endpoint import POOLS_MAX


class FlavorOut(Wire):
    cpu: float
    description: str
    gpu: int
    gpu_compute_capability: str
    gpu_memory: float
    gpu_model: str
    is_gpu_shared: bool
    memory: float
    name: str


class FreeOut(Wire):
    capacity: int
    flavor_name: str


class CapacityOut(Wire):
    capacity: list[FreeOut]
    region_id: int


class ModelOut(Wire):
    """A model that can be deployed: `image_url` is the image to ask for, `model_id` what requests call it."""

    id: str
    name: str
    description: str
    image_url: str
    port: int
    has_eula: bool = False
    model_id: str | None
    openai_compatibility: Literal["full", "partial", "none"] | None
    category: str | None = None
    default_flavor_name: str | None = None
    developer: str | None = None
    documentation_page: str | None = None
    eula_url: str | None = None
    example_curl_request: str | None = None
    image_registry_id: str | None = None
    inference_backend: str | None = None
    inference_frontend: str | None = None
    version: str | None = None


class ProjectOut(Wire):
    id: int
    client_id: int
    created_at: str
    deleted_at: str | None = None
    description: str | None = None
    is_default: bool
    name: str
    state: str = "ACTIVE"
    task_id: str | None = None


class CoordinatesOut(Wire):
    latitude: str
    longitude: str


class RegionOut(Wire):
    """A region. What only virtual machines, networks or volumes have is not there."""

    id: int
    display_name: str
    keystone_name: str
    keystone_id: int
    slug: str
    created_at: str
    created_on: str
    has_ai_gpu: bool
    access_level: Literal["core", "edge"] = "edge"
    available_volume_types: list[str] | None = None
    coordinates: CoordinatesOut | None = None
    # The code for a country that is not known; it cannot be left out.
    country: str = "ZZ"
    endpoint_type: Literal["admin", "internal", "public"] = "public"
    external_network_id: str | None = None
    file_share_types: list[str] | None = None
    has_ai: bool = True
    has_baremetal: bool = False
    has_basic_vm: bool = False
    has_dbaas: bool = False
    has_ddos: bool = False
    has_k8s: bool = False
    has_kvm: bool = False
    has_sfs: bool = False
    metrics_database_id: int | None = None
    state: Literal["ACTIVE"] = "ACTIVE"
    task_id: str | None = None
    vlan_physical_network: str = ""
    zone: Literal["AMERICAS", "APAC", "EMEA", "RUSSIA_AND_CIS"] | None = None


class LimitsIn(Wire):
    """What somebody means to deploy."""

    containers: Annotated[list[ContainerIn], Field(min_length=1, max_length=POOLS_MAX)]
    flavor_name: Text


class LimitsOut(Wire):
    """What it would take of which quota: there are none."""


class MostIn(Wire):
    max: Annotated[Whole, Field(ge=0, le=MAX_REPLICAS)]


class PricedContainerIn(Wire):
    region_id: Whole
    scale: MostIn


class PricedDeploymentIn(Wire):
    """What somebody would like to know the price of."""

    containers: Annotated[list[PricedContainerIn], Field(min_length=1, max_length=POOLS_MAX)]
    flavor_name: Text


class PriceOut(Wire):
    """Nothing here has a price in money of that cloud's."""

    currency_code: str | None = None
    discount_percent: float | None = None
    price_per_hour: float | None = None
    price_per_month: float | None = None
    price_status: Literal["show", "hide", "error"] = "hide"
    price_without_discount_per_month: float | None = None
    tax_percent: float | None = None
