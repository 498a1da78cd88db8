"""Numbers of 64 bits on PostgreSQL; SQLite's are so already."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_COLUMNS = {
    "audit": "number",
    "counters": "value",
    "credentials": "number",
    "decisions": "number",
    "endpoints": "number",
    "events": "number",
    "keys": "number",
    "operations": "number",
    "revisions": "number",
    "secrets": "number",
    "workers": "number",
}


def upgrade() -> None:
    """Widen them."""
    if op.get_bind().dialect.name == "sqlite":
        return
    for table, column in _COLUMNS.items():
        op.alter_column(table, column, type_=sa.BigInteger(), existing_type=sa.Integer(), existing_nullable=False)
    for table in ("audit", "decisions", "events"):
        op.execute(f"ALTER SEQUENCE {table}_number_seq AS bigint")
