"""The record of use: which learnings were shown to which turn, and how sessions ended."""

from __future__ import annotations

import sqlalchemy as sa
from alembic.operations import Operations

from reflexio_store.sql.column_types import JSON, TEXT

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade(operations: Operations) -> None:
    """Make the tables, and the index by which experiments are read."""
    operations.create_table(
        "reflexio_shown",
        sa.Column("user_id", TEXT, nullable=False),
        sa.Column("request_id", TEXT, nullable=False),
        sa.Column("kind", TEXT, nullable=False),
        sa.Column("learning_id", TEXT, nullable=False),
        sa.Column("cited", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("user_id", "request_id", "kind", "learning_id"),
        sa.ForeignKeyConstraint(
            ["user_id", "request_id"],
            ["reflexio_request.user_id", "reflexio_request.request_id"],
            ondelete="CASCADE",
        ),
    )
    operations.create_index("ix_reflexio_shown_learning", "reflexio_shown", ["kind", "learning_id"])
    operations.create_table(
        "reflexio_session_outcome",
        sa.Column("user_id", TEXT, nullable=False),
        sa.Column("session_id", TEXT, nullable=False),
        sa.Column("outcome", TEXT, nullable=False),
        sa.Column("occurred_at", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("source", TEXT, nullable=False),
        sa.Column("label", TEXT, nullable=True),
        sa.Column("value", sa.Float(), nullable=True),
        sa.Column("details", JSON, nullable=True),
        sa.PrimaryKeyConstraint("user_id", "session_id"),
    )
    operations.create_index(
        "ix_reflexio_request_experiment",
        "reflexio_request",
        ["retrieval_experiment_id"],
        sqlite_where=sa.text("retrieval_experiment_id IS NOT NULL"),
        postgresql_where=sa.text("retrieval_experiment_id IS NOT NULL"),
    )
