"""Indexes of the rules that have tags and of the requests that are not to be shared from; users held without a name.

Afterwards the full text is made anew (:mod:`reflexio_store.sql.indexing`): irregular forms count as their words, and
messages tell who says them and whether they ask.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic.operations import Operations

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade(operations: Operations) -> None:
    """Make the indexes, and empty the table of holds, which only PostgreSQL has: its rows are made where needed."""
    operations.create_index(
        "ix_reflexio_request_private",
        "reflexio_request",
        ["user_id", "request_id"],
        sqlite_where=sa.text("json_extract(options, '$.skip_aggregation') = 1"),
        postgresql_where=sa.text("(options ->> 'skip_aggregation') = 'true'"),
    )
    operations.create_index(
        "ix_reflexio_user_playbook_tagged",
        "reflexio_user_playbook",
        ["user_id"],
        sqlite_where=sa.text("tags <> '[]'"),
        postgresql_where=sa.text("tags <> '[]'"),
    )
    if operations.get_context().dialect.name == "postgresql":
        operations.execute("DELETE FROM reflexio_hold")
