"""What keys are for, in words."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Of those that are there, nothing was said."""
    op.add_column("keys", sa.Column("description", sa.Text(), nullable=True))
