"""What the command line asks for beside what it was told to do: whose key it has, and which cards there are."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request

from stoker.dialects.vast.caller import Caller, KeyedRoute
from stoker.dialects.vast.wire.base import Wire
from stoker.domain.gpus import spelled
from stoker.domain.hardware import HardwareRequest
from stoker.web import services_of

router = APIRouter(route_class=KeyedRoute, tags=["beside"])


class UserOut(Wire):
    """Whose key it is: the project's."""

    id: int
    host_agreement_accepted: int = 0


class NamesOut(Wire):
    gpu_names: list[str]


@router.get("/api/v0/users/current", operation_id="current-user")
async def current_user(context: Caller) -> UserOut:
    """The project that the key is of."""
    return UserOut(id=context.principal.project)


@router.get("/api/v0/gpu_names/unique", operation_id="gpu-names")
async def gpu_names(request: Request) -> NamesOut:
    """The kinds of cards that machines here have, in this cloud's spelling."""
    types = services_of(request).views.instance_types(HardwareRequest())
    return NamesOut(gpu_names=sorted({spelled(each.type.family, "vast", vram_gib=0) for each in types}))
