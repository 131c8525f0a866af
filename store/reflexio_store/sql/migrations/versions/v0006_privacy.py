"""Users are held by a digest of their name; and the requests that are not to be shared from are found by an index."""

from __future__ import annotations

import sqlalchemy as sa
from alembic.operations import Operations

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade(operations: Operations) -> None:
    """Empty the table of holds, which only PostgreSQL has: its rows are made where they are needed."""
    operations.create_index(
        "ix_reflexio_request_private",
        "reflexio_request",
        ["user_id", "request_id"],
        sqlite_where=sa.text("json_extract(options, '$.skip_aggregation') = 1"),
        postgresql_where=sa.text("(options ->> 'skip_aggregation') = 'true'"),
    )
    if operations.get_context().dialect.name == "postgresql":
        operations.execute("DELETE FROM reflexio_hold")
