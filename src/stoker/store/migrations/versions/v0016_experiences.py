"""What is learned of each endpoint's traffic."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Nothing was learned so far."""
    op.create_table(
        "experiences",
        sa.Column("endpoint", sa.String(length=36), nullable=False),
        sa.Column("experience", sa.Text(), nullable=False),
        sa.Column("updated_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("endpoint"),
    )
