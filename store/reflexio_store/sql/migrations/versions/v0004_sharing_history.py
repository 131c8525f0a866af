"""What agent playbooks rest on, the history of learnings, what was erased, and who wants to be left alone."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic.operations import Operations

from reflexio_store.sql.column_types import TEXT

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade(operations: Operations) -> None:
    """Make the tables, and the two columns of agent playbooks (which were all added by hand so far)."""
    for column in (sa.Column("needs", sa.Integer(), nullable=False, server_default="0"),
                   sa.Column("wording", TEXT, nullable=False, server_default=sa.text("''"))):  # fmt: skip
        operations.add_column("reflexio_agent_playbook", column)
    operations.create_table(
        "reflexio_support",
        *(_text("agent_version"), _big("agent_playbook_id"), _text("user_id"), _big("user_playbook_id")),
        _text("sameness"),
        sa.PrimaryKeyConstraint("agent_version", "agent_playbook_id", "user_id", "user_playbook_id"),
    )
    operations.create_table(
        "reflexio_history",
        *(_text("user_id"), _text("entry_id"), _big("at_us"), _text("kind"), _text("learning_id"), _text("action")),
        *(_text("content"), _text("other_id"), _text("request_id")),
        sa.PrimaryKeyConstraint("user_id", "entry_id"),
    )
    operations.create_table("reflexio_erased", _text("digest"), _big("at_us"), sa.PrimaryKeyConstraint("digest"))
    operations.create_table("reflexio_opt_out", _text("user_id"), _big("at_us"), sa.PrimaryKeyConstraint("user_id"))
    operations.create_index("ix_reflexio_support_user", "reflexio_support", ["user_id", "user_playbook_id"])
    operations.create_index("ix_reflexio_history_learning", "reflexio_history", ["user_id", "kind", "learning_id"])
    operations.create_index("ix_reflexio_history_request", "reflexio_history", ["user_id", "request_id"])


def _text(name: str) -> sa.Column[Any]:
    return sa.Column(name, TEXT, nullable=False)


def _big(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.BigInteger(), nullable=False, autoincrement=False)
