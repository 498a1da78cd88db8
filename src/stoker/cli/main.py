"""The command `stoker`: puts the commands together and turns errors into exit codes. Loads nothing heavy."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import typer

from stoker.cli import apply, backup, chat, demo, deploy, doctor, endpoints, installation, keys, logs, output, server
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
    for name, function in {
        "up": server.up,
        "down": server.down,
        "demo": demo.demo,
        "deploy": deploy.deploy,
        "apply": apply.apply,
        "plan": apply.plan,
        "ls": endpoints.ls,
        "ps": endpoints.ps,
        "show": endpoints.show,
        "logs": logs.logs,
        "chat": chat.chat,
        "scale": endpoints.scale,
        "start": endpoints.start,
        "stop": endpoints.stop,
        "rm": endpoints.rm,
        "revisions": endpoints.revisions,
        "rollback": endpoints.rollback,
        "models": installation.models,
        "engines": installation.engines,
        "hardware": installation.hardware,
        "doctor": doctor.doctor,
        "backup": backup.backup,
        "restore": backup.restore,
    }.items():
        app.command(name)(function)
    app.add_typer(_keys(), name="keys", help="Make, list and revoke keys.", no_args_is_help=True)
    return app


def _keys() -> typer.Typer:
    group = typer.Typer(rich_markup_mode=None, add_completion=False)
    for name, function in {"create": keys.create, "ls": keys.ls, "rm": keys.rm}.items():
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
    try:
        application()(args=given, prog_name="stoker", obj=command)
    except CliError as exc:
        output.fail(exc)
        return int(exc.code)
    except OSError as exc:
        # A folder that cannot be made, a file that cannot be written: nothing that a traceback would explain better.
        output.fail(CliError(str(exc)))
        return int(Exit.FAILED)
    except SystemExit as exc:
        return exc.code if isinstance(exc.code, int) else 0 if exc.code is None else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
