"""`stoker chat`: talk to an endpoint's model in the terminal."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from stoker.cli import completions, output
from stoker.cli.client import Client
from stoker.cli.endpoints import Endpoint
from stoker.cli.errors import CliError, Exit
from stoker.cli.session import Session, command

# Older turns are forgotten: the whole conversation is sent each time and has to fit into the model's context.
TURNS_MAX = 20


@command
def chat(
    session: Session,
    endpoint: Endpoint,
    prompt: Annotated[str | None, typer.Argument(help="What to say; without it, a conversation.")] = None,
    system: Annotated[str | None, typer.Option(help="Instructions for the model.")] = None,
    max_tokens: Annotated[int | None, typer.Option(min=1, help="Longest answer in tokens.")] = None,
    temperature: Annotated[float | None, typer.Option(min=0, help="0 for always the same answer.")] = None,
) -> None:
    """Talk to an endpoint's model. The answer is streamed; its speed is shown on stderr."""
    client = session.client
    item = client.endpoint(endpoint)
    body: dict[str, Any] = {"model": item["launch"]["models"][0] if item["launch"]["models"] else item["slug"]}
    if max_tokens is not None:
        body["max_tokens"] = max_tokens
    if temperature is not None:
        body["temperature"] = temperature
    first = [] if system is None else [{"role": "system", "content": system}]
    if prompt is not None:
        _say(client, item, body | {"messages": [*first, _user(prompt)]}, as_json=session.as_json)
    elif session.as_json:
        raise CliError("--json goes with a prompt", Exit.USAGE)
    else:
        _converse(client, item, body, first)


def _user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def _converse(client: Client, item: Any, body: dict[str, Any], first: list[dict[str, str]]) -> None:
    interactive = sys.stdin.isatty()
    if interactive:
        output.note(f"talking to {item['name']}; Ctrl-D ends it")
        # It gives `input` a history and line editing.
        import readline  # noqa: F401
    turns: list[dict[str, str]] = []
    while True:
        try:
            text = input("> " if interactive else "")
        except EOFError:
            if interactive:
                output.note("")
            return
        if not text.strip():
            continue
        turns = [*turns[-2 * TURNS_MAX :], _user(text)]
        try:
            answer = _say(client, item, body | {"messages": [*first, *turns]}, as_json=False)
        except CliError as exc:
            if not interactive:
                raise
            # The conversation goes on: a full waiting room or a restart passes.
            output.fail(exc)
            turns.pop()
            continue
        turns.append({"role": "assistant", "content": answer})


def _say(client: Client, item: Any, body: dict[str, Any], *, as_json: bool) -> str:
    speed = completions.Speed()
    pieces = completions.stream(client, item["slug"], body, speed)
    parts: list[str] = []
    waiting_for = "thinking" if item["workers"].get("ready") else "starting a worker"
    with output.progress(waiting_for, quiet=as_json):
        parts += [piece for piece in [next(pieces, None)] if piece is not None]
    if not as_json:
        sys.stdout.write(output.visible("".join(parts)))
        sys.stdout.flush()
    for piece in pieces:
        parts.append(piece)
        if not as_json:
            sys.stdout.write(output.visible(piece))
            sys.stdout.flush()
    text = "".join(parts)
    if as_json:
        rate = speed.tokens_per_s
        output.document(
            {"text": text, "tokens": speed.tokens, "first_token_s": speed.first_s, "total_s": speed.total_s}
            | {"tokens_per_s": rate}
        )
    else:
        output.line()
        output.note(f"[{speed}]")
    return text
