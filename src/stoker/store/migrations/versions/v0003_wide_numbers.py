"""Numbers of 64 bits on PostgreSQL; SQLite's are so already."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_COLUMNS = {
    "counters": "value",
    "decisions": "number",
    "endpoints": "number",
    "events": "number",
    "keys": "number",
    "operations": "number",
    "revisions": "number",
    "workers": "number",
}


def upgrade() -> None:
    """Widen them."""
    if op.get_bind().dialect.name == "sqlite":
        return
    for table, column in _COLUMNS.items():
        op.alter_column(table, column, type_=sa.BigInteger(), existing_type=sa.Integer(), existing_nullable=False)
    for table in ("decisions", "events"):
        op.execute(f"ALTER SEQUENCE {table}_number_seq AS bigint")
