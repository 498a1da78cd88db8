"""Usage by hour, and what is learned of launches."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_SUMS = ("requests", "errors", "metered", "prompt_tokens", "completion_tokens")


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "usage_requests",
        sa.Column("endpoint", sa.String(length=36), nullable=False),
        sa.Column("hour", sa.Integer(), nullable=False),
        sa.Column("key", sa.String(length=36), nullable=False),
        sa.Column("project", sa.Integer(), nullable=False),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in _SUMS),
        sa.PrimaryKeyConstraint("endpoint", "hour", "key"),
    )
    op.create_index("ix_usage_requests_project_hour", "usage_requests", ["project", "hour"], unique=False)
    op.create_table(
        "usage_workers",
        sa.Column("endpoint", sa.String(length=36), nullable=False),
        sa.Column("hour", sa.Integer(), nullable=False),
        sa.Column("pool", sa.String(length=63), nullable=False),
        sa.Column("hardware", sa.String(length=128), nullable=False),
        sa.Column("project", sa.Integer(), nullable=False),
        *(sa.Column(name, sa.Float(), nullable=False) for name in ("started_s", "ready_s", "priced_s", "cost")),
        sa.PrimaryKeyConstraint("endpoint", "hour", "pool", "hardware"),
    )
    op.create_index("ix_usage_workers_project_hour", "usage_workers", ["project", "hour"], unique=False)
    op.create_table(
        "usage_endpoints",
        sa.Column("endpoint", sa.String(length=36), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.PrimaryKeyConstraint("endpoint"),
    )
    op.create_table(
        "usage_marks",
        sa.Column("incarnation", sa.String(length=64), nullable=False),
        sa.Column("endpoint", sa.String(length=36), nullable=False),
        sa.Column("key", sa.String(length=36), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in _SUMS),
        sa.PrimaryKeyConstraint("incarnation", "endpoint", "key"),
    )
    op.create_table(
        "usage_accrual",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("until", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "learned",
        sa.Column("launch", sa.String(length=64), nullable=False),
        sa.Column("provider", sa.String(length=64), nullable=False),
        sa.Column("host", sa.String(length=255), nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("samples", sa.Text(), nullable=False),
        sa.Column("updated_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("launch", "provider", "host", "kind"),
    )
