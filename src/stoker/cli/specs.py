"""What the options of `stoker deploy` mean as an endpoint's spec: the same document that `stoker apply` reads."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePath
from typing import Any

from stoker.cli.durations import seconds
from stoker.cli.errors import CliError, Exit

_SLUG = re.compile(r"[^a-z0-9._-]+")


def program(model: str | None, image: str | None, command: Sequence[str], *, whole: bool = True) -> dict[str, Any]:
    """What is launched. Raises `CliError` with exit code 2 unless it says what to run, once; a part that is laid over a
    template (not `whole`) need not.
    """
    if model is not None and (image is not None or command):
        raise CliError("say what to run once: a model, an --image, or a command after --", Exit.USAGE)
    if whole and model is None and image is None and not command:
        raise CliError("say what to run: a model, an --image, or a command after --", Exit.USAGE)
    return _said({"model": model, "image": image, "command": list(command)})


def engine(name: str | None, version: str | None, params: Sequence[str]) -> dict[str, Any]:
    """What a model is launched by."""
    return _said({"engine": name, "engine_version": version, "parameters": parameters(params)})


def surroundings(
    env: Sequence[str], secrets: Sequence[str], credential: str | None, port: int | None
) -> dict[str, Any]:
    """What is around the program: variables, the credential that its image is fetched with, the port it listens on."""
    variables_of = {**variables(env, "--env"), **_references(secrets)}
    return _said({"credential": credential, "env": variables_of, "port": port})


def endpoint(
    name: str, launch: dict[str, Any], pool: dict[str, Any], *, scaling: dict[str, Any], access: str, slots: int | None
) -> dict[str, Any]:
    """The whole document, of its parts."""
    spec = {"name": name, "launch": launch, "pools": [pool], "scaling": scaling, "access": access}
    return spec if slots is None else {**spec, "slots": slots}


def over(template: str, spec: dict[str, Any], *, given: frozenset[str]) -> dict[str, Any]:
    """The document that is laid over a template: without the defaults of options that were not `given`. Pools are a
    list, which replaces the template's as a whole when any option about them is given.
    """
    fields = {
        "pools": {"workers_min", "workers_max", "gpu", "vcpu", "ram", "provider"},
        "scaling": {"idle_timeout", "late_cost", "wait_target"},
        "access": {"access"},
    }
    left_out = {field for field, options in fields.items() if not options & given}
    left_out |= set() if spec["launch"] else {"launch"}
    return {"template": template, **{field: value for field, value in spec.items() if field not in left_out}}


def hardware(gpu: str | None, vcpu: float | None, ram_gib: float | None) -> dict[str, Any]:
    """The hardware part: `gpu` is FAMILY:COUNT, FAMILY, or :COUNT for cards of any kind."""
    family, count = None, None
    if gpu is not None:
        name, colon, number = gpu.partition(":")
        if not re.fullmatch(r"\d{1,2}", number if colon else "1") or (colon and int(number) == 0):
            raise CliError(f"--gpu is FAMILY:COUNT, as in h100:2, not {gpu[:64]!r}", Exit.USAGE)
        family, count = name or None, int(number) if colon else 1
    return _said({"gpu_family": family, "gpu_count": count, "vcpu": vcpu, "ram_gib": ram_gib})


def pool(provider: str, hardware: dict[str, Any], workers_min: int, workers_max: int) -> dict[str, Any]:
    """The one pool of an endpoint that the command line makes."""
    return {"provider": provider, "hardware": hardware, "bounds": {"min": workers_min, "max": workers_max}}


def scaling(idle_timeout: str | None, late_cost: float | None, wait_target: str | None) -> dict[str, Any]:
    """How it is scaled, as far as anything is said of it."""
    auto = _said({"late_cost": late_cost, "wait_target_s": None if wait_target is None else seconds(wait_target)})
    triggers = [{"type": "auto", **auto}] if auto else None
    idle_s = None if idle_timeout is None else seconds(idle_timeout)
    return _said({"triggers": triggers, "idle_timeout_s": idle_s})


def parameters(texts: Sequence[str]) -> list[str]:
    """Command-line arguments from `--param` texts: `max-model-len=4096`, `--max-model-len 4096`, or flag and value
    as two texts."""
    arguments: list[str] = []
    open_flag = False
    for text in texts:
        flag, space, value = text.partition(" ")
        if text.startswith("-"):
            pair = bool(space) and "=" not in flag
            arguments += [flag, value.strip()] if pair else [text]
            open_flag = not space and "=" not in text
        elif open_flag:
            arguments.append(text)
            open_flag = False
        else:
            arguments.append(f"--{text}")
    return arguments


def _references(texts: Sequence[str]) -> dict[str, dict[str, str]]:
    return {variable: {"secret": name} for variable, name in variables(texts, "--secret").items()}


def variables(texts: Sequence[str], option: str = "--env") -> dict[str, str]:
    """Environment variables from NAME=VALUE texts. Raises `CliError` with exit code 2."""
    found: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise CliError(f"{option} is NAME=VALUE, not {text[:64]!r}", Exit.USAGE)
        found[name] = value
    return found


def name_of(model: str | None, image: str | None, command: Sequence[str], template: str | None = None) -> str:
    """A name for an endpoint that was given none: from what it runs, or from its template."""
    if model is not None:
        last = model.rstrip("/").rsplit("/", 1)[-1].removesuffix(".gguf")
    elif image is not None:
        last = image.partition("@")[0].rsplit("/", 1)[-1].partition(":")[0]
    elif command or template is None:
        last = PurePath(command[0]).name
    else:
        return template.partition("@")[0]
    return _SLUG.sub("-", last.lower()).strip("-.") or "endpoint"


def _said(fields: dict[str, Any]) -> dict[str, Any]:
    """Without what was not said: the API has the defaults."""
    return {name: value for name, value in fields.items() if value not in (None, [], {})}
