"""Tasks, their attempts, webhooks and paused queues."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def _number() -> sa.types.TypeEngine[int]:
    return sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """There are none yet."""
    _tasks()
    op.create_table(
        "attempts",
        sa.Column("task", _number(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("worker", sa.String(length=36)),
        sa.Column("began_at", sa.Float(), nullable=False),
        sa.Column("ended_at", sa.Float(), nullable=False),
        sa.Column("outcome", sa.String(length=16), nullable=False),
        sa.Column("status", sa.Integer()),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("task", "attempt"),
    )
    _deliveries()
    op.create_table(
        "pauses",
        sa.Column("endpoint", sa.String(length=36), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("endpoint"),
    )


def _tasks() -> None:
    op.create_table(
        "tasks",
        sa.Column("number", _number(), nullable=False),
        sa.Column("id", sa.String(length=128), nullable=False),
        sa.Column("endpoint", sa.String(length=36), nullable=False),
        sa.Column("project", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("rank", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("not_before", sa.Float(), nullable=False),
        sa.Column("expires_at", sa.Float()),
        sa.Column("started_at", sa.Float()),
        sa.Column("ended_at", sa.Float()),
        sa.Column("forget_at", sa.Float()),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("deliveries", sa.Integer(), nullable=False),
        sa.Column("lease", sa.String(length=64)),
        sa.Column("holder", sa.String(length=64)),
        sa.Column("lease_until", sa.Float()),
        sa.Column("cancelling", sa.Boolean(), nullable=False),
        sa.Column("status", sa.Integer()),
        sa.Column("worker", sa.String(length=36)),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("method", sa.String(length=20), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("headers", sa.Text(), nullable=False),
        sa.Column("content_type", sa.String(length=255), nullable=False),
        sa.Column("retries", sa.Text(), nullable=False),
        sa.Column("webhook", sa.Text()),
        sa.Column("execution_timeout_s", sa.Float(), nullable=False),
        sa.Column("retention_s", sa.Float(), nullable=False),
        sa.Column("retry_of", sa.String(length=128)),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("input_size", sa.BigInteger(), nullable=False),
        sa.Column("input_file", sa.String(length=64)),
        sa.Column("result_type", sa.Text()),
        sa.Column("result_size", sa.BigInteger()),
        sa.Column("result_file", sa.String(length=64)),
        sa.Column("input", sa.LargeBinary()),
        sa.Column("result", sa.LargeBinary()),
        sa.PrimaryKeyConstraint("number"),
        sa.UniqueConstraint("endpoint", "id"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_tasks_endpoint_number", "tasks", ["endpoint", "number"])
    op.create_index("ix_tasks_endpoint_state_number", "tasks", ["endpoint", "state", "number"])
    _partial("ix_tasks_queued", "tasks", ["endpoint", "rank", "number"], "state = 'queued'")
    _partial("ix_tasks_expires_at", "tasks", ["expires_at"], "state = 'queued'")
    _partial("ix_tasks_forget_at", "tasks", ["forget_at"], "forget_at IS NOT NULL")


def _deliveries() -> None:
    op.create_table(
        "deliveries",
        sa.Column("number", _number(), nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("task", _number(), nullable=False),
        sa.Column("task_id", sa.String(length=128), nullable=False),
        sa.Column("endpoint", sa.String(length=36), nullable=False),
        sa.Column("project", sa.Integer(), nullable=False),
        sa.Column("event", sa.String(length=32), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("secret", sa.String(length=63), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("next_at", sa.Float(), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("status", sa.Integer()),
        sa.Column("error", sa.Text(), nullable=False),
        sa.Column("ended_at", sa.Float()),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("number"),
        sa.UniqueConstraint("id"),
    )
    op.create_index("ix_deliveries_task", "deliveries", ["task"])
    op.create_index("ix_deliveries_endpoint_number", "deliveries", ["endpoint", "number"])
    _partial("ix_deliveries_pending", "deliveries", ["next_at"], "state = 'pending'")


def _partial(name: str, table: str, columns: list[str], where: str) -> None:
    op.create_index(name, table, columns, sqlite_where=sa.text(where), postgresql_where=sa.text(where))
