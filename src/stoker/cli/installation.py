"""`stoker engines`, `stoker hardware`: what there is to deploy, and on what."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from stoker.cli import output
from stoker.cli.session import Session, command


@command
def engines(
    session: Session,
    engine: Annotated[str | None, typer.Argument(help="Show the parameters of this one.")] = None,
    version: Annotated[str | None, typer.Option(help="In this version of it.")] = None,
) -> None:
    """List the engines, or the parameters that one takes."""
    client = session.client
    if engine is None:
        names = client.get("/engines")["items"]
        if session.as_json:
            output.document(names)
        else:
            for name in names:
                output.line(name)
        return
    items = client.get(f"/engines/{engine}/parameters", version=version)["items"]
    if session.as_json:
        output.document(items)
        return
    rows = [
        (", ".join(item["flags"]), ",".join(item["allowed"]) or item["type"], item["default"], item["description"])
        for item in items
    ]
    output.table(("PARAMETER", "TAKES", "DEFAULT", "WHAT IT DOES"), rows)


@command
def hardware(session: Session) -> None:
    """List the machines, and how much of them is in use."""
    offers = session.client.get("/hardware")["offers"]
    if session.as_json:
        output.document(offers)
        return
    output.table(("HOST", "PROVIDER", "REGION", "CPUS", "MEMORY", "GPUS"), [_host(offer) for offer in offers])


def _host(offer: Any) -> tuple[object, ...]:
    used = offer["used"]
    return (
        offer["host"],
        offer["provider"],
        offer["region"],
        f"{used['vcpu']:g} of {offer['vcpu']:g} used",
        f"{used['ram_gib']:g} of {offer['ram_gib']:.0f} GiB used",
        _cards(offer["gpus"], set(used["gpus"])),
    )


def _cards(gpus: list[Any], used: set[int]) -> str | None:
    kinds: dict[str, list[Any]] = {}
    for gpu in gpus:
        virtual = " (virtual)" if gpu["virtual"] else ""
        kinds.setdefault(f"{gpu['family']} {gpu['vram_gib']:g} GiB{virtual}", []).append(gpu)
    texts = [
        f"{sum(1 for card in cards if card['index'] in used)} of {len(cards)} {kind} used"
        for kind, cards in kinds.items()
    ]
    return ", ".join(texts) or None
