"""`stoker hardware`: the machines, what is free of them and who holds the rest, and their instance types."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Any

import typer

from stoker.cli import output
from stoker.cli.session import Session, command


@command
def hardware(
    session: Session,
    types: Annotated[bool, typer.Option("--types", help="Instance types instead: families times counts.")] = False,
    gpu: Annotated[list[str] | None, typer.Option(help="Only with this family, in any spelling. Repeatable.")] = None,
    count: Annotated[int | None, typer.Option(min=1, max=64, help="So many cards for one worker.")] = None,
    vram: Annotated[float | None, typer.Option(help="Memory of each card, in GiB, at least.")] = None,
    vcpu: Annotated[float | None, typer.Option(help="CPUs for one worker.")] = None,
    ram: Annotated[float | None, typer.Option(help="Memory for one worker, in GiB.")] = None,
    disk: Annotated[float | None, typer.Option(help="Volume of one worker, in GiB.")] = None,
    region: Annotated[str | None, typer.Option(help="Only in this region.")] = None,
    price_max: Annotated[float | None, typer.Option(help="The most that one worker may cost in an hour.")] = None,
) -> None:
    """List the machines that could run what is asked for (all, when nothing is), what is free of them, and who holds
    the rest."""
    query: dict[str, Any] = {
        "gpu_family": gpu or None,
        "gpu_count": count,
        "vram_gib_min": vram,
        "vcpu": vcpu,
        "ram_gib": ram,
        "disk_gib": disk,
        "region": region,
        "price_max": price_max,
    }
    if types:
        _types(session, session.client.get("/hardware/types", **query)["items"])
        return
    offers = session.client.get("/hardware", **query)["offers"]
    if session.as_json:
        output.document(offers)
        return
    if not offers:
        output.note("no machine could ever run that")
        return
    asked = any(value is not None for value in query.values())
    columns = ("HOST", "PROVIDER", "REGION", "CPUS", "MEMORY", "DISK", "GPUS", "WORKERS")
    rows = [(*_host(offer), *((_fits(offer),) if asked else ())) for offer in offers]
    output.table((*columns, "FITS") if asked else columns, rows)
    for offer in offers:
        for text in offer["notes"]:
            output.note(f"note: {offer['host']}: {text}")


def _host(offer: Any) -> tuple[object, ...]:
    free = offer["free"]
    disk = None if offer["disk_gib"] is None else f"{free['disk_gib']:.0f} of {offer['disk_gib']:.0f} GiB free"
    return (
        f"{offer['host']} (virtual)" if offer["virtual"] else offer["host"],
        offer["provider"],
        offer["region"],
        f"{free['vcpu']:g} of {offer['vcpu']:g} free",
        f"{free['ram_gib']:g} of {offer['ram_gib']:.0f} GiB free",
        disk,
        _cards(offer),
        _holders(offer["used"]),
    )


def _cards(offer: Any) -> str | None:
    kinds: dict[str, list[Any]] = {}
    for gpu in offer["gpus"]:
        virtual = " (virtual)" if gpu["virtual"] else ""
        kinds.setdefault(f"{gpu['family']} {gpu['vram_stated_gib']:g} GiB{virtual}", []).append(gpu)
    free = set(offer["free"]["gpus"])
    texts = [
        f"{sum(1 for card in cards if card['index'] in free)} of {len(cards)} {kind} free"
        for kind, cards in kinds.items()
    ]
    return ", ".join(texts) or None


def _holders(used: Any) -> str | None:
    """Those of the caller's project by endpoint; others are a number."""
    by = Counter(holder["endpoint"] for holder in used["by"])
    texts = [name if number == 1 else f"{name} x{number}" for name, number in sorted(by.items())]
    others = used["workers"] - len(used["by"])
    return ", ".join([*texts, *([f"{others} of others"] if others else [])]) or None


def _fits(offer: Any) -> str:
    if not offer["fits"]:
        return f"no: {', '.join(offer['lacks'])}"
    return f"{offer['fits']} more"


def _types(session: Session, items: list[Any]) -> None:
    if session.as_json:
        output.document(items)
        return
    if not items:
        output.note("no such instance type; `stoker hardware` lists the machines")
        return
    rows = [
        (
            f"{item['count']} x {item['family']} {item['vram_gib']:g} GiB{' (virtual)' if item['virtual'] else ''}",
            item["provider"],
            item["region"],
            f"{item['vcpu']:g}",
            f"{item['ram_gib']:g} GiB",
            f"{item['free']} of {item['total']}",
            output.price(item["price_per_hour"], item["currency"]),
        )
        for item in items
    ]
    output.table(("CARDS", "PROVIDER", "REGION", "CPUS", "MEMORY", "FREE", "COST/H"), rows)
