"""`stoker deploy`: one endpoint from the command line."""

from __future__ import annotations

import json
import shlex
from typing import Annotated, Any

import typer

from stoker.cli import output, specs, waiting
from stoker.cli.durations import seconds
from stoker.cli.session import Session, command


@command
def deploy(
    session: Session,
    context: typer.Context,
    model: Annotated[
        str | None,
        typer.Argument(metavar="MODEL", help="A name that `stoker models ls` lists, a path, or an org/name id."),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Its name; default: from what it runs.")] = None,
    template: Annotated[
        str | None, typer.Option(help="A template, as in chat or chat@2; only what is said here is laid over it.")
    ] = None,
    image: Annotated[str | None, typer.Option(help="A container image instead of a model.")] = None,
    workers_min: Annotated[int, typer.Option("--min", min=0, help="Workers kept even without requests.")] = 0,
    workers_max: Annotated[int, typer.Option("--max", min=0, help="Most workers.")] = 1,
    engine: Annotated[str | None, typer.Option(help="vllm or llamacpp; default: what fits.")] = None,
    engine_version: Annotated[
        str | None, typer.Option(help="Its version: of its parameters and, in containers, of its image.")
    ] = None,
    param: Annotated[
        list[str] | None, typer.Option(help="A parameter of the engine, as in max-model-len=4096. Repeatable.")
    ] = None,
    env: Annotated[list[str] | None, typer.Option(help="A variable, as in NAME=VALUE. Repeatable.")] = None,
    secret: Annotated[list[str] | None, typer.Option(help="A variable, as in NAME=SECRET. Repeatable.")] = None,
    credential: Annotated[str | None, typer.Option(help="The registry credential to fetch the image with.")] = None,
    port: Annotated[int | None, typer.Option(help="The port that the image listens on.")] = None,
    gpu: Annotated[str | None, typer.Option(help="Cards for each worker, as in h100:2.")] = None,
    vcpu: Annotated[float | None, typer.Option(help="CPUs for each worker.")] = None,
    ram: Annotated[float | None, typer.Option(help="Memory for each worker, in GiB.")] = None,
    slots: Annotated[int | None, typer.Option(min=1, help="Requests that one worker takes at once.")] = None,
    idle_timeout: Annotated[
        str | None, typer.Option(help="Time without requests until there are no workers; default: what is worth it.")
    ] = None,
    late_cost: Annotated[
        float | None, typer.Option(help="GPU-seconds that it is worth to spare one late request; default: 300.")
    ] = None,
    wait_target: Annotated[
        str | None, typer.Option(help="A request that waits for longer is late; default: 5 seconds.")
    ] = None,
    access: Annotated[str, typer.Option(help="Who may call it: project, attached or open.")] = "project",
    provider: Annotated[str, typer.Option(help="Where its workers run.")] = "process",
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until it is as wanted.")] = True,
    timeout: Annotated[str, typer.Option(help="Longest wait, as in 10m.")] = "30m",
) -> None:
    """Make an endpoint of a model, an --image, or a command after --.

    With --min 0 it starts at its first request. In a command, {host} and {port} stand for the worker's own address.
    """
    what = tuple(context.obj or ())
    launch = specs.program(model, image, what, whole=template is None)
    launch |= specs.engine(engine, engine_version, param or ())
    launch |= specs.surroundings(env or (), secret or (), credential, port)
    pool = specs.pool(provider, specs.hardware(gpu, vcpu, ram), workers_min, workers_max)
    scaling = specs.scaling(idle_timeout, late_cost, wait_target)
    name = name or specs.name_of(model, image, what, template)
    spec = specs.endpoint(name, launch, pool, scaling=scaling, access=access, slots=slots)
    if template is not None:
        spec = specs.over(template, spec, given=_given(context))
    _deploy(session, spec, wait=wait, timeout_s=seconds(timeout))


def _given(context: typer.Context) -> frozenset[str]:
    """The options that stood on the command line."""
    named = (name for name in context.params if context.get_parameter_source(name) is not None)
    return frozenset(n for n in named if getattr(context.get_parameter_source(n), "name", "") == "COMMANDLINE")


def _deploy(session: Session, spec: dict[str, Any], *, wait: bool, timeout_s: float) -> None:
    client = session.client
    changed = client.post("/endpoints", spec)
    endpoint = changed["endpoint"]
    if not session.as_json:
        for text in endpoint["launch"]["notes"]:
            output.note(f"note: {text}")
    if wait:
        with output.progress(f"deploying {endpoint['name']}", quiet=session.as_json) as progress:
            endpoint = waiting.follow(client, changed, progress, timeout_s=timeout_s) or endpoint
    if session.as_json:
        output.document(endpoint)
    else:
        output.line(summary(endpoint))
        output.line(call_example(endpoint, session))


def summary(endpoint: Any) -> str:
    """One sentence about an endpoint: where it stands, and what a worker of it is."""
    bounds = endpoint["spec"]["pools"][0]["bounds"]
    launch = endpoint["launch"]
    what = f"{launch['engine']}, " if launch["engine"] else ""
    each = output.plural(launch["slots"], "request") + " at once each"
    state = f"{endpoint['name']} is {endpoint['state']}"
    woken = "; it starts at its first request" if endpoint["state"] == "idle" else ""
    return f"{state}{woken} ({what}{bounds['min']} to {output.plural(bounds['max'], 'worker')}, {each})"


def call_example(endpoint: Any, session: Session) -> str:
    """How to call it: a line for a shell."""
    launch, urls = endpoint["launch"], endpoint["urls"]
    key = ""
    if endpoint["spec"]["access"] != "open":
        secret = f"$(cat {session.paths.admin_key})" if session.key is None else "$STOKER_KEY"
        key = f' -H "Authorization: Bearer {secret}"'
    if not launch["models"]:
        return f"curl{key} {urls['inference']}/"
    # A reader can type the endpoint's slug; it is one of the names that the worker answers to.
    model = endpoint["slug"] if endpoint["slug"] in launch["models"] else launch["models"][0]
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": "Hello"}]})
    return f"curl {urls['openai']}/chat/completions{key} -H 'Content-Type: application/json' -d {shlex.quote(body)}"
