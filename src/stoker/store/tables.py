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
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)

metadata = MetaData()

# Of 64 bits, as callers may name and compare any: PostgreSQL refuses even to look for one that its column cannot hold.
# SQLite's integers are of 64 bits anyway, and only an INTEGER column counts by itself.
Number = BigInteger().with_variant(Integer(), "sqlite")
# SQLite keeps the length that it was told once, and does not mind.
TaskId = String(255).with_variant(String(128), "sqlite")

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
    # Never empty; the default is there since the column was added to a table that others refer to.
    Column("uuid", String(36), nullable=False, server_default=text("''")),
    Column("name", String(255), nullable=False, unique=True),
    Column("created_at", Float, nullable=False),
    Index("ix_projects_uuid", "uuid", unique=True),
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
    Column("cause", String(16)),
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
    Column("explained", Text),
    Index("ix_decisions_endpoint_number", "endpoint", "number"),
)

keys = Table(
    "keys",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("number", Number, nullable=False, unique=True),
    Column("project", Integer, ForeignKey("projects.id"), nullable=False),
    Column("name", String(255), nullable=False),
    Column("description", Text),
    Column("digest", String(64), unique=True),
    Column("access_id", String(64), unique=True),
    Column("hint", String(16), nullable=False),
    Column("scopes", Text, nullable=False),
    Column("endpoints", Text),
    Column("created_at", Float, nullable=False),
    Column("expires_at", Float),
    Column("revoked_at", Float),
    Column("sealed", Text),
    Column("sealed_by", String(16)),
    Column("installation", Boolean, nullable=False),
    Column("rate_per_s", Float),
    Column("burst", Integer),
    Column("concurrency", Integer),
    Column("last_used_at", Float),
)

# `sealed` is encrypted under the master key whose id is `sealed_by`; so it is in `credentials` and `keys`.
secrets = Table(
    "secrets",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("number", Number, nullable=False, unique=True),
    Column("project", Integer, ForeignKey("projects.id"), nullable=False),
    Column("name", String(63), nullable=False),
    Column("description", Text, nullable=False),
    Column("sealed", Text, nullable=False),
    Column("sealed_by", String(16), nullable=False),
    Column("created_at", Float, nullable=False),
    Column("updated_at", Float, nullable=False),
    UniqueConstraint("project", "name"),
)

# Of container registries.
credentials = Table(
    "credentials",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("number", Number, nullable=False, unique=True),
    Column("project", Integer, ForeignKey("projects.id"), nullable=False),
    Column("name", String(63), nullable=False),
    Column("registry", String(255), nullable=False),
    Column("username", String(255), nullable=False),
    Column("sealed", Text, nullable=False),
    Column("sealed_by", String(16), nullable=False),
    Column("created_at", Float, nullable=False),
    Column("updated_at", Float, nullable=False),
    UniqueConstraint("project", "name"),
)

models = Table(
    "models",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("number", Number, nullable=False, unique=True),
    Column("project", Integer, ForeignKey("projects.id"), nullable=False),
    Column("name", String(128), nullable=False),
    Column("aliases", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("sha256", String(64)),
    Column("token_secret", String(63)),
    Column("pinned", Boolean, nullable=False),
    Column("weights", String(32), nullable=False, index=True),
    Column("created_at", Float, nullable=False),
    Column("updated_at", Float, nullable=False),
    UniqueConstraint("project", "name"),
)

# What models are made of, on this host: several may have the same.
weights = Table(
    "weights",
    metadata,
    Column("key", String(32), primary_key=True),
    Column("source", Text, nullable=False),
    Column("sha256", String(64)),
    Column("project", Integer, nullable=False),
    Column("token_secret", String(63)),
    Column("state", String(16), nullable=False),
    Column("asked", Boolean, nullable=False),
    Column("used_at", Float, nullable=False),
    Column("path", Text),
    Column("done_bytes", BigInteger, nullable=False),
    Column("total_bytes", BigInteger),
    Column("error", Text, nullable=False),
    Column("failures", Integer, nullable=False),
    Column("retry_at", Float),
)

# Versions, which never change.
templates = Table(
    "templates",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("number", Number, nullable=False, unique=True),
    Column("project", Integer, ForeignKey("projects.id"), nullable=False),
    Column("name", String(63), nullable=False),
    Column("version", Integer, nullable=False),
    Column("spec", Text, nullable=False),
    Column("digest", String(64), nullable=False),
    Column("created_at", Float, nullable=False),
    UniqueConstraint("project", "name", "version"),
)

volumes = Table(
    "volumes",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("number", Number, nullable=False, unique=True),
    Column("project", Integer, ForeignKey("projects.id"), nullable=False),
    Column("name", String(63), nullable=False),
    Column("size_gib", Float, nullable=False),
    Column("provider", String(64), nullable=False),
    Column("region", String(64), nullable=False),
    Column("state", String(16), nullable=False),
    Column("created_at", Float, nullable=False),
    UniqueConstraint("project", "name"),
)

# `rank` is the priority turned round, so that the smallest goes first. Bodies come last: whoever does not ask for them
# does not read them.
tasks = Table(
    "tasks",
    metadata,
    Column("number", Number, primary_key=True, autoincrement=True),
    Column("id", TaskId, nullable=False),
    Column("endpoint", String(36), nullable=False),
    Column("project", Integer, nullable=False),
    Column("state", String(16), nullable=False),
    Column("rank", Integer, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("not_before", Float, nullable=False),
    Column("expires_at", Float),
    Column("started_at", Float),
    Column("ended_at", Float),
    Column("forget_at", Float),
    Column("attempts", Integer, nullable=False),
    Column("deliveries", Integer, nullable=False),
    Column("lease", String(64)),
    Column("holder", String(64)),
    Column("lease_until", Float),
    Column("cancelling", Boolean, nullable=False),
    Column("status", Integer),
    Column("worker", String(36)),
    Column("reason", Text, nullable=False),
    Column("method", String(20), nullable=False),
    Column("port", Integer),
    Column("target", Text, nullable=False),
    Column("headers", Text, nullable=False),
    Column("content_type", String(255), nullable=False),
    Column("retries", Text, nullable=False),
    Column("webhook", Text),
    Column("execution_timeout_s", Float, nullable=False),
    Column("retention_s", Float, nullable=False),
    Column("retry_of", TaskId),
    Column("digest", String(64), nullable=False),
    Column("input_size", BigInteger, nullable=False),
    Column("input_file", String(64)),
    Column("result_type", Text),
    Column("result_size", BigInteger),
    Column("result_file", String(64)),
    Column("input", LargeBinary),
    Column("result", LargeBinary),
    UniqueConstraint("endpoint", "id"),
    Index("ix_tasks_endpoint_number", "endpoint", "number"),
    Index("ix_tasks_endpoint_state_number", "endpoint", "state", "number"),
    Index(
        "ix_tasks_queued",
        "endpoint",
        "rank",
        "number",
        sqlite_where=text("state = 'queued'"),
        postgresql_where=text("state = 'queued'"),
    ),
    Index(
        "ix_tasks_expires_at",
        "expires_at",
        sqlite_where=text("state = 'queued'"),
        postgresql_where=text("state = 'queued'"),
    ),
    Index(
        "ix_tasks_forget_at",
        "forget_at",
        sqlite_where=text("forget_at IS NOT NULL"),
        postgresql_where=text("forget_at IS NOT NULL"),
    ),
    # A number never comes again, as gateways know attempts by it.
    sqlite_autoincrement=True,
)

attempts = Table(
    "attempts",
    metadata,
    Column("task", Number, primary_key=True),
    Column("attempt", Integer, primary_key=True),
    Column("worker", String(36)),
    Column("began_at", Float, nullable=False),
    Column("ended_at", Float, nullable=False),
    Column("outcome", String(16), nullable=False),
    Column("status", Integer),
    Column("reason", Text, nullable=False),
)

# Webhooks to be sent, and what became of them.
deliveries = Table(
    "deliveries",
    metadata,
    Column("number", Number, primary_key=True, autoincrement=True),
    Column("id", String(64), nullable=False, unique=True),
    Column("task", Number, nullable=False, index=True),
    Column("task_id", TaskId, nullable=False),
    Column("endpoint", String(36), nullable=False),
    Column("project", Integer, nullable=False),
    Column("event", String(32), nullable=False),
    Column("url", Text, nullable=False),
    # Empty where there is none: a key is in `task_keys`, or nothing is signed.
    Column("secret", String(63), nullable=False),
    Column("key", String(36)),
    Column("form", String(32)),
    Column("state", String(16), nullable=False),
    Column("created_at", Float, nullable=False),
    Column("next_at", Float, nullable=False),
    Column("tries", Integer, nullable=False),
    Column("status", Integer),
    Column("error", Text, nullable=False),
    Column("ended_at", Float),
    Column("payload", LargeBinary, nullable=False),
    Index("ix_deliveries_endpoint_number", "endpoint", "number"),
    Index(
        "ix_deliveries_pending",
        "next_at",
        sqlite_where=text("state = 'pending'"),
        postgresql_where=text("state = 'pending'"),
    ),
)

# Keys of webhooks that came with a task, encrypted.
task_keys = Table(
    "task_keys",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("task", Number, nullable=False, index=True),
    Column("sealed", Text, nullable=False),
    Column("sealed_by", String(16), nullable=False, index=True),
)

# Queues whose tasks wait until their owner lets them go on.
pauses = Table(
    "pauses",
    metadata,
    Column("endpoint", String(36), primary_key=True),
    Column("at", Float, nullable=False),
)

audit = Table(
    "audit",
    metadata,
    Column("number", Number, primary_key=True, autoincrement=True),
    Column("at", Float, nullable=False),
    Column("project", Integer, nullable=False),
    Column("key", String(36)),
    Column("action", String(64), nullable=False),
    Column("target", String(36), nullable=False),
    Column("name", String(255), nullable=False),
    Column("before", Text),
    Column("after", Text),
    Column("outcome", String(16), nullable=False),
    Column("operation", String(36)),
    Index("ix_audit_project_number", "project", "number"),
)

# Usage by hour (hours since the epoch). A request without a key has the key ''. No foreign keys: what was used stays
# when an endpoint or a key is gone.
usage_requests = Table(
    "usage_requests",
    metadata,
    Column("endpoint", String(36), primary_key=True),
    Column("hour", Integer, primary_key=True),
    Column("key", String(36), primary_key=True),
    Column("project", Integer, nullable=False),
    Column("requests", BigInteger, nullable=False),
    Column("errors", BigInteger, nullable=False),
    Column("metered", BigInteger, nullable=False),
    Column("prompt_tokens", BigInteger, nullable=False),
    Column("completion_tokens", BigInteger, nullable=False),
    Index("ix_usage_requests_project_hour", "project", "hour"),
)

usage_workers = Table(
    "usage_workers",
    metadata,
    Column("endpoint", String(36), primary_key=True),
    Column("hour", Integer, primary_key=True),
    Column("pool", String(63), primary_key=True),
    Column("hardware", String(128), primary_key=True),
    Column("project", Integer, nullable=False),
    Column("started_s", Float, nullable=False),
    Column("ready_s", Float, nullable=False),
    Column("priced_s", Float, nullable=False),
    Column("cost", Float, nullable=False),
    Index("ix_usage_workers_project_hour", "project", "hour"),
)

# What endpoints were called when they last used something.
usage_endpoints = Table(
    "usage_endpoints",
    metadata,
    Column("endpoint", String(36), primary_key=True),
    Column("name", String(255), nullable=False),
)

# How far a gateway's cumulative sums have been counted, so that a report that comes twice counts once.
usage_marks = Table(
    "usage_marks",
    metadata,
    Column("incarnation", String(64), primary_key=True),
    Column("endpoint", String(36), primary_key=True),
    Column("key", String(36), primary_key=True),
    Column("at", Float, nullable=False),
    Column("requests", BigInteger, nullable=False),
    Column("errors", BigInteger, nullable=False),
    Column("metered", BigInteger, nullable=False),
    Column("prompt_tokens", BigInteger, nullable=False),
    Column("completion_tokens", BigInteger, nullable=False),
)

# Until when the time of workers has been counted: one row.
usage_accrual = Table(
    "usage_accrual",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("until", Float, nullable=False),
)

# What was learned of a launch on a host: the last samples of each kind, and how many there were ever.
learned = Table(
    "learned",
    metadata,
    Column("launch", String(64), primary_key=True),
    Column("provider", String(64), primary_key=True),
    Column("host", String(255), primary_key=True),
    Column("kind", String(32), primary_key=True),
    Column("count", Integer, nullable=False),
    Column("samples", Text, nullable=False),
    Column("updated_at", Float, nullable=False),
)

# What was learned of an endpoint's traffic, in control's own words.
experiences = Table(
    "experiences",
    metadata,
    Column("endpoint", String(36), primary_key=True),
    Column("experience", Text, nullable=False),
    Column("updated_at", Float, nullable=False),
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
