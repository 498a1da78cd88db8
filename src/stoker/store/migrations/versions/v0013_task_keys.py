"""Keys of webhooks that come with a task, the form that a webhook is written in, and the port that a task goes to."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Those that are there are signed with a named secret, in Stoker's own form, and go to the main port."""
    op.create_table(
        "task_keys",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("task", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("sealed", sa.Text(), nullable=False),
        sa.Column("sealed_by", sa.String(length=16), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_task_keys_task", "task_keys", ["task"])
    op.create_index("ix_task_keys_sealed_by", "task_keys", ["sealed_by"])
    op.add_column("tasks", sa.Column("port", sa.Integer()))
    op.add_column("deliveries", sa.Column("key", sa.String(length=36)))
    op.add_column("deliveries", sa.Column("form", sa.String(length=32)))
