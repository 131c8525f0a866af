"""What waits to be learned from, what learning cost, and an index of the jobs that were given up."""

from __future__ import annotations

import sqlalchemy as sa
from alembic.operations import Operations

from reflexio_store.sql.column_types import TEXT

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_WAITING = """
INSERT INTO reflexio_unlearned (user_id, session_id, extractor, request_id, interactions, forced)
SELECT r.user_id, r.session_id, '', r.request_id,
       (SELECT count(*) FROM reflexio_interaction i WHERE i.user_id = r.user_id AND i.request_id = r.request_id),
       (1 = 0)
FROM reflexio_request r
JOIN reflexio_job j ON j.user_id = r.user_id AND j.kind = 'learn' AND j.key = r.session_id
WHERE j.state <> 'done'
"""


def upgrade(operations: Operations) -> None:
    """Make the tables; turns of sessions whose job is open wait to be learned from."""
    operations.create_table(
        "reflexio_unlearned",
        *(sa.Column(name, TEXT, nullable=False) for name in ("user_id", "session_id", "extractor")),
        sa.Column("request_id", TEXT, nullable=False),
        sa.Column("interactions", sa.Integer(), nullable=False),
        sa.Column("forced", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("user_id", "session_id", "extractor", "request_id"),
    )
    operations.create_table(
        "reflexio_usage",
        *(sa.Column(name, TEXT, nullable=False) for name in ("user_id", "day", "extractor", "model")),
        *(
            sa.Column(name, sa.BigInteger(), nullable=False, autoincrement=False)
            for name in ("calls", "prompt_tokens", "completion_tokens", "cost_micros")
        ),
        sa.PrimaryKeyConstraint("user_id", "day", "extractor", "model"),
    )
    operations.create_index("ix_reflexio_usage_day", "reflexio_usage", ["day"])
    dead = sa.text("state = 'dead'")
    operations.create_index(
        "ix_reflexio_job_dead", "reflexio_job", ["kind", "due_us"], sqlite_where=dead, postgresql_where=dead
    )
    operations.execute(_WAITING)
