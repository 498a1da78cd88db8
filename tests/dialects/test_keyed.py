"""The frame of dialects' routes."""

from __future__ import annotations

from typing import ClassVar

import pytest
from fastapi import APIRouter

from stoker.dialects.keyed import KeyedRoute
from stoker.domain.authorisation import Action


class Route(KeyedRoute):
    """Of a dialect with one operation."""

    actions: ClassVar = {"list-things": Action.ENDPOINT_LIST}


async def things() -> list[str]:
    return []


def test_an_operation_that_no_action_is_said_for_cannot_be_made() -> None:
    router = APIRouter(route_class=Route)
    router.add_api_route("/things", things, operation_id="list-things")
    with pytest.raises(KeyError):
        router.add_api_route("/others", things, operation_id="list-others")
