"""Projects with ids, keys in full, secrets, registry credentials and audit events."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Keys that there are have no limits and cannot be shown again; project 1 gets an id."""
    op.create_table(
        "audit",
        sa.Column("number", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("project", sa.Integer(), nullable=False),
        sa.Column("key", sa.String(length=36), nullable=True),
        sa.Column("action", sa.String(length=64), nullable=False),
        sa.Column("target", sa.String(length=36), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("before", sa.Text(), nullable=True),
        sa.Column("after", sa.Text(), nullable=True),
        sa.Column("outcome", sa.String(length=16), nullable=False),
        sa.Column("operation", sa.String(length=36), nullable=True),
        sa.PrimaryKeyConstraint("number"),
    )
    op.create_index("ix_audit_project_number", "audit", ["project", "number"], unique=False)
    _encrypted("secrets", sa.Column("description", sa.Text(), nullable=False))
    _encrypted(
        "credentials",
        sa.Column("registry", sa.String(length=255), nullable=False),
        sa.Column("username", sa.String(length=255), nullable=False),
    )
    with op.batch_alter_table("keys") as table:
        table.alter_column("digest", existing_type=sa.String(length=64), nullable=True)
        table.add_column(sa.Column("access_id", sa.String(length=64), nullable=True))
        table.add_column(sa.Column("sealed", sa.Text(), nullable=True))
        table.add_column(sa.Column("sealed_by", sa.String(length=16), nullable=True))
        table.add_column(sa.Column("installation", sa.Boolean(), nullable=False, server_default=sa.false()))
        table.add_column(sa.Column("rate_per_s", sa.Float(), nullable=True))
        table.add_column(sa.Column("burst", sa.Integer(), nullable=True))
        table.add_column(sa.Column("concurrency", sa.Integer(), nullable=True))
        table.add_column(sa.Column("last_used_at", sa.Float(), nullable=True))
        table.create_unique_constraint("uq_keys_access_id", ["access_id"])
    with op.batch_alter_table("keys") as table:
        table.alter_column("installation", server_default=None)
    _number_projects()


def _encrypted(name: str, *more: sa.Column[object]) -> None:
    op.create_table(
        name,
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("project", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=63), nullable=False),
        *more,
        sa.Column("sealed", sa.Text(), nullable=False),
        sa.Column("sealed_by", sa.String(length=16), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("updated_at", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["project"], ["projects.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("number"),
        sa.UniqueConstraint("project", "name"),
    )


def _number_projects() -> None:
    # Added in place, since others refer to this table and SQLite cannot make it anew; hence the default, which stays.
    op.add_column("projects", sa.Column("uuid", sa.String(length=36), nullable=False, server_default=sa.text("''")))
    connection = op.get_bind()
    projects = sa.table("projects", sa.column("id"), sa.column("uuid"))
    numbers = connection.execute(sa.select(projects.c.id)).scalars().all()
    for number in numbers:
        fixed = f"00000000-0000-7000-8000-{number:012d}"
        connection.execute(projects.update().where(projects.c.id == number).values(uuid=fixed))
    op.create_index("ix_projects_uuid", "projects", ["uuid"], unique=True)
    counters = sa.table("counters", sa.column("kind"), sa.column("value"))
    connection.execute(counters.insert().values(kind="project", value=max(numbers, default=1)))
