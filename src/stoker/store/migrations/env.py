"""Alembic's environment: runs on the connection that `stoker.store.schema` hands over, never on one of its own."""

from __future__ import annotations

from alembic import context
from sqlalchemy import Connection

from stoker.store.tables import metadata

connection: Connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=metadata, render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()
