"""Full text on SQLite: FTS5 tables that stand for themselves, with the scope as indexed words of each document.

Columns: ``scope`` (digits: the scopes, and one word that names the document), ``head`` and ``body`` (words), and
unindexed what says which row it is. FTS5 stems the words (porter).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from sqlalchemy import Connection

from reflexio_store.sql.words import scope_token

from . import Document, DocumentKey, Hits, TextIndexName

_TABLES: Final[dict[TextIndexName, str]] = {
    "learning": "reflexio_learning_text",
    "interaction": "reflexio_interaction_text",
}
_CHUNK = 100


class SqliteText:
    """See :class:`~reflexio_store.sql.dialects.TextIndex`."""

    def put(self, connection: Connection, index: TextIndexName, documents: Iterable[Document]) -> None:
        """Add documents that are not in the index yet."""
        rows = [_row(document) for document in documents]
        if rows:
            sql = (
                f"INSERT INTO {_TABLES[index]}(scope, head, body, kind, owner, key, seq, size) "  # noqa: S608
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
            )
            connection.exec_driver_sql(sql, rows)

    def drop(self, connection: Connection, index: TextIndexName, keys: Iterable[DocumentKey]) -> None:
        """Remove all documents with the same kind, owner and key (whatever their ``seq``)."""
        table = _TABLES[index]
        owners: dict[tuple[str, str], list[str]] = defaultdict(list)
        for key in keys:
            owners[key.kind, key.owner].append(key.key)
        for (kind, owner), names in owners.items():
            for chunk in _chunks(list(dict.fromkeys(names))):
                marks = ", ".join("?" * len(chunk))
                connection.exec_driver_sql(
                    f"DELETE FROM {table} WHERE rowid IN (SELECT rowid FROM {table} "  # noqa: S608
                    f"WHERE {table} MATCH ? AND kind = ? AND owner = ? AND key IN ({marks}))",
                    (_any_scope([_name_token(kind, owner, name) for name in chunk]), kind, owner, *chunk),
                )

    def compact(self, connection: Connection, index: TextIndexName, *, pages: int) -> bool:
        """Rewrite about so many pages of the index (4 kB each), so that dropped words leave them; whether all is done.

        A merge with a negative number is an "optimize" in pieces; one that changes fewer than two rows found nothing to
        do (https://sqlite.org/fts5.html#the_merge_command).
        """
        table = _TABLES[index]
        for _ in range(2):
            before = connection.exec_driver_sql("SELECT total_changes()").scalar_one()
            connection.exec_driver_sql(f"INSERT INTO {table}({table}, rank) VALUES ('merge', ?)", (-pages,))  # noqa: S608
            if connection.exec_driver_sql("SELECT total_changes()").scalar_one() - before < 2:
                return True
        return False

    def count(self, connection: Connection, index: TextIndexName) -> int:
        """How many documents there are."""
        return int(connection.exec_driver_sql(f"SELECT count(*) FROM {_TABLES[index]}").scalar_one())  # noqa: S608

    def size(self, connection: Connection, index: TextIndexName, scopes: Sequence[str]) -> int:
        """How many documents are in any of the scopes."""
        table = _TABLES[index]
        sql = f"SELECT count(*) FROM {table} WHERE {table} MATCH ?"  # noqa: S608
        return int(connection.exec_driver_sql(sql, (_any_scope(scopes),)).scalar_one())

    def hits(
        self, connection: Connection, index: TextIndexName, scopes: Sequence[str], words: Sequence[str]
    ) -> list[Hits]:
        """For each word, where it occurs within the scopes: one statement, one part for each word and column."""
        table, scope = _TABLES[index], _any_scope(scopes)
        rows: list[set[int]] = [set() for _ in range(2 * len(words))]
        parts: list[str] = []
        matches: list[str] = []
        for place, column in enumerate(("head", "body")):
            for at, word in enumerate(words):
                parts.append(f"SELECT {2 * at + place}, rowid FROM {table} WHERE {table} MATCH ?")  # noqa: S608
                matches.append(f'({scope}) AND ({column} : "{word}")')
        for part, row in connection.exec_driver_sql(" UNION ALL ".join(parts), tuple(matches)).all():
            rows[part].add(row)
        return [Hits(frozenset(rows[2 * at]), frozenset(rows[2 * at + 1])) for at in range(len(words))]

    def documents(
        self, connection: Connection, index: TextIndexName, rows: Sequence[int]
    ) -> dict[int, tuple[DocumentKey, int]]:
        """Key and size of documents, by row number of the index."""
        found: dict[int, tuple[DocumentKey, int]] = {}
        for chunk in _chunks(rows):
            marks = ", ".join("?" * len(chunk))
            sql = (
                "SELECT rowid, kind, owner, key, seq, size "  # noqa: S608
                f"FROM {_TABLES[index]} WHERE rowid IN ({marks})"
            )
            for row, kind, owner, key, seq, size in connection.exec_driver_sql(sql, tuple(chunk)).all():
                found[row] = DocumentKey(kind, owner, key, seq), size
        return found

    def best_interactions(
        self,
        connection: Connection,
        user_id: str,
        scopes: Sequence[str],
        words: Sequence[str],
        *,
        window: tuple[int | None, int | None],
        limit: int,
    ) -> list[tuple[str, int]]:
        """``(request_id, seq)`` of the interactions that match best in all scopes; ``window`` in epoch seconds."""
        table = _TABLES["interaction"]
        scope = " AND ".join(f'(scope : "{token}")' for token in scopes)
        wanted = " OR ".join(f'"{word}"' for word in words)
        join, where, values = _within(window)
        sql = (
            f"SELECT t.key, t.seq FROM {table} AS t{join} "  # noqa: S608
            f"WHERE t.{table} MATCH ? AND t.owner = ?{where} "
            f"ORDER BY bm25({table}, 0, 2, 1), t.rowid DESC LIMIT ?"
        )
        arguments: tuple[Any, ...] = (f"{scope} AND ({{head body}} : ({wanted}))", user_id, *values, limit)
        return [(key, seq) for key, seq in connection.exec_driver_sql(sql, arguments)]


def _row(document: Document) -> tuple[Any, ...]:
    key = document.key
    scope = " ".join([*document.scopes, _name_token(key.kind, key.owner, key.key)])
    return scope, " ".join(document.head), " ".join(document.body), key.kind, key.owner, key.key, key.seq, document.size


def _name_token(kind: str, owner: str, key: str) -> str:
    return scope_token("name", kind, owner, key)


def _any_scope(scopes: Sequence[str]) -> str:
    return "scope : (" + " OR ".join(f'"{token}"' for token in scopes) + ")"


def _within(window: tuple[int | None, int | None]) -> tuple[str, str, list[int]]:
    if window == (None, None):
        return "", "", []
    join = " JOIN reflexio_interaction AS i ON i.user_id = t.owner AND i.request_id = t.key AND i.seq = t.seq"
    conditions = [(value, f" AND i.created_at {sign} ?") for value, sign in zip(window, (">=", "<"), strict=True)]
    values = [value for value, _ in conditions if value is not None]
    return join, "".join(text for value, text in conditions if value is not None), values


def _chunks(items: Sequence[Any]) -> Iterator[Sequence[Any]]:
    for start in range(0, len(items), _CHUNK):
        yield items[start : start + _CHUNK]
