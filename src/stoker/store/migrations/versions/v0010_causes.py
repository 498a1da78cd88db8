"""Why operations did not succeed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Of those that ended before nobody knows."""
    op.add_column("operations", sa.Column("cause", sa.String(length=16), nullable=True))
