"""Ids of tasks with up to 255 characters on PostgreSQL; SQLite does not count them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

_COLUMNS = (("tasks", "id", False), ("tasks", "retry_of", True), ("deliveries", "task_id", False))


def upgrade() -> None:
    """Widen them."""
    if op.get_bind().dialect.name == "sqlite":
        return
    for table, column, nullable in _COLUMNS:
        op.alter_column(table, column, type_=sa.String(255), existing_type=sa.String(128), existing_nullable=nullable)
