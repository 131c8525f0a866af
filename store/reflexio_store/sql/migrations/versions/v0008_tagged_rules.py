"""An index of the user playbooks that have tags: few have any, and each recall looks for those that are standing."""

from __future__ import annotations

import sqlalchemy as sa
from alembic.operations import Operations

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade(operations: Operations) -> None:
    """Make the index."""
    operations.create_index(
        "ix_reflexio_user_playbook_tagged",
        "reflexio_user_playbook",
        ["user_id"],
        sqlite_where=sa.text("tags <> '[]'"),
        postgresql_where=sa.text("tags <> '[]'"),
    )
