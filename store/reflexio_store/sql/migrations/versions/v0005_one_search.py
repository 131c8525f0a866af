"""Documents of their own, with their words, the statistics of each scope, and vectors; SQLite indexes terms alone.

Words are stemmed before they are indexed, so FTS5's own ``porter`` goes. The index is derived from the record: it is
made anew after the migration (:mod:`reflexio_store.sql.indexing`).
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic.operations import Operations
from sqlalchemy.dialects.postgresql import ARRAY

from reflexio_store.sql.column_types import TEXT

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade(operations: Operations) -> None:
    """Make the tables; what the old index held is found in the record."""
    operations.create_table(
        "reflexio_document",
        *(_text("owner"), _text("kind"), _text("key"), _number("seq", sa.Integer), _number("row", sa.BigInteger)),
        *(_text("scopes"), _text("head"), _text("body"), _number("size", sa.Integer), _text("embedded")),
        sa.PrimaryKeyConstraint("owner", "kind", "key", "seq"),
    )
    operations.create_index("ix_reflexio_document_row", "reflexio_document", ["row"], unique=True)
    operations.create_index("ix_reflexio_document_embedded", "reflexio_document", ["kind", "embedded", "row"])
    operations.create_table(
        "reflexio_scope",
        *(_text("scope"), _number("documents", sa.BigInteger), _number("words", sa.BigInteger)),
        sa.PrimaryKeyConstraint("scope"),
    )
    operations.create_table(
        "reflexio_vector",
        *(_text("owner"), _text("kind"), _number("row", sa.BigInteger), _text("model")),
        sa.Column("vector", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("owner", "kind", "row"),
    )
    operations.create_table(
        "reflexio_vectors",
        *(_text("owner"), _text("kind"), _number("version", sa.BigInteger)),
        sa.PrimaryKeyConstraint("owner", "kind"),
    )
    if operations.get_context().dialect.name == "sqlite":
        _sqlite_full_text(operations)
    else:
        _postgresql_full_text(operations)


def _text(name: str) -> sa.Column[Any]:
    return sa.Column(name, TEXT, nullable=False)


def _number(name: str, kind: type[sa.Integer]) -> sa.Column[Any]:
    return sa.Column(name, kind(), nullable=False, autoincrement=False)


def _sqlite_full_text(operations: Operations) -> None:
    for name in ("learning", "interaction"):
        operations.execute(f"DROP TABLE reflexio_{name}_text")
        operations.execute(
            f"CREATE VIRTUAL TABLE reflexio_{name}_words USING fts5("
            "words, content = '', columnsize = 0, detail = none, tokenize = 'ascii')"
        )


def _postgresql_full_text(operations: Operations) -> None:
    for name in ("learning", "interaction"):
        operations.drop_table(f"reflexio_{name}_text")
        table = f"reflexio_{name}_words"
        operations.create_table(
            table,
            _number("number", sa.BigInteger),
            sa.Column("words", ARRAY(sa.String(collation="C")), nullable=False),
            sa.PrimaryKeyConstraint("number"),
        )
        operations.create_index(
            f"ix_{table}", table, ["words"], postgresql_using="gin", postgresql_with={"fastupdate": "off"}
        )
