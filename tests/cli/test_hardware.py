"""`stoker hardware`."""

from __future__ import annotations

import json
from typing import Any

from cli.fake_stoker import Command, FakeStoker, page


def card(index: int, *, virtual: bool = True) -> dict[str, Any]:
    return {
        "index": index,
        "id": str(index),
        "family": "a5000",
        "vram_gib": 23.9,
        "vram_stated_gib": 24.0,
        "virtual": virtual,
    }


OFFER: dict[str, Any] = {
    "provider": "process",
    "host": "box/a5000",
    "region": "local",
    "virtual": True,
    "vcpu": 16.0,
    "ram_gib": 63.9,
    "disk_gib": None,
    "gpus": [card(0), card(1)],
    "used": {
        "vcpu": 2.0,
        "ram_gib": 4.0,
        "gpus": [1],
        "workers": 4,
        "by": [{"endpoint": "chat"}, {"endpoint": "chat"}, {"endpoint": "other"}],
    },
    "free": {"vcpu": 14.0, "ram_gib": 59.9, "disk_gib": None, "gpus": [0]},
    "fits": 1,
    "lacks": [],
    "notes": ["card 2 (h100) is split by MIG"],
}
TYPE = {
    "provider": "process",
    "region": "local",
    "family": "a5000",
    "vram_gib": 24.0,
    "count": 2,
    "vcpu": 16.0,
    "ram_gib": 64.0,
    "virtual": True,
    "total": 2,
    "free": 1,
    "price_per_hour": 0.5,
    "currency": "USD",
}


def test_machines_are_listed_with_what_is_free_and_who_holds_the_rest(stoker: Command, fake: FakeStoker) -> None:
    fake.on("GET", "/hardware", {"offers": [OFFER], "regions": {"local": 1}})
    ran = stoker("hardware")
    for text in (
        "box/a5000 (virtual)",
        "14 of 16 free",
        "1 of 2 a5000 24 GiB (virtual) free",
        "chat x2, other, 1 of others",
    ):
        assert text in ran.out
    assert "FITS" not in ran.out
    assert "box/a5000: card 2 (h100) is split by MIG" in ran.err
    assert json.loads(stoker("hardware", "--json").out) == [OFFER]


def test_a_search_says_how_many_more_fit_or_what_is_lacking(stoker: Command, fake: FakeStoker) -> None:
    full = OFFER | {"fits": 0, "lacks": ["needs 2 GPU cards, 1 of 2 free"], "notes": []}
    fake.on("GET", "/hardware", {"offers": [OFFER, full], "regions": {"local": 1}})
    out = stoker("hardware", "--gpu", "RTX A5000", "--count", "2", "--vram", "20", "--region", "local").out
    assert "1 more" in out
    assert "no: needs 2 GPU cards, 1 of 2 free" in out
    query = fake.asked[-1].query
    assert query == {"gpu_family": "RTX A5000", "gpu_count": "2", "vram_gib_min": "20.0", "region": "local"}
    fake.on("GET", "/hardware", {"offers": [], "regions": {}})
    ran = stoker("hardware", "--gpu", "h100", "--gpu", "a100")
    assert (ran.out, ran.err) == ("", "no machine could ever run that\n")


def test_instance_types_are_families_times_counts(stoker: Command, fake: FakeStoker) -> None:
    fake.on("GET", "/hardware/types", page([TYPE]))
    line = stoker("hardware", "--types").out.splitlines()[1]
    assert "2 x a5000 24 GiB (virtual)" in line
    assert "1 of 2" in line
    assert "0.5 USD" in line
    assert json.loads(stoker("hardware", "--types", "--json").out) == [TYPE]
    fake.on("GET", "/hardware/types", page([]))
    assert stoker("hardware", "--types").out == ""
