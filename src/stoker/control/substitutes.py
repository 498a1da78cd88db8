"""What runs instead of an image, and what of the image's own launch is not applied then. Pure; used by `launches`.

An image of vLLM is given vLLM's arguments: those are taken over where a model stands in for it, so that the engine
translates them, and the names it was to serve are served.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass, replace

from stoker.domain.errors import Invalid
from stoker.domain.images import ImageRule
from stoker.domain.launch import LaunchSpec
from stoker.engines import llamacpp, vllm
from stoker.engines.parameters import Given, check

SHOWN_CHARS_MAX = 200
# How a vLLM image's server may be called in front of its arguments.
_SERVERS = (
    ("vllm", "serve"),
    ("python3", "-m", "vllm.entrypoints.openai.api_server"),
    ("python", "-m", "vllm.entrypoints.openai.api_server"),
)
_NAMES = ("model", "served-model-name")


@dataclass(frozen=True, slots=True, kw_only=True)
class Instead:
    """`names` are those that the image's command wanted to serve; `notes` says what was not applied."""

    launch: LaunchSpec
    names: tuple[str, ...]
    notes: tuple[str, ...]


def instead_of(wanted: LaunchSpec, rule: ImageRule) -> Instead:
    """The launch that stands in for `wanted`, which names an image."""
    notes = [f"{wanted.image} is not run: {rule.instead} runs instead"]
    if wanted.credential is not None:
        notes.append(f"the registry credential {wanted.credential!r} is not used: nothing is fetched")
    if rule.model is None:
        if wanted.command:
            notes.append(_not_applied(wanted.command, "another command runs instead"))
        return Instead(
            launch=replace(wanted, image=None, credential=None, command=rule.command), names=(), notes=tuple(notes)
        )
    version = _version(wanted.image or "")
    names, parameters = _taken_over(wanted.command, version or vllm.DEFAULT_VERSION, notes)
    launch = replace(
        wanted,
        image=None,
        credential=None,
        command=(),
        model=rule.model,
        engine="auto",
        engine_version=version,
        parameters=(*rule.parameters, *parameters),
    )
    return Instead(launch=launch, names=names, notes=tuple(notes))


def _version(image: str) -> str | None:
    """The version of vLLM whose parameters the image takes, where its tag is one that is known."""
    tag = image.partition("@")[0].rpartition("/")[2].partition(":")[2].removeprefix("v")
    return tag if tag in vllm.VERSIONS else None


def _taken_over(command: tuple[str, ...], version: str, notes: list[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The names to serve and the parameters out of an image's command."""
    arguments, names = _arguments(command)
    if not arguments and not names:
        if command:
            notes.append(_not_applied(command, "it is no list of vLLM's parameters"))
        return (), ()
    tables = (vllm.table(version), llamacpp.TABLE)
    try:
        given = check(arguments, tables, engine=f"vLLM {version}", owned={}, scaled=vllm.SCALED)
    except Invalid as exc:
        notes.append(_not_applied(command, str(exc)))
        return names, ()
    kept: list[str] = []
    for item in given:
        if item.parameter.name in _NAMES:
            names = (*names, *item.values)
        elif item.parameter.name in llamacpp.OWNED or item.parameter.name in vllm.OWNED:
            notes.append(_owned(item))
        else:
            kept += item.arguments
    return tuple(dict.fromkeys(names)), tuple(kept)


def _arguments(command: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """A command without the server's own name in front, and the model that stood behind it."""
    rest = command
    for server in _SERVERS:
        if command[: len(server)] == server:
            rest = command[len(server) :]
            if server == _SERVERS[0] and rest and not rest[0].startswith("-"):
                return rest[1:], rest[:1]
    return (rest, ()) if rest and rest[0].startswith("-") else ((), ())


def _owned(item: Given) -> str:
    # Not its values: one of these is a key.
    reason = llamacpp.OWNED.get(item.parameter.name) or vllm.OWNED[item.parameter.name]
    return f"{item.flag} was not applied: {reason}"


def _not_applied(command: tuple[str, ...], reason: str) -> str:
    return f"the image's command {shlex.join(command)[:SHOWN_CHARS_MAX]} was not applied: {reason}"
