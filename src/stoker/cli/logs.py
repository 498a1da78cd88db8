"""`stoker logs`: output of an endpoint's workers."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer

from stoker.cli import output
from stoker.cli.client import Client
from stoker.cli.durations import clock
from stoker.cli.endpoints import Endpoint
from stoker.cli.errors import CliError, Exit
from stoker.cli.session import Session, command

# A worker may have nothing to say for long; this only bounds a connection that died unnoticed.
SILENCE_S_MAX = 24 * 3600.0


@command
def logs(
    session: Session,
    endpoint: Endpoint,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as it comes, until Ctrl-C.")] = False,
    tail: Annotated[
        int | None,
        typer.Option(min=0, max=10_000, help="How many lines of what there is; default: 100, with --since all."),
    ] = None,
    since: Annotated[str | None, typer.Option(help="From then on: a time, or how long ago, as in 10m.")] = None,
    worker: Annotated[int | None, typer.Option(help="Only this worker, by its number in `stoker ps`.")] = None,
) -> None:
    """Show the output of an endpoint's workers.

    Also that of ended workers, as long as it is kept. --follow goes on with the workers that replace them.
    """
    client = session.client
    item = client.endpoint(endpoint)
    name = _worker_names(client, item["id"])
    only = None if worker is None else name.of_number(worker)
    path = f"/endpoints/{item['id']}/logs" if only is None else f"/workers/{only}/logs"
    for entry in client.lines(path, query={"tail": tail, "since": since, "follow": follow}, timeout_s=SILENCE_S_MAX):
        if session.as_json:
            sys.stdout.write(output.as_json(entry) + "\n")
            sys.stdout.flush()
        else:
            output.line(f"{clock(entry['at'])} {name(entry['worker']):>4} {entry['text']}")


class _WorkerNames:
    """Workers by their short numbers; looked up again when an unknown one appears."""

    def __init__(self, load: Callable[[], dict[str, int]]) -> None:
        self._load = load
        self._numbers = load()

    def __call__(self, worker: str) -> str:
        if worker not in self._numbers:
            self._numbers = self._load()
        # One that is forgotten is told apart by the random end of its id, once and for all.
        number = self._numbers.setdefault(worker, 0)
        return f"#{number}" if number else f"#{worker[-4:]}"

    def of_number(self, number: int) -> str:
        """The id of the worker with that number. Raises `CliError` with exit code 4."""
        for worker, known in self._numbers.items():
            if known == number:
                return worker
        raise CliError(f"this endpoint has no worker {number}; `stoker ps --all` lists them", Exit.NOT_FOUND)


def _worker_names(client: Client, endpoint: str) -> _WorkerNames:
    def load() -> dict[str, int]:
        items: list[Any] = client.get(f"/endpoints/{endpoint}/workers")["items"]
        return {item["id"]: item["number"] for item in items}

    return _WorkerNames(load)
