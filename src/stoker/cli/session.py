"""What all commands share: the options that say which Stoker to talk to, and how they become a client."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Concatenate, ParamSpec, get_type_hints

import typer

from stoker.cli.errors import CliError, Exit

if TYPE_CHECKING:
    from stoker.cli.client import Client
    from stoker.paths import Paths
from stoker.settings import Settings

P = ParamSpec("P")
PANEL = "Which Stoker"
OPTIONS: dict[str, Any] = {
    "url": Annotated[
        str | None,
        typer.Option(envvar="STOKER_URL", help="Its address; default: the one running from the data folder."),
    ],
    "key": Annotated[
        str | None,
        typer.Option(envvar="STOKER_KEY", help="The key to use; default: the admin key in the data folder."),
    ],
    "project": Annotated[
        str | None,
        typer.Option(envvar="STOKER_PROJECT", help="The project to act for, by name or number; default: its key's."),
    ],
    "data_dir": Annotated[
        Path | None, typer.Option(envvar="STOKER_DATA_DIR", help="Its data folder; default: ~/.stoker.")
    ],
    "as_json": Annotated[bool, typer.Option("--json", help="Print what the API says, as JSON.")],
}
DEFAULTS: dict[str, object] = {"url": None, "key": None, "project": None, "data_dir": None, "as_json": False}


@dataclass(frozen=True)
class Session:
    """The common options of one command."""

    url: str | None = None
    key: str | None = None
    project: str | None = None
    data_dir: Path | None = None
    as_json: bool = False

    @cached_property
    def paths(self) -> Paths:
        """Where things lie in the data folder."""
        from stoker.paths import Paths

        return Paths((self.data_dir or Path.home() / ".stoker").expanduser().absolute())

    @cached_property
    def client(self) -> Client:
        """A client of the Stoker that is meant.

        The data folder's admin key goes to that folder's own address only: another Stoker must not learn it.
        """
        from stoker.cli.client import Client

        own = self.own_url
        url = (self.url or own).rstrip("/")
        key = self.key
        if key is None and url == own:
            key = self.admin_key
        if self.project is not None and not (self.project.isascii() and self.project.isprintable()):
            raise CliError(f"there can be no project {self.project[:64]!r}", Exit.USAGE)
        certificate = self.paths.certificate if url == own else None
        return Client(url, key, project=self.project, certificate=certificate)

    @cached_property
    def own_url(self) -> str:
        """The address of the Stoker that runs from the data folder, or that would by default."""
        from stoker.settings import DEFAULT_HOST, DEFAULT_PORT

        return (_read(self.paths.address) or "").rstrip("/") or f"http://{DEFAULT_HOST}:{DEFAULT_PORT}"

    @cached_property
    def admin_key(self) -> str | None:
        """The data folder's admin key, if there is one that may be read."""
        return _read(self.paths.admin_key)

    def settings(self, **overrides: object) -> Settings:
        """The settings of the data folder. Raises `CliError` with exit code 2."""
        from stoker import settings
        from stoker.domain.errors import Invalid

        try:
            return settings.read(os.environ, data_dir=self.data_dir, overrides=overrides)
        except (Invalid, OSError) as exc:
            raise CliError(f"the settings cannot be read: {exc}", Exit.USAGE) from exc


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8").strip() or None
    except (OSError, UnicodeDecodeError):
        # Missing, or another user's: then there is none for this one.
        return None


def command(function: Callable[Concatenate[Session, P], None]) -> Callable[..., None]:
    """Make a function with a `Session` first into a command that has the common options too."""
    hints = get_type_hints(function, include_extras=True)
    _, *own = inspect.signature(function).parameters.values()
    keyword = inspect.Parameter.KEYWORD_ONLY
    parameters = [
        *(parameter.replace(annotation=hints[parameter.name], kind=keyword) for parameter in own),
        *(
            inspect.Parameter(name, keyword, default=DEFAULTS[name], annotation=annotation)
            for name, annotation in OPTIONS.items()
        ),
    ]

    def run(**values: Any) -> None:
        session = Session(**{name: values.pop(name) for name in OPTIONS})
        function(session, **values)  # type: ignore[call-arg]

    run.__name__ = function.__name__
    run.__doc__ = function.__doc__
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run
