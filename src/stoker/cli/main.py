"""The command `stoker`: puts the commands together and turns errors into exit codes. Loads nothing heavy."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

import typer

from stoker.cli import (
    apply,
    backup,
    chat,
    demo,
    deploy,
    doctor,
    endpoints,
    explain,
    hardware,
    installation,
    keys,
    logs,
    models,
    output,
    projects,
    secrets,
    server,
    simulate,
    task_events,
    tasks,
    templates,
    usage,
    volumes,
)
from stoker.cli.errors import EXIT_CODES, CliError, Exit


def application() -> typer.Typer:
    """All commands, put together."""
    app = typer.Typer(
        name="stoker",
        help="Keeps GPUs fed: elastic inference endpoints on machines of your own.",
        epilog=EXIT_CODES,
        no_args_is_help=True,
        add_completion=False,
        # Plain help: Rich would take longer to load than most commands take to run.
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )
    app.callback()(_root)
    alone: dict[str, Callable[..., None]] = {
        "up": server.up,
        "down": server.down,
        "upgrade": server.upgrade,
        "demo": demo.demo,
        "deploy": deploy.deploy,
        "apply": apply.apply,
        "plan": apply.plan,
        "ls": endpoints.ls,
        "ps": endpoints.ps,
        "show": endpoints.show,
        "logs": logs.logs,
        "usage": usage.usage,
        "simulate": simulate.simulate,
        "chat": chat.chat,
        "scale": endpoints.scale,
        "explain": explain.explain,
        "start": endpoints.start,
        "stop": endpoints.stop,
        "rm": endpoints.rm,
        "revisions": endpoints.revisions,
        "rollback": endpoints.rollback,
        "engines": installation.engines,
        "schema": installation.schema,
        "hardware": hardware.hardware,
        "audit": projects.audit,
        "doctor": doctor.doctor,
        "backup": backup.backup,
        "restore": backup.restore,
    }
    for name, function in alone.items():
        app.command(name)(function)
    for group, (text, functions) in GROUPS.items():
        app.add_typer(_group(functions), name=group, help=text, no_args_is_help=True)
    return app


GROUPS: dict[str, tuple[str, dict[str, Callable[..., None]]]] = {
    "task": (
        "Work that is kept until a worker has answered it.",
        {
            "submit": tasks.submit,
            "ls": tasks.ls,
            "show": tasks.show,
            "wait": tasks.wait,
            "follow": task_events.follow,
            "cancel": tasks.cancel,
            "retry": tasks.retry,
            "purge": tasks.purge,
            "pause": tasks.pause,
            "resume": tasks.resume,
            "webhooks": tasks.webhooks,
            "redeliver": tasks.redeliver,
        },
    ),
    "projects": (
        "Make, list, rename and delete projects.",
        {
            "create": projects.create,
            "ls": projects.ls,
            "show": projects.show,
            "rename": projects.rename,
            "rm": projects.rm,
        },
    ),
    "keys": (
        "Make, list, change and revoke keys.",
        {"create": keys.create, "ls": keys.ls, "show": keys.show, "update": keys.update, "rm": keys.rm},
    ),
    "models": (
        "The catalogue of models, and what of it is on the host.",
        {
            "ls": models.ls,
            "add": models.add,
            "pull": models.pull,
            "show": models.show,
            "pin": models.pin,
            "rm": models.rm,
            "prune": models.prune,
        },
    ),
    "templates": (
        "Keep parts of endpoints' documents under a name.",
        {"add": templates.add, "ls": templates.ls, "show": templates.show, "rm": templates.rm},
    ),
    "volumes": (
        "Keep data that outlives workers and endpoints.",
        {
            "create": volumes.create,
            "ls": volumes.ls,
            "show": volumes.show,
            "resize": volumes.resize,
            "rm": volumes.rm,
        },
    ),
    "secrets": (
        "Keep values that endpoints refer to by name.",
        {
            "set": secrets.set_,
            "ls": secrets.ls,
            "show": secrets.show,
            "rm": secrets.rm,
            "rotate-master-key": secrets.rotate_master_key,
        },
    ),
    "credentials": (
        "Keep log-ins at container registries.",
        {
            "create": secrets.create_credential,
            "ls": secrets.list_credentials,
            "update": secrets.update_credential,
            "rm": secrets.remove_credential,
        },
    ),
}


def _group(functions: dict[str, Callable[..., None]]) -> typer.Typer:
    group = typer.Typer(rich_markup_mode=None, add_completion=False)
    for name, function in functions.items():
        group.command(name)(function)
    return group


def _version(wanted: bool) -> None:
    if wanted:
        from stoker import __version__

        output.line(f"stoker {__version__}")
        raise typer.Exit


def _root(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Show the version."),
) -> None:
    """Keeps GPUs fed: elastic inference endpoints on machines of your own."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    command: tuple[str, ...] = ()
    if given[:1] == ["deploy"] and "--" in given:
        # What stands behind -- is a command to deploy and none of our options.
        split = given.index("--")
        given, command = given[:split], tuple(given[split + 1 :])
    output.lenient()
    try:
        application()(args=given, prog_name="stoker", obj=command)
    except CliError as exc:
        output.fail(exc)
        return int(exc.code)
    except OSError as exc:
        # A folder that cannot be made, a file that cannot be written: nothing that a traceback would explain better.
        where = "" if exc.filename is None else f"{exc.filename}: "
        output.fail(CliError(f"{where}{exc.strerror or exc}"))
        return int(Exit.FAILED)
    except SystemExit as exc:
        return exc.code if isinstance(exc.code, int) else 0 if exc.code is None else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
