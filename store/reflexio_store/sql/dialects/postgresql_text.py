"""Full text on PostgreSQL: a GIN index over arrays of literal words, scopes among them.

A word is stored with the letter of its field (``h`` head, ``b`` body), a scope with ``s``; nothing is stemmed or
parsed by the server. A tsvector would do the same, but holds no more than a megabyte.
"""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, Final

from sqlalchemy import Connection

from . import Document, DocumentKey, Hits, TextIndexName

_TABLES: Final[dict[TextIndexName, str]] = {
    "learning": "reflexio_learning_text",
    "interaction": "reflexio_interaction_text",
}
_K1, _B = 1.2, 0.75
_HEAD_WEIGHT, _BODY_WEIGHT = 2.0, 1.0


class PostgresqlText:
    """See :class:`~reflexio_store.sql.dialects.TextIndex`."""

    def put(self, connection: Connection, index: TextIndexName, documents: Iterable[Document]) -> None:
        """Add documents that are not in the index yet."""
        rows = [_row(document) for document in documents]
        if rows:
            sql = (
                f"INSERT INTO {_TABLES[index]} (owner, kind, key, seq, number, size, words) "  # noqa: S608
                "VALUES (%s, %s, %s, %s, %s, %s, %s)"
            )
            connection.exec_driver_sql(sql, rows)

    def drop(self, connection: Connection, index: TextIndexName, keys: Iterable[DocumentKey]) -> None:
        """Remove all documents with the same kind, owner and key (whatever their ``seq``)."""
        owners: dict[tuple[str, str], set[str]] = defaultdict(set)
        for key in keys:
            owners[key.owner, key.kind].add(key.key)
        sql = f"DELETE FROM {_TABLES[index]} WHERE owner = %s AND kind = %s AND key = ANY(%s)"  # noqa: S608
        for (owner, kind), names in owners.items():
            connection.exec_driver_sql(sql, (owner, kind, sorted(names)))

    def compact(self, connection: Connection, index: TextIndexName, *, pages: int) -> bool:  # noqa: ARG002
        """Nothing: (auto)vacuum takes dropped rows out of the pages, and cannot run inside a transaction."""
        return True

    def count(self, connection: Connection, index: TextIndexName) -> int:
        """How many documents there are."""
        return int(connection.exec_driver_sql(f"SELECT count(*) FROM {_TABLES[index]}").scalar_one())  # noqa: S608

    def size(self, connection: Connection, index: TextIndexName, scopes: Sequence[str]) -> int:
        """How many documents are in any of the scopes."""
        sql = f"SELECT count(*) FROM {_TABLES[index]} WHERE words && %s"  # noqa: S608
        return int(connection.exec_driver_sql(sql, (_scope_words(scopes),)).scalar_one())

    def hits(
        self, connection: Connection, index: TextIndexName, scopes: Sequence[str], words: Sequence[str]
    ) -> list[Hits]:
        """For each word, where it occurs within the scopes: one statement, one look at the index for each of them."""
        return self._hits(connection, index, [[scope] for scope in _scope_words(scopes)], words)

    def _hits(
        self, connection: Connection, index: TextIndexName, scopes: Sequence[Sequence[str]], words: Sequence[str]
    ) -> list[Hits]:
        """The same within scopes that are each several words at once."""
        rows: list[set[int]] = [set() for _ in range(2 * len(words))]
        looks = [
            (2 * at + place, [f"{letter}{word}", *scope])
            for at, word in enumerate(words)
            for place, letter in enumerate("hb")
            for scope in scopes
        ]
        part = f"SELECT %s::int, number FROM {_TABLES[index]} WHERE words @> %s"  # noqa: S608
        values = tuple(value for look in looks for value in look)
        for at, row in connection.exec_driver_sql(" UNION ALL ".join([part] * len(looks)), values):
            rows[at].add(row)
        return [Hits(frozenset(rows[2 * at]), frozenset(rows[2 * at + 1])) for at in range(len(words))]

    def documents(
        self, connection: Connection, index: TextIndexName, rows: Sequence[int]
    ) -> dict[int, tuple[DocumentKey, int]]:
        """Key and size of documents, by row number of the index."""
        sql = f"SELECT number, kind, owner, key, seq, size FROM {_TABLES[index]} WHERE number = ANY(%s)"  # noqa: S608
        found = connection.exec_driver_sql(sql, (list(rows),))
        return {row: (DocumentKey(kind, owner, key, seq), size) for row, kind, owner, key, seq, size in found}

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
        within = _scope_words(scopes)
        hits = self._hits(connection, "interaction", [within], words)
        rows = sorted(frozenset().union(*(hit.head | hit.body for hit in hits)))
        join, where, values = _within(window)
        sql = (
            "SELECT t.number, t.key, t.seq, t.size FROM reflexio_interaction_text AS t"  # noqa: S608
            f"{join} WHERE t.number = ANY(%s) AND t.owner = %s{where}"
        )
        found = connection.exec_driver_sql(sql, (rows, user_id, *values)).all()
        counted = connection.exec_driver_sql(
            "SELECT count(*), avg(size)::float FROM reflexio_interaction_text WHERE words @> %s", (within,)
        ).one()
        scores = _scores(hits, {row: size for row, _, _, size in found}, *counted)
        best = sorted(found, key=lambda item: (-scores[item[0]], item[1], item[2]))
        return [(key, seq) for _, key, seq, _ in best[:limit]]


def _scores(hits: Sequence[Hits], sizes: dict[int, int], documents: int, mean: float | None) -> dict[int, float]:
    """BM25 of documents, by row."""
    scores: dict[int, float] = defaultdict(float)
    for hit in hits:
        often = len(hit.head | hit.body)
        rarity = math.log(1 + (documents - often + 0.5) / (often + 0.5))
        for row in (hit.head | hit.body) & sizes.keys():
            weight = _HEAD_WEIGHT * (row in hit.head) + _BODY_WEIGHT * (row in hit.body)
            norm = _K1 * (1 - _B + _B * sizes[row] / (mean or 1.0))
            scores[row] += rarity * weight * (_K1 + 1) / (weight + norm)
    return scores


def _row(document: Document) -> tuple[Any, ...]:
    key = document.key
    words = {*_scope_words(document.scopes), *(f"h{word}" for word in document.head)}
    words |= {f"b{word}" for word in document.body}
    return key.owner, key.kind, key.key, key.seq, _number(key), document.size, sorted(words)


def _number(key: DocumentKey) -> int:
    """A number for a document that no sequence has to give. Should two share one, the real columns tell them apart."""
    name = "\x1f".join((key.kind, key.owner, key.key, str(key.seq)))
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big", signed=True)


def _scope_words(scopes: Iterable[str]) -> list[str]:
    return [f"s{scope}" for scope in scopes]


def _within(window: tuple[int | None, int | None]) -> tuple[str, str, list[int]]:
    if window == (None, None):
        return "", "", []
    join = " JOIN reflexio_interaction AS i ON i.user_id = t.owner AND i.request_id = t.key AND i.seq = t.seq"
    conditions = [(value, f" AND i.created_at {sign} %s") for value, sign in zip(window, (">=", "<"), strict=True)]
    values = [value for value, _ in conditions if value is not None]
    return join, "".join(text for value, text in conditions if value is not None), values
