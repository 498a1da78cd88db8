"""Commands on endpoints that exist: look at them, scale, start, stop and remove them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer

from stoker.cli import output, waiting
from stoker.cli.durations import age, clock, seconds, short
from stoker.cli.errors import CliError, Exit
from stoker.cli.session import Session, command

Endpoint = Annotated[str, typer.Argument(metavar="ENDPOINT", help="Its name, slug, number or id.")]
Wait = Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until it is done.")]
Timeout = Annotated[str, typer.Option(help="Longest wait, as in 10m.")]
EVENTS_SHOWN = 10
LEARNED = (
    ("start_cold_s", "first start {:.1f} s"),
    ("start_warm_s", "start {:.1f} s"),
    ("resume_s", "back from cold {:.1f} s"),
    ("requests_per_s", "{:.2f} requests/s"),
    ("tokens_per_s", "{:.0f} tokens/s"),
)
MEASURED = ("WORKER", "CPUS", "MEMORY", "GPU", "VRAM", "RUNNING", "WAITING", "CACHE", "AGE", "ERROR")


@command
def ls(session: Session) -> None:
    """List the endpoints."""
    items = list(session.client.items("/endpoints"))
    if session.as_json:
        output.document(items)
    elif not items:
        output.note("no endpoints yet; `stoker deploy smollm2` makes one")
    else:
        columns = ("NAME", "STATE", "WORKERS", "BOUNDS", "IN FLIGHT", "WAITING", "RUNS", "AGE")
        output.table(columns, [_endpoint_row(item) for item in items])


def _endpoint_row(item: Any) -> tuple[object, ...]:
    (low, high), traffic = _bounds(item), item["traffic"]
    launch = item["spec"]["launch"]
    return (
        item["name"],
        item["state"],
        f"{item['workers'].get('ready', 0)}/{item['desired']}",
        f"{low}-{high}",
        None if traffic is None else traffic["in_flight"],
        None if traffic is None else traffic["waiting"],
        launch.get("model") or launch.get("image") or " ".join(launch.get("command", ())),
        age(item["created_at"]),
    )


def _bounds(item: Any) -> tuple[int, int]:
    """How many workers all pools together may have."""
    bounds = [pool["bounds"] for pool in item["spec"]["pools"]]
    return sum(b["min"] for b in bounds), sum(b["max"] for b in bounds)


@command
def ps(
    session: Session,
    endpoint: Annotated[str | None, typer.Argument(metavar="ENDPOINT", help="Only its workers.")] = None,
    ended: Annotated[bool, typer.Option("--all", "-a", help="Also those that have ended.")] = False,
) -> None:
    """List the workers."""
    if ended and endpoint is None:
        raise CliError("--all needs an endpoint: `stoker ps --all ENDPOINT`", Exit.USAGE)
    client = session.client
    path = "/workers" if endpoint is None else f"/endpoints/{client.endpoint(endpoint)['id']}/workers"
    items = [w for w in client.items(path) if ended or w["ended_at"] is None]
    if session.as_json:
        output.document(items)
    elif not items:
        output.note("no workers")
    else:
        columns = (
            "WORKER",
            "ENDPOINT",
            "STATE",
            "POOL",
            "REV",
            "IN FLIGHT",
            "ADDRESS",
            "GPUS",
            "COST/H",
            "START",
            "AGE",
            "REASON",
        )
        output.table(columns, [_worker_row(item) for item in items])


def _worker_row(item: Any) -> tuple[object, ...]:
    started = None if item["start_s"] is None else f"{item['start_s']:.1f}s"
    gpus = ",".join(map(str, item["gpus"])) or None
    if gpus and item["virtual"]:
        gpus += " (virtual)"
    return (
        item["number"],
        item["endpoint"]["name"],
        item["state"],
        item["pool"],
        item["revision"],
        item["in_flight"],
        item["address"],
        gpus,
        output.price(item["price_per_hour"], item["currency"]),
        started,
        age(item["created_at"]),
        item["reason"] or None,
    )


@command
def show(session: Session, endpoint: Endpoint) -> None:
    """Show an endpoint, its workers and its latest events."""
    client = session.client
    item = client.endpoint(endpoint)
    path = f"/endpoints/{item['id']}"
    workers = client.get(f"{path}/workers")["items"]
    events = client.get(f"{path}/events", limit=EVENTS_SHOWN)["items"]
    decisions = client.get(f"{path}/decisions", limit=1)["items"]
    learned = client.get(f"{path}/learned")
    if session.as_json:
        shown = {"endpoint": item, "workers": workers, "events": events, "decisions": decisions}
        output.document(shown | {"learned": learned})
        return
    output.facts([*_facts(item, decisions[0] if decisions else None), *_learned(learned)])
    live = [worker for worker in workers if worker["ended_at"] is None]
    if live:
        output.line()
        columns = ("WORKER", "STATE", "POOL", "IN FLIGHT", "ADDRESS", "START", "AGE", "REASON")
        rows = [_worker_row(worker) for worker in live]
        output.table(columns, [(row[0], row[2], row[3], row[5], row[6], row[8], row[9], row[10]) for row in rows])
    measured = [worker for worker in live if worker.get("metrics") or worker.get("resources")]
    if measured:
        output.line()
        output.table(MEASURED, [_measured_row(worker) for worker in measured])
    if events:
        output.line()
        for event in events:
            output.line(f"{clock(event['at'])}  {event['level']:<7}  {event['message']}")


def _measured_row(item: Any) -> tuple[object, ...]:
    metrics, taken = item.get("metrics") or {}, item.get("resources") or {}
    values = metrics.get("values", {})
    cpus, cache = taken.get("cpus"), values.get("cache_usage")
    gpus = taken.get("gpus", [])
    ages = [part["age_s"] for part in (metrics, taken) if part.get("age_s") is not None]
    stale = any(part.get("stale") for part in (metrics, taken))
    return (
        item["number"],
        None if cpus is None else f"{cpus:.2f}",
        _gib(taken.get("memory_bytes")),
        ", ".join("?" if g["utilization"] is None else f"{g['utilization']:.0%}" for g in gpus) or None,
        _gib(sum(gpu["memory_bytes"] for gpu in gpus) if gpus else None),
        values.get("running"),
        values.get("waiting"),
        None if cache is None else f"{cache:.0%}",
        (short(max(ages)) if ages else "never") + (", stale" if stale else ""),
        metrics.get("error"),
    )


def _learned(learned: Any) -> list[tuple[str, object]]:
    """What is known of starts and speed, by host."""
    lines = []
    for item in learned["items"]:
        known = ((item[name], text) for name, text in LEARNED if item.get(name))
        said = [f"{text.format(of['median'])} (of {of['count']})" for of, text in known]
        lines.append(f"{item['host']}: {', '.join(said)}")
    return [("a worker", "\n".join(lines))]


def _gib(size: int | None) -> str | None:
    return None if size is None else f"{size / 1024**3:.2f} GiB"


def _facts(item: Any, decision: Any | None) -> list[tuple[str, object]]:
    launch, spec, traffic = item["launch"], item["spec"], item["traffic"]
    low, high = _bounds(item)
    override = item["override"]
    by_hand = None
    if override is not None:
        by_hand = f"{override['workers']} by hand, until " + (
            clock(override["until"]) if override["until"] else "undone"
        )
    return [
        ("endpoint", f"{item['name']} ({item['slug']}, number {item['number']}, {item['id']})"),
        ("state", item["state"] + (f": {item['state_reason']}" if item["state_reason"] else "")),
        (
            "workers",
            f"{output.counts(item['workers'])}; {item['desired']} wanted of {low} to {high}",
        ),
        ("scaling", by_hand),
        (
            "decision",
            None if decision is None else f"{decision['workers']}: {decision['reason']} ({clock(decision['at'])})",
        ),
        ("traffic", None if traffic is None else _traffic(traffic)),
        ("runs", spec["launch"].get("model") or launch["image"] or " ".join(launch["command"])),
        ("engine", launch["engine"]),
        ("models", ", ".join(launch["models"])),
        ("slots", launch["slots"]),
        ("notes", "\n".join(launch["notes"])),
        ("access", spec["access"]),
        ("revision", item["revision"]),
        ("inference", item["urls"]["inference"]),
        ("openai", item["urls"]["openai"] if launch["models"] else None),
    ]


def _traffic(traffic: Any) -> str:
    waiting_s = f" (oldest {traffic['oldest_wait_s']:.1f} s)" if traffic["waiting"] else ""
    return (
        f"{traffic['in_flight']} in flight, {traffic['waiting']} waiting{waiting_s}; "
        f"{traffic['arrivals']} came, {traffic['completions']} done, {traffic['errors']} failed"
    )


@command
def scale(
    session: Session,
    endpoint: Endpoint,
    workers: Annotated[int | None, typer.Argument(min=0, help="How many workers.")] = None,
    for_: Annotated[str | None, typer.Option("--for", help="For how long, as in 10m; default: until undone.")] = None,
    auto: Annotated[bool, typer.Option("--auto", help="Let the scaling policy decide again.")] = False,
    wait: Wait = True,
    timeout: Timeout = "30m",
) -> None:
    """Set the number of workers by hand, or --auto again."""
    if (workers is None) != auto:
        raise CliError("say how many workers, or --auto", Exit.USAGE)
    if auto and for_ is not None:
        raise CliError("--for goes with a number of workers", Exit.USAGE)
    body = {"workers": workers, "for_s": None if for_ is None else seconds(for_)}
    _act(session, endpoint, lambda ref: session.client.post(f"/endpoints/{ref}:scale", body), wait, timeout)


@command
def revisions(session: Session, endpoint: Endpoint) -> None:
    """List the specs that an endpoint had, newest first, with what each changed."""
    items = session.client.get(f"/endpoints/{session.client.endpoint(endpoint)['id']}/revisions")["items"]
    if session.as_json:
        output.document(items)
        return
    rows = []
    for item in items:
        changed = ", ".join(change["pointer"] for change in item["changes"])
        rows.append((item["number"], "yes" if item["present"] else None, age(item["created_at"]), changed or None))
    output.table(("REVISION", "PRESENT", "AGE", "CHANGED"), rows)


@command
def rollback(
    session: Session,
    endpoint: Endpoint,
    to: Annotated[int | None, typer.Option(min=1, help="The revision to go back to; default: the one before.")] = None,
    wait: Wait = True,
    timeout: Timeout = "30m",
) -> None:
    """Go back to an earlier spec. Workers that still run it are kept."""
    body = {"revision": to}
    _act(session, endpoint, lambda ref: session.client.post(f"/endpoints/{ref}:rollback", body), wait, timeout)


@command
def start(session: Session, endpoint: Endpoint, wait: Wait = True, timeout: Timeout = "30m") -> None:
    """Let a stopped endpoint run again."""
    _act(session, endpoint, lambda ref: session.client.post(f"/endpoints/{ref}:start"), wait, timeout)


@command
def stop(session: Session, endpoint: Endpoint, wait: Wait = True, timeout: Timeout = "30m") -> None:
    """Stop an endpoint until it is started again.

    Its workers finish the requests in flight; new requests are refused.
    """
    _act(session, endpoint, lambda ref: session.client.post(f"/endpoints/{ref}:stop"), wait, timeout)


@command
def rm(
    session: Session,
    endpoint: Endpoint,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    wait: Wait = True,
    timeout: Timeout = "30m",
) -> None:
    """Remove an endpoint and all that is known of it.

    Its workers finish the requests in flight first.
    """
    if not yes:
        _confirm(session.client.endpoint(endpoint)["name"])
    _act(session, endpoint, lambda ref: session.client.delete(f"/endpoints/{ref}"), wait, timeout)


def _confirm(name: str) -> None:
    if not sys.stdin.isatty():
        raise CliError(f"remove {name}? Nobody can be asked here; say --yes", Exit.USAGE)
    sys.stderr.write(f"remove {output.visible(name)}? [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise CliError("nothing was removed")


def _act(session: Session, reference: str, action: Callable[[str], Any], wait: bool, timeout: str) -> None:
    """Change an endpoint and follow the operation that this starts."""
    timeout_s = seconds(timeout)
    before = session.client.endpoint(reference)
    changed = action(before["id"])
    after = changed["endpoint"]
    if wait:
        with output.progress(before["name"], quiet=session.as_json) as progress:
            after = waiting.follow(session.client, changed, progress, timeout_s=timeout_s)
    if session.as_json:
        output.document(changed | {"endpoint": after} if after is not None else changed)
    elif after is None:
        output.line(f"{before['name']} is removed")
    elif changed["operation"] is None:
        output.line(f"{after['name']} is {after['state']} already; nothing to do")
    else:
        output.line(f"{after['name']} is {after['state']} ({output.counts(after['workers'])})")
