"""Failed starts are counted for each pool."""

from __future__ import annotations

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """What was counted for the whole endpoint is forgotten: its pools are tried at once."""
    op.execute("UPDATE endpoints SET failures = '{}'")
