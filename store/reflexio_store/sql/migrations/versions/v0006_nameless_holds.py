"""Users are held by a digest of their name: the names that stood in that table until now go."""

from __future__ import annotations

from alembic.operations import Operations

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade(operations: Operations) -> None:
    """Empty the table, which only PostgreSQL has; its rows are made where they are needed."""
    if operations.get_context().dialect.name == "postgresql":
        operations.execute("DELETE FROM reflexio_hold")
