"""Brings a database to the schema of this version. Refuses one that is newer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import Column, Connection, MetaData, String, Table, insert, inspect, text

from stoker.domain.endpoint import FIRST_PROJECT
from stoker.domain.errors import Unsupported
from stoker.store.tables import counters, metadata

if TYPE_CHECKING:
    from alembic.config import Config

# The newest file of `migrations/versions`. Compared before Alembic is imported, which takes longer than the rest of the
# start; a test keeps it true.
HEAD = "0016"


def revision_of(connection: Connection) -> str | None:
    """The revision that a database is at; `None` when there is nothing in it."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one_or_none()
    return found


def is_known(revision: str) -> bool:
    """Is there a migration to this revision?"""
    return revision in _known(_config(None))


def upgrade(connection: Connection, *, to: str = HEAD) -> None:
    """Apply the migrations that are missing up to `to`. The caller commits. Raises `Unsupported` for a newer one."""
    current = revision_of(connection)
    if current == to:
        return
    if current is None and to == HEAD and not inspect(connection).get_table_names():
        _make(connection)
        return
    from alembic import command

    config = _config(connection)
    if current is not None and current not in _known(config):
        raise Unsupported(
            f"the database has schema {current}, which this version of Stoker does not know: upgrade Stoker"
        )
    command.upgrade(config, to)


def _make(connection: Connection) -> None:
    """What all migrations together come to, in a tenth of their time: for a first start, which somebody waits for."""
    metadata.create_all(connection)
    version = Table("alembic_version", MetaData(), Column("version_num", String(32), primary_key=True, nullable=False))
    version.create(connection)
    connection.execute(insert(version).values(version_num=HEAD))
    # Rows that migrations leave in an empty database: the first project has its number before it is made.
    connection.execute(insert(counters).values(kind="project", value=FIRST_PROJECT))


def _config(connection: Connection | None) -> Config:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", "stoker:store/migrations")
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


def _known(config: Config) -> set[str]:
    from alembic.script import ScriptDirectory

    return {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
