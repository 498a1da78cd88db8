"""Launches by pool, workers that know their pool, and the revisions of endpoints."""

from __future__ import annotations

import json

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Every endpoint had one pool so far, and of its revisions only the present one is known."""
    op.create_table(
        "revisions",
        sa.Column("endpoint", sa.String(length=36), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("spec", sa.Text(), nullable=False),
        sa.Column("launches", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("endpoint", "number"),
    )
    with op.batch_alter_table("endpoints") as table:
        table.alter_column("launch", new_column_name="launches", existing_type=sa.Text(), existing_nullable=False)
        table.add_column(sa.Column("launched", sa.Integer(), nullable=False, server_default="1"))
        table.add_column(sa.Column("alike", sa.Text(), nullable=False, server_default="{}"))
    with op.batch_alter_table("workers") as table:
        table.add_column(sa.Column("pool", sa.String(length=63), nullable=False, server_default="default"))
        table.add_column(sa.Column("chilling", sa.Boolean(), nullable=False, server_default=sa.false()))
        table.add_column(sa.Column("from_cold", sa.Boolean(), nullable=False, server_default=sa.false()))
        table.add_column(sa.Column("unready", sa.Text(), nullable=False, server_default=""))
    _convert(op.get_bind())
    with op.batch_alter_table("endpoints") as table:
        for name in ("launched", "alike"):
            table.alter_column(name, server_default=None)
    with op.batch_alter_table("workers") as table:
        for name in ("pool", "chilling", "from_cold", "unready"):
            table.alter_column(name, server_default=None)


def _convert(connection: sa.Connection) -> None:
    endpoints = sa.table(
        "endpoints",
        *(sa.column(name) for name in ("id", "spec", "launches", "revision", "launched", "alike", "updated_at")),
    )
    revisions = sa.table(
        "revisions", *(sa.column(name) for name in ("endpoint", "number", "spec", "launches", "created_at"))
    )
    workers = sa.table("workers", sa.column("endpoint"), sa.column("pool"))
    for row in connection.execute(sa.select(endpoints)).all():
        spec = json.loads(row.spec)
        pool = spec["pools"][0]["name"]
        # There was one probe, for the start and ever after.
        probe = spec.pop("probe", None)
        spec["probes"] = {"startup": probe, "readiness": None, "liveness": probe}
        launches = json.dumps({pool: json.loads(row.launches)})
        values = {
            "spec": json.dumps(spec),
            "launches": launches,
            "launched": row.revision,
            "alike": json.dumps({pool: [row.revision]}),
        }
        connection.execute(endpoints.update().where(endpoints.c.id == row.id).values(**values))
        connection.execute(workers.update().where(workers.c.endpoint == row.id).values(pool=pool))
        connection.execute(
            revisions.insert().values(
                endpoint=row.id,
                number=row.revision,
                spec=json.dumps(spec),
                launches=launches,
                created_at=row.updated_at,
            )
        )
