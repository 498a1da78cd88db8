"""What a spec may say of routing, and that it survives the way through its document."""

from __future__ import annotations

import pytest

from stoker.api.wire.spec import SpecIn
from stoker.domain.errors import Invalid
from stoker.domain.routing import Affinity, Balance, Routing


def test_a_session_is_remembered_for_a_second_to_a_week() -> None:
    with pytest.raises(Invalid) as refused:
        Routing(session_idle_s=0.5)
    assert [problem.pointer for problem in refused.value.problems] == ["/routing/session_idle_s"]


def test_routing_survives_its_document() -> None:
    document = {"name": "a", "launch": {"command": ["x"]}, "routing": {"balance": "pack", "session": "strict"}}
    spec = SpecIn.model_validate(document).to_spec()
    assert spec.routing == Routing(balance=Balance.PACK, session=Affinity.STRICT)
    assert SpecIn.of(spec).to_spec() == spec
