"""What triggers asked for and what limited it, beside each decision."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Of earlier decisions nothing more is known."""
    op.add_column("decisions", sa.Column("explained", sa.Text(), nullable=True))
