"""Irregular forms count as their words, and messages tell who says them and whether they ask.

The tables stay as they are; the full text is made anew after the migration (:mod:`reflexio_store.sql.indexing`).
"""

from __future__ import annotations

from alembic.operations import Operations

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade(operations: Operations) -> None:
    """Nothing of the tables changes."""
