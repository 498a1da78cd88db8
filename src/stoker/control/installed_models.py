"""The models that come with the installation: built in, or named by its settings. Nobody changes them here.

Asked by `Models`, which shows them beside the project's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from stoker.domain.models import ModelSource, ModelView, SourceKind
from stoker.engines import catalogue


class InstalledModels:
    """See the module. Looks at the disk whenever it is asked."""

    def __init__(self, named: Mapping[str, str]) -> None:
        """`named` are those of the settings: where each lies."""
        self._named = named

    def views(self) -> tuple[ModelView, ...]:
        """All of them."""
        return tuple(
            ModelView(
                name=listed.name,
                aliases=listed.aliases,
                path=listed.path,
                available=listed.available,
                origin="settings" if listed.name in self._named else "built-in",
            )
            for listed in catalogue.listed(self._named)
        )

    def find(self, name: str) -> ModelView | None:
        """The one of that name or alias."""
        return next((view for view in self.views() if name in (view.name, *view.aliases)), None)

    def path(self, name: str) -> str | None:
        """Where the one of that name or alias lies; `None` when there is none, or it is not on this host."""
        found = (view for view in self.views() if name in (view.name, *view.aliases) and view.available)
        return next((view.path for view in found if view.path is not None), None)


def source_of(path: str) -> ModelSource:
    """The file of one, as the source of a model of a project's own."""
    return ModelSource(kind=SourceKind.PATH, location=str(Path(path).expanduser().absolute()))
