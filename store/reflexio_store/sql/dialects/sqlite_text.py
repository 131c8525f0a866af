"""Full text on SQLite: FTS5 as a bare inverted index, which knows which row numbers hold a term and nothing else.

Nothing is stored twice: the words of a document stand in its row (:mod:`reflexio_store.sql.documents`), and are given
again to remove it. Without columns, positions and lengths the index takes a few bytes for each word.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import orjson
from sqlalchemy import Connection

from . import TextIndexName

_TABLES: Final[dict[TextIndexName, str]] = {
    "learning": "reflexio_learning_words",
    "interaction": "reflexio_interaction_words",
}


class SqliteText:
    """See :class:`~reflexio_store.sql.dialects.TextIndex`."""

    keeps_dropped = True

    def put(self, connection: Connection, index: TextIndexName, entries: Sequence[tuple[int, Sequence[str]]]) -> None:
        """Add documents, each with its different terms."""
        if entries:
            sql = f"INSERT INTO {_TABLES[index]}(rowid, words) VALUES (?, ?)"  # noqa: S608
            connection.exec_driver_sql(sql, [(row, " ".join(terms)) for row, terms in entries])

    def drop(self, connection: Connection, index: TextIndexName, entries: Sequence[tuple[int, Sequence[str]]]) -> None:
        """Remove documents, each named with the very terms it was put with."""
        if entries:
            table = _TABLES[index]
            sql = f"INSERT INTO {table}({table}, rowid, words) VALUES ('delete', ?, ?)"  # noqa: S608
            connection.exec_driver_sql(sql, [(row, " ".join(terms)) for row, terms in entries])

    def clear(self, connection: Connection, index: TextIndexName) -> None:
        """Remove all documents."""
        table = _TABLES[index]
        connection.exec_driver_sql(f"INSERT INTO {table}({table}) VALUES ('delete-all')")  # noqa: S608

    def compact(self, connection: Connection, index: TextIndexName, *, pages: int) -> bool:
        """Rewrite about so many pages of the index (4 kB each), so that dropped words leave them; whether all is done.

        A merge with a negative number is an "optimize" in pieces; one that changes fewer than two rows found nothing to
        do (https://sqlite.org/fts5.html#the_merge_command). A savepoint has FTS5 write what this transaction dropped,
        which older releases do not merge before.
        """
        table = _TABLES[index]
        connection.exec_driver_sql("SAVEPOINT reflexio_written")
        connection.exec_driver_sql("RELEASE reflexio_written")
        for _ in range(2):
            before = connection.exec_driver_sql("SELECT total_changes()").scalar_one()
            connection.exec_driver_sql(f"INSERT INTO {table}({table}, rank) VALUES ('merge', ?)", (-pages,))  # noqa: S608
            if connection.exec_driver_sql("SELECT total_changes()").scalar_one() - before < 2:
                return True
        return False

    def counts(self, connection: Connection, index: TextIndexName, terms: Sequence[str]) -> list[int]:
        """How many documents hold each term: FTS5 counts 50 a microsecond."""
        table = _TABLES[index]
        sql = (
            f"SELECT (SELECT count(*) FROM {table} WHERE {table} MATCH asked.value) "  # noqa: S608
            "FROM json_each(?) AS asked ORDER BY asked.key"
        )
        return [int(count) for (count,) in connection.exec_driver_sql(sql, (_quoted(terms),))]

    def rows(self, connection: Connection, index: TextIndexName, terms: Sequence[str], most: int) -> list[list[int]]:
        """The documents that hold each term: the ``most`` with the highest numbers."""
        table = _TABLES[index]
        sql = (
            "SELECT (SELECT json_group_array(rowid) FROM "  # noqa: S608
            f"(SELECT rowid FROM {table} WHERE {table} MATCH asked.value ORDER BY rowid DESC LIMIT ?)) "
            "FROM json_each(?) AS asked ORDER BY asked.key"
        )
        return [orjson.loads(found) for (found,) in connection.exec_driver_sql(sql, (most, _quoted(terms)))]


def _quoted(terms: Sequence[str]) -> str:
    return orjson.dumps([f'"{term}"' for term in terms]).decode()
