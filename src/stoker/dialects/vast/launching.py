"""What runs: the grammar of `launch_args`, that of a template's `env`, and the launch that both mean. Pure."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

from stoker.dialects.vast.wire.templates import about_of
from stoker.domain.errors import Invalid
from stoker.domain.launch import LaunchSpec, SecretRef

CHARS_MAX = 1_500
HERE = "/launch_args"


@dataclass(frozen=True, slots=True)
class Login:
    """How images are fetched from a registry."""

    registry: str
    username: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Something to launch. `query` is what a template says of offers; `slots` what a template of Stoker's own says."""

    launch: LaunchSpec
    disk_gib: float | None = None
    login: Login | None = None
    query: Mapping[str, Any] = field(default_factory=dict)
    slots: int | None = None


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise Invalid.at(HERE, f"launch_args: {message[:200]}")


def _parser() -> _Parser:
    parser = _Parser(prog="launch_args", add_help=False, allow_abbrev=False, exit_on_error=True)
    for name in ("image", "env", "onstart", "onstart-cmd", "entrypoint", "login", "user", "label", "name", "template"):
        parser.add_argument(f"--{name}")
    for name in ("template_hash", "bid_price", "price", "extra", "lang-utf8", "python-utf8", "cancel-unavail"):
        parser.add_argument(f"--{name}", nargs="?")
    for name in ("create-volume", "link-volume", "volume-size", "mount-path", "volume-label", "jupyter-dir"):
        parser.add_argument(f"--{name}")
    for name in ("ssh", "jupyter", "jupyter-lab", "direct", "raw", "explain", "force"):
        parser.add_argument(f"--{name}", action="store_true")
    parser.add_argument("--disk", type=float)
    parser.add_argument("--args", nargs=argparse.REMAINDER)
    return parser


def of_arguments(text: str) -> Asked:
    """What the options of `launch_args` ask for. Raises `Invalid`."""
    if len(text) > CHARS_MAX:
        raise Invalid.at(HERE, f"launch_args has at most {CHARS_MAX} characters")
    try:
        words = shlex.split(text)
    except ValueError as exc:
        raise Invalid.at(HERE, f"launch_args: {exc}") from exc
    said = _parser().parse_args(words)
    if not said.image:
        raise Invalid.at(HERE, "launch_args has no --image")
    command = _command(said.onstart_cmd, said.onstart, said.entrypoint, said.args)
    return Asked(
        launch=launch(said.image, said.env or "", command),
        disk_gib=said.disk,
        login=None if not said.login else login(said.login),
    )


def masked(text: str) -> str:
    """Arguments that can be read, without the passwords in them, however they are spelled there."""
    words, shown = shlex.split(text), list[str]()
    while words:
        word = words.pop(0)
        if word == "--args":
            # All that follows is the program's own.
            return shlex.join([*shown, word, *words])
        if word == "--login" and words:
            shown += [word, _without_password(words.pop(0))]
        elif word.startswith("--login="):
            shown.append(f"--login={_without_password(word.removeprefix('--login='))}")
        else:
            shown.append(word)
    return shlex.join(shown)


def _without_password(text: str) -> str:
    found = login(text)
    return f"-u {shlex.quote(found.username)} -p *** {shlex.quote(found.registry)}"


def _command(
    onstart_cmd: str | None, onstart: str | None, entrypoint: str | None, args: list[str] | None
) -> tuple[str, ...]:
    if onstart_cmd:
        return ("sh", "-c", onstart_cmd)
    if onstart:
        raise Invalid.at(HERE, "--onstart names a file on the machine of whoever asks; say --onstart-cmd")
    return (*([entrypoint] if entrypoint else []), *(args or []))


def login(text: str) -> Login:
    """Of `-u user -p password host`. Raises `Invalid`."""
    parser = _Parser(prog="login", add_help=False, allow_abbrev=False)
    parser.add_argument("-u", "--username", required=True)
    parser.add_argument("-p", "--password", required=True)
    parser.add_argument("registry", nargs="?", default="docker.io")
    try:
        said = parser.parse_args(shlex.split(text))
    except ValueError as exc:
        raise Invalid.at(HERE, f"--login: {exc}") from exc
    return Login(said.registry, said.username, said.password)


def launch(image: str, env: str, command: tuple[str, ...]) -> LaunchSpec:
    """A container with docker's own options in `env`: `-e NAME=VALUE` and `-p HOST:CONTAINER`. Raises `Invalid`."""
    parser = _Parser(prog="env", add_help=False, allow_abbrev=False)
    parser.add_argument("-e", "--env", action="append", default=[])
    parser.add_argument("-p", "--publish", action="append", default=[])
    try:
        said, _ = parser.parse_known_args(shlex.split(env))
    except ValueError as exc:
        raise Invalid.at(HERE, f"env: {exc}") from exc
    values = dict(each.partition("=")[::2] for each in said.env)
    ports = list(dict.fromkeys(_port(each) for each in said.publish))
    return LaunchSpec(
        image=image,
        command=command,
        env=values,
        port=ports[0] if ports else None,
        ports=tuple(ports[1:]),
    )


def _port(text: str) -> int:
    inside = text.rpartition(":")[2].partition("/")[0]
    if not (inside.isascii() and inside.isdigit() and len(inside) <= 5):
        raise Invalid.at(HERE, f"env: {text[:40]!r} is no port")
    return int(inside)


def of_template(spec: Mapping[str, Any]) -> Asked:
    """What one of Stoker's templates launches, whoever made it. Raises `Invalid`."""
    said = spec.get("launch")
    if not isinstance(said, dict) or not any(said.get(each) for each in ("model", "image", "command")):
        raise Invalid.at("/template_hash", "the template does not say what to run")
    env = {
        name: SecretRef(str(value["secret"])) if isinstance(value, dict) and "secret" in value else str(value)
        for name, value in (said.get("env") or {}).items()
    }
    plain = ("model", "engine", "engine_version", "image", "credential", "port")
    given = {name: said[name] for name in plain if said.get(name) is not None}
    about = about_of(spec, "")
    return Asked(
        launch=LaunchSpec(
            **given,
            parameters=tuple(said.get("parameters") or ()),
            command=tuple(said.get("command") or ()),
            ports=tuple(said.get("ports") or ()),
            env=env,
        ),
        disk_gib=about.recommended_disk_space,
        query=about.extra_filters or {},
        slots=spec.get("slots"),
    )
