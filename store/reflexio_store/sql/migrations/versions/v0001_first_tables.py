"""The first tables: the record of turns, what was learned, jobs, and full-text indexes of each database's own kind."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic.operations import Operations
from sqlalchemy.dialects.postgresql import ARRAY

from reflexio_store.sql.column_types import JSON, TEXT

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade(operations: Operations) -> None:
    """Make everything."""
    _record(operations)
    _learnings(operations)
    _jobs(operations)
    _indexes(operations)
    if operations.get_context().dialect.name == "sqlite":
        _sqlite_full_text(operations)
    else:
        _postgresql_full_text(operations)
        operations.create_table("reflexio_hold", _text("owner"), sa.PrimaryKeyConstraint("owner"))


def _text(name: str, *, null: bool = False) -> sa.Column[Any]:
    return sa.Column(name, TEXT, nullable=null)


def _big(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.BigInteger(), nullable=False, autoincrement=False)


def _whole(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.Integer(), nullable=False, autoincrement=False)


def _json(name: str) -> sa.Column[Any]:
    return sa.Column(name, JSON, nullable=True)


def _record(operations: Operations) -> None:
    operations.create_table(
        "reflexio_session",
        _text("user_id"),
        _text("session_id"),
        _big("first_at_us"),
        _big("last_at_us"),
        _whole("n_requests"),
        sa.PrimaryKeyConstraint("user_id", "session_id"),
    )
    operations.create_table(
        "reflexio_request",
        *(_text("user_id"), _text("request_id"), _text("session_id"), _big("created_at_us")),
        *(_text("source"), _text("agent_version"), _text("status"), _text("error")),
        *(_json("details"), _json("options")),
        *(_text("retrieval_experiment_id", null=True), _text("retrieval_experiment_arm", null=True)),
        sa.Column("text_indexed", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("user_id", "request_id"),
    )
    operations.create_table(
        "reflexio_interaction",
        *(_text("user_id"), _text("request_id"), _whole("seq"), _big("interaction_id"), _big("created_at")),
        *(_text("role"), _text("content"), _text("user_action"), _text("user_action_description")),
        *(_text("interacted_image_url"), _text("image_encoding"), _text("shadow_content"), _text("expert_content")),
        *(_json("tools_used"), _json("citations"), _json("retrieved_learnings")),
        sa.PrimaryKeyConstraint("user_id", "request_id", "seq"),
        sa.ForeignKeyConstraint(
            ["user_id", "request_id"],
            ["reflexio_request.user_id", "reflexio_request.request_id"],
            ondelete="CASCADE",
        ),
    )


def _playbook() -> list[sa.Column[Any]]:
    return [
        *(_text("sameness"), _text("playbook_name"), _big("created_at"), _text("content")),
        *(_text("trigger", null=True), _text("rationale", null=True), _json("blocking_issue")),
        *(_text("status", null=True), _json("tags")),
    ]


def _learnings(operations: Operations) -> None:
    operations.create_table(
        "reflexio_profile",
        *(_text("user_id"), _text("profile_id"), _text("sameness"), _text("content")),
        *(_big("last_modified_timestamp"), _text("generated_from_request_id")),
        *(_text("profile_time_to_live"), _big("expiration_timestamp"), _json("custom_features")),
        *(_text("source", null=True), _text("status", null=True), _json("extractor_names")),
        *(_text("source_span", null=True), _json("source_interaction_ids"), _json("tags")),
        *(_text("expanded_terms", null=True), _text("notes", null=True), _text("superseded_by", null=True)),
        sa.PrimaryKeyConstraint("user_id", "profile_id"),
    )
    operations.create_table(
        "reflexio_user_playbook",
        *(_text("user_id"), _big("user_playbook_id"), _text("agent_version"), *_playbook()),
        *(_text("request_id"), _text("source", null=True), _json("source_interaction_ids")),
        *(_text("source_span", null=True), _text("superseded_by", null=True)),
        sa.PrimaryKeyConstraint("user_id", "user_playbook_id"),
    )
    operations.create_table(
        "reflexio_agent_playbook",
        *(_text("agent_version"), _big("agent_playbook_id"), *_playbook()),
        *(_text("playbook_status"), _text("playbook_metadata")),
        sa.PrimaryKeyConstraint("agent_version", "agent_playbook_id"),
    )
    operations.create_table(
        "reflexio_evidence",
        *(_text("user_id"), _text("kind"), _text("learning_id"), _text("request_id"), _whole("interaction_index")),
        sa.PrimaryKeyConstraint("user_id", "kind", "learning_id", "request_id", "interaction_index"),
    )
    operations.create_table(
        "reflexio_dismissed",
        *(_text("user_id"), _text("kind"), _text("sameness"), _text("request_id"), _whole("interaction_index")),
        sa.PrimaryKeyConstraint("user_id", "kind", "sameness", "request_id", "interaction_index"),
    )


def _jobs(operations: Operations) -> None:
    operations.create_table(
        "reflexio_job",
        *(_text("user_id"), _text("kind"), _text("key"), _text("state"), _big("due_us")),
        *(_whole("attempts"), _whole("generation"), _text("token"), _big("lease_until_us"), _text("last_error")),
        *(_json("payload"), _json("result")),
        sa.PrimaryKeyConstraint("user_id", "kind", "key"),
    )


_INDEXES = {
    "session": {
        "user_last": ["user_id", "last_at_us", "session_id"],
        "last": ["last_at_us", "user_id", "session_id"],
        "session": ["session_id"],
    },
    "request": {
        "session": ["user_id", "session_id", "created_at_us", "request_id"],
        "user_created": ["user_id", "created_at_us", "request_id"],
        "created": ["created_at_us", "request_id"],
        "id": ["request_id"],
    },
    "interaction": {"created": ["user_id", "created_at"], "id": ["interaction_id"]},
    "profile": {"id": ["profile_id"], "sameness": ["user_id", "sameness"]},
    "user_playbook": {
        "id": ["user_playbook_id"],
        "sameness": ["user_id", "sameness"],
        "version": ["agent_version"],
    },
    "agent_playbook": {"id": ["agent_playbook_id"]},
    "evidence": {"request": ["user_id", "request_id"]},
    "dismissed": {"request": ["user_id", "request_id"]},
}


def _indexes(operations: Operations) -> None:
    for table, indexes in _INDEXES.items():
        for name, columns in indexes.items():
            operations.create_index(f"ix_reflexio_{table}_{name}", f"reflexio_{table}", columns)
    _partial(operations, "request_unindexed", "request", ["user_id"], "text_indexed = 0", "NOT text_indexed")
    _partial(operations, "job_ready", "job", ["kind", "due_us"], "state = 'ready'", "state = 'ready'")
    _partial(operations, "job_running", "job", ["kind", "lease_until_us"], "state = 'running'", "state = 'running'")


def _partial(operations: Operations, name: str, table: str, columns: list[str], sqlite: str, postgresql: str) -> None:
    operations.create_index(
        f"ix_reflexio_{name}",
        f"reflexio_{table}",
        columns,
        sqlite_where=sa.text(sqlite),
        postgresql_where=sa.text(postgresql),
    )


def _sqlite_full_text(operations: Operations) -> None:
    for table in ("reflexio_learning_text", "reflexio_interaction_text"):
        operations.execute(
            f"CREATE VIRTUAL TABLE {table} USING fts5("
            "scope, head, body, kind UNINDEXED, owner UNINDEXED, key UNINDEXED, seq UNINDEXED, size UNINDEXED, "
            "tokenize = 'porter unicode61 remove_diacritics 2')"
        )


def _postgresql_full_text(operations: Operations) -> None:
    for table in ("reflexio_learning_text", "reflexio_interaction_text"):
        operations.create_table(
            table,
            *(_text("owner"), _text("kind"), _text("key"), _whole("seq"), _big("number"), _whole("size")),
            sa.Column("words", ARRAY(sa.String(collation="C")), nullable=False),
            sa.PrimaryKeyConstraint("owner", "kind", "key", "seq"),
        )
        operations.create_index(f"ix_{table}_number", table, ["number"])
        operations.create_index(
            f"ix_{table}_words", table, ["words"], postgresql_using="gin", postgresql_with={"fastupdate": "off"}
        )
