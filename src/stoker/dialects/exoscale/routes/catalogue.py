"""What there is to choose from: zones, instance types, parameters of the engine."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit

from fastapi import APIRouter, Query
from starlette.requests import Request

from stoker.dialects.exoscale.caller import Caller, SignedRoute
from stoker.dialects.exoscale.wire.base import Wire
from stoker.dialects.exoscale.wire.deployments import CPU, DEFAULT_VERSION, Version
from stoker.domain.gpus import spelled
from stoker.domain.hardware import HardwareRequest
from stoker.domain.views import ParameterView
from stoker.web import Services, services_of

router = APIRouter(route_class=SignedRoute, tags=["catalogue"])

# Families that the cloud names: those that are not here are listed as out of reach.
FAMILIES = ("gpu3080ti", "gpua5000", "gpurtx6000pro", "gpu3")
# Set by Stoker, or a way to run code of one's own in the worker.
WITHHELD = frozenset(
    {
        *("model", "served-model-name", "host", "port", "uds", "api-key", "root-path", "config", "headless"),
        *("api-server-count", "tensor-parallel-size", "master-addr", "master-port", "nnodes", "node-rank"),
        *("download-dir", "hf-token", "middleware", "log-config-file", "enable-ssl-refresh"),
        *("worker-cls", "worker-extension-cls", "scheduler-cls", "logits-processors", "io-processor-plugin"),
        *("reasoning-parser-plugin", "tool-parser-plugin", "ray-workers-use-nsight"),
    }
)
WITHHELD_PREFIXES = ("ssl-", "pipeline-parallel-", "data-parallel-")


class Zone(Wire):
    name: str
    api_endpoint: str


class ZonesOut(Wire):
    zones: list[Zone]


class InstanceTypeOut(Wire):
    family: str
    authorized: bool


class InstanceTypesOut(Wire):
    instance_types: list[InstanceTypeOut]


class ParameterOut(Wire):
    """One parameter of the engine's server; all values are texts, since `exo` reads nothing else."""

    name: str
    flags: list[str]
    type: str
    default: str
    allowed_values: list[str] | None = None
    section: str
    description: str


class HelpOut(Wire):
    parameters: list[ParameterOut]


@router.get("/zone", operation_id="list-zones")
async def list_zones(request: Request) -> ZonesOut:
    """This server, as the only zone there is. `exo` sends all that follows to the address in this answer."""
    services = services_of(request)
    return ZonesOut(zones=[Zone(name=services.zone, api_endpoint=_address(request, services))])


def _address(request: Request, services: Services) -> str:
    """Where the caller has found this server: behind a proxy, that is not where it listens."""
    prefix = request.scope.get("root_path", "").rstrip("/")
    if request.url.netloc == urlsplit(services.url).netloc:
        return f"{services.url}{prefix}/v2"
    return f"{request.url.scheme}://{request.url.netloc}{prefix}/v2"


@router.get("/ai/instance-type", operation_id="list-ai-instance-types")
async def list_ai_instance_types(context: Caller) -> InstanceTypesOut:
    """The families of cards: authorized are those that a machine here has, and `cpu`, which is no card at all."""
    types = context.services.views.instance_types(HardwareRequest())
    here = {spelled(each.type.family, "exoscale", vram_gib=each.type.vram_gib) for each in types} | {CPU}
    return InstanceTypesOut(
        instance_types=[
            InstanceTypeOut(family=family, authorized=family in here) for family in sorted(here | {*FAMILIES})
        ]
    )


@router.get(
    "/ai/help/inference-engine-parameters", operation_id="get-inference-engine-help", response_model_exclude_none=True
)
async def get_inference_engine_help(context: Caller, version: Annotated[Version, Query()] = DEFAULT_VERSION) -> HelpOut:
    """The parameters that vLLM's server takes in that version and that are not set by Stoker."""
    found = context.services.views.parameters("vllm", version)
    return HelpOut(parameters=[_parameter(each) for each in found if _served(each.name)])


def _served(name: str) -> bool:
    return name not in WITHHELD and not name.startswith(WITHHELD_PREFIXES)


def _parameter(view: ParameterView) -> ParameterOut:
    return ParameterOut(
        name=view.name,
        flags=list(view.flags),
        type=view.type,
        default="None" if view.default is None else view.default,
        allowed_values=list(view.allowed) or None,
        section=view.section,
        description=view.description,
    )
