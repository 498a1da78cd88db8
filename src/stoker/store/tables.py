"""The tables, as SQLAlchemy Core sees them. `migrations/` makes them; the two are compared in the tests.

Times are seconds since the epoch. Values that only this program reads whole are JSON texts.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

metadata = MetaData()

# Of 64 bits, as callers may name and compare any: PostgreSQL refuses even to look for one that its column cannot hold.
# SQLite's integers are of 64 bits anyway, and only an INTEGER column counts by itself.
Number = BigInteger().with_variant(Integer(), "sqlite")

# The last number given out for each kind: numbers are never used twice, deleted objects included.
counters = Table(
    "counters",
    metadata,
    Column("kind", String(32), primary_key=True),
    Column("value", Number, nullable=False),
)

projects = Table(
    "projects",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", String(255), nullable=False, unique=True),
    Column("created_at", Float, nullable=False),
)

endpoints = Table(
    "endpoints",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("number", Number, nullable=False, unique=True),
    Column("project", Integer, ForeignKey("projects.id"), nullable=False),
    Column("slug", String(63), nullable=False, unique=True),
    Column("name", String(255), nullable=False),
    Column("spec", Text, nullable=False),
    Column("launches", Text, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("launched", Integer, nullable=False),
    Column("alike", Text, nullable=False),
    Column("phase", String(16), nullable=False),
    Column("desired", Integer, nullable=False),
    Column("override", Text),
    Column("failures", Text, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("updated_at", Float, nullable=False),
    UniqueConstraint("project", "name"),
)

# What an endpoint's spec was, and what it was resolved to: for going back, and for workers that still run it.
revisions = Table(
    "revisions",
    metadata,
    Column("endpoint", String(36), primary_key=True),
    Column("number", Number, primary_key=True),
    Column("spec", Text, nullable=False),
    Column("launches", Text, nullable=False),
    Column("created_at", Float, nullable=False),
)

workers = Table(
    "workers",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("number", Number, nullable=False, unique=True),
    Column("endpoint", String(36), nullable=False, index=True),
    Column("pool", String(63), nullable=False),
    Column("revision", Integer, nullable=False),
    Column("provider", String(64), nullable=False),
    Column("state", String(16), nullable=False, index=True),
    Column("slots", Integer, nullable=False),
    Column("placement", Text),
    Column("address_host", String(255)),
    Column("address_port", Integer),
    Column("created_at", Float, nullable=False),
    Column("started_at", Float),
    Column("acknowledged_at", Float),
    Column("ready_at", Float),
    Column("drain_deadline", Float),
    Column("chilling", Boolean, nullable=False),
    Column("from_cold", Boolean, nullable=False),
    Column("unready", Text, nullable=False),
    Column("ended_at", Float),
    Column("released_at", Float),
    Column("reason", Text, nullable=False),
    Column("exit_code", Integer),
)

operations = Table(
    "operations",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("number", Number, nullable=False, unique=True),
    Column("kind", String(16), nullable=False),
    Column("endpoint", String(36), nullable=False, index=True),
    Column("project", Integer, nullable=False),
    Column("state", String(16), nullable=False, index=True),
    Column("created_at", Float, nullable=False),
    Column("deadline_at", Float, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("workers", Integer),
    Column("message", Text, nullable=False),
    Column("ended_at", Float),
)

events = Table(
    "events",
    metadata,
    Column("number", Number, primary_key=True, autoincrement=True),
    Column("at", Float, nullable=False),
    Column("endpoint", String(36)),
    Column("worker", String(36)),
    Column("level", String(16), nullable=False),
    Column("kind", String(64), nullable=False),
    Column("message", Text, nullable=False),
    Index("ix_events_endpoint_number", "endpoint", "number"),
)

decisions = Table(
    "decisions",
    metadata,
    Column("number", Number, primary_key=True, autoincrement=True),
    Column("endpoint", String(36), nullable=False),
    Column("at", Float, nullable=False),
    Column("current", Integer, nullable=False),
    Column("workers", Integer, nullable=False),
    Column("reason", Text, nullable=False),
    Column("inputs", Text, nullable=False),
    Index("ix_decisions_endpoint_number", "endpoint", "number"),
)

keys = Table(
    "keys",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("number", Number, nullable=False, unique=True),
    Column("project", Integer, ForeignKey("projects.id"), nullable=False),
    Column("name", String(255), nullable=False),
    Column("digest", String(64), nullable=False, unique=True),
    Column("hint", String(16), nullable=False),
    Column("scopes", Text, nullable=False),
    Column("endpoints", Text),
    Column("created_at", Float, nullable=False),
    Column("expires_at", Float),
    Column("revoked_at", Float),
)

# Answers to POSTs that carried an Idempotency-Key. `status` is null while the first one is still running.
idempotency = Table(
    "idempotency",
    metadata,
    Column("project", Integer, primary_key=True),
    Column("route", String(255), primary_key=True),
    Column("key", String(255), primary_key=True),
    Column("digest", String(64), nullable=False),
    Column("created_at", Float, nullable=False),
    Column("status", Integer),
    Column("body", Text),
)
