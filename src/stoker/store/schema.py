"""Brings a database to the schema of this version. Refuses one that is newer."""

from __future__ import annotations

from sqlalchemy import Connection, inspect, text

from stoker.domain.errors import Unsupported

# The newest file of `migrations/versions`. Compared before Alembic is imported, which takes longer than the rest of the
# start; a test keeps it true.
HEAD = "0006"


def upgrade(connection: Connection) -> None:
    """Apply the migrations that are missing. The caller commits."""
    current = None
    if inspect(connection).has_table("alembic_version"):
        current = connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one_or_none()
    if current == HEAD:
        return
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", "stoker:store/migrations")
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if current is not None and current not in known:
        raise Unsupported(
            f"the database has schema {current}, which this version of Stoker does not know: upgrade Stoker"
        )
    command.upgrade(config, "head")
