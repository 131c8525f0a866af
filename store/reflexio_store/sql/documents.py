"""The documents of the full text: which row each stands for, its words, and in which scopes it may be found.

They are the same on every database; only the inverted index beneath (:class:`.dialects.TextIndex`) is not. A document
is dropped from it with the very words it was put with, so these stay in its row.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, RowMapping, and_, delete, insert, select

from reflexio_store.ids import new_document_number

from .column_types import listed
from .compaction import owe
from .dialects import Dialect, TextIndexName
from .part import chunks
from .tables import DOCUMENT, SCOPE
from .vectors import drop_vectors
from .words import terms_of

INTERACTION_KIND: Final = "interaction"
_d = DOCUMENT.c


@dataclass(frozen=True, slots=True)
class DocumentKey:
    """Which row a document stands for. ``owner`` is its user_id (its agent_version, for an agent playbook)."""

    kind: str
    owner: str
    key: str
    seq: int = 0


@dataclass(frozen=True, slots=True)
class Document:
    """What the full text holds of one row: its words, and the scopes in which they may be found.

    ``head`` has a learning's trigger, and of a message who says it and whether it asks
    (:func:`~.words.manner_words`). ``size`` is the number of different words, as a query would count them.
    """

    key: DocumentKey
    scopes: tuple[str, ...]
    head: Sequence[str]
    body: Sequence[str]
    size: int


class Stored(NamedTuple):
    """A document read back. ``head`` and ``body`` are its words, with a space before and after each."""

    row: int
    owner: str
    kind: str
    key: str
    seq: int
    head: str
    body: str
    size: int


@dataclass(frozen=True, slots=True)
class Statistics:
    """How many documents a scope has, and how many words all together."""

    documents: int = 0
    words: int = 0


def put_documents(connection: Connection, dialect: Dialect, documents: Iterable[Document]) -> None:
    """Add documents that are not there yet."""
    rows = [_row(document) for document in documents]
    if rows:
        connection.execute(insert(DOCUMENT), rows)
        _each_index(connection, dialect.text.put, rows)
        _tally(connection, dialect, rows, 1)


def drop_documents(
    connection: Connection, dialect: Dialect, keys: Iterable[DocumentKey], *, for_good: bool = True
) -> None:
    """Remove all documents with the same kind, owner and key (whatever their ``seq``).

    ``for_good``: their words shall leave the pages of the index, too, for they are not put into it again.
    """
    names: dict[tuple[str, str], dict[str, None]] = {}
    for key in keys:
        names.setdefault((key.owner, key.kind), {})[key.key] = None
    for (owner, kind), ids in names.items():
        for part in chunks(list(ids)):
            which = and_(_d.owner == owner, _d.kind == kind, _d.key.in_(part))
            rows = connection.execute(select(DOCUMENT).where(which)).mappings().all()
            if rows:
                _each_index(connection, dialect.text.drop, rows)
                _tally(connection, dialect, rows, -1)
                connection.execute(delete(DOCUMENT).where(which))  # waits for whoever keeps vectors of them
                drop_vectors(connection, owner, kind, [row["row"] for row in rows])
                if for_good:
                    owe(connection, dialect, _index_of(kind))


def read_documents(connection: Connection, rows: Iterable[int]) -> dict[int, Stored]:
    """Documents by their numbers."""
    found = connection.execute(_BY_ROW, {"rows": list(rows)}).all()
    return {row[0]: stored(row) for row in found}


def stored(row: Any) -> Stored:
    """The document that a row of :data:`COLUMNS` is."""
    number, owner, kind, key, seq, head, body, size = row
    return Stored(number, owner, kind, key, seq, f" {head} ", f" {body} ", size)


def statistics(connection: Connection, scopes: Sequence[str]) -> dict[str, Statistics]:
    """The statistics of some scopes; those that hold nothing are left out."""
    found = connection.execute(_BY_SCOPE, {"scopes": scopes})
    return {scope: Statistics(documents, words) for scope, documents, words in found}


COLUMNS: Final = (_d.row, _d.owner, _d.kind, _d.key, _d.seq, _d.head, _d.body, _d.size)
_BY_ROW: Final = select(*COLUMNS).where(listed(_d.row, "rows"))
_BY_SCOPE: Final = select(SCOPE).where(listed(SCOPE.c.scope, "scopes"))


def _row(document: Document) -> dict[str, Any]:
    key = document.key
    return {
        "owner": key.owner,
        "kind": key.kind,
        "key": key.key,
        "seq": key.seq,
        "row": new_document_number(),
        "scopes": " ".join(document.scopes),
        "head": " ".join(dict.fromkeys(document.head)),
        "body": " ".join(dict.fromkeys(document.body)),
        "size": document.size,
        "embedded": "",
    }


def _each_index(connection: Connection, act: Any, rows: Sequence[dict[str, Any] | RowMapping]) -> None:
    entries: dict[TextIndexName, list[tuple[int, list[str]]]] = {"learning": [], "interaction": []}
    for row in rows:
        words = dict.fromkeys([*row["head"].split(), *row["body"].split()])
        entries[_index_of(row["kind"])].append((row["row"], terms_of(row["scopes"].split(), words)))
    for name, found in entries.items():
        act(connection, name, found)


def _index_of(kind: str) -> TextIndexName:
    return "interaction" if kind == INTERACTION_KIND else "learning"


def _tally(connection: Connection, dialect: Dialect, rows: Sequence[dict[str, Any] | RowMapping], sign: int) -> None:
    """Keep the statistics of the scopes; a scope that holds nothing leaves nothing behind."""
    documents: Counter[str] = Counter()
    words: Counter[str] = Counter()
    for row in rows:
        for scope in row["scopes"].split():
            documents[scope] += sign
            words[scope] += sign * row["size"]
    values = [{"scope": scope, "documents": count, "words": words[scope]} for scope, count in sorted(documents.items())]
    statement = dialect.insert(SCOPE)
    new, old = statement.excluded, SCOPE.c
    changed = {"documents": old.documents + new.documents, "words": old.words + new.words}
    connection.execute(statement.on_conflict_do_update(index_elements=[old.scope], set_=changed), values)
    if sign < 0:
        gone = and_(old.scope.in_(list(documents)), old.documents <= 0)
        connection.execute(delete(SCOPE).where(gone))
