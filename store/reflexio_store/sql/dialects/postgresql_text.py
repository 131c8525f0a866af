"""Full text on PostgreSQL: a GIN index over arrays of terms; nothing is stemmed, parsed or ranked by the server.

A tsvector would do the same, but holds no more than a megabyte.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sqlalchemy import Connection

from . import TextIndexName

_TABLES: Final[dict[TextIndexName, str]] = {
    "learning": "reflexio_learning_words",
    "interaction": "reflexio_interaction_words",
}


class PostgresqlText:
    """See :class:`~reflexio_store.sql.dialects.TextIndex`."""

    keeps_dropped = False

    def put(self, connection: Connection, index: TextIndexName, entries: Sequence[tuple[int, Sequence[str]]]) -> None:
        """Add documents, each with its different terms."""
        if entries:
            sql = f"INSERT INTO {_TABLES[index]} (number, words) VALUES (%s, %s)"  # noqa: S608
            connection.exec_driver_sql(sql, [(row, list(terms)) for row, terms in entries])

    def drop(self, connection: Connection, index: TextIndexName, entries: Sequence[tuple[int, Sequence[str]]]) -> None:
        """Remove documents."""
        if entries:
            sql = f"DELETE FROM {_TABLES[index]} WHERE number = ANY(%s)"  # noqa: S608
            connection.exec_driver_sql(sql, ([row for row, _ in entries],))

    def clear(self, connection: Connection, index: TextIndexName) -> None:
        """Remove all documents."""
        connection.exec_driver_sql(f"DELETE FROM {_TABLES[index]}")  # noqa: S608

    def compact(self, connection: Connection, index: TextIndexName, *, pages: int) -> bool:  # noqa: ARG002
        """Nothing: (auto)vacuum takes dropped rows out of the pages, and cannot run inside a transaction."""
        return True

    def counts(self, connection: Connection, index: TextIndexName, terms: Sequence[str]) -> list[int]:
        """How many documents hold each term."""
        sql = (
            f"SELECT (SELECT count(*) FROM {_TABLES[index]} WHERE words @> ARRAY[asked.term]) "  # noqa: S608
            "FROM unnest(%s::varchar[]) WITH ORDINALITY AS asked(term, at) ORDER BY asked.at"
        )
        return [int(count) for (count,) in connection.exec_driver_sql(sql, (list(terms),))]

    def rows(self, connection: Connection, index: TextIndexName, terms: Sequence[str], most: int) -> list[list[int]]:
        """The documents that hold each term: the ``most`` with the highest numbers.

        The order is by an expression, so that no plan walks through the numbers of all users instead of the term.
        """
        table = _TABLES[index]
        sql = (
            f"SELECT ARRAY(SELECT number FROM {table} WHERE words @> ARRAY[asked.term] "  # noqa: S608
            "ORDER BY number + 0 DESC LIMIT %s) "
            "FROM unnest(%s::varchar[]) WITH ORDINALITY AS asked(term, at) ORDER BY asked.at"
        )
        return [list(found) for (found,) in connection.exec_driver_sql(sql, (most, list(terms)))]
