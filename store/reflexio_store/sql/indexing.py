"""Making documents of the record: learnings when they are written, messages when somebody is about to search them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Final

from sqlalchemy import ColumnElement, Connection, RowMapping, and_, delete, false, func, select, update

from .database import retried
from .dialects import INDEXES, Dialect
from .documents import INTERACTION_KIND, Document, DocumentKey, put_documents
from .kinds import KINDS
from .part import Part, chunks
from .tables import DOCUMENT, INTERACTION, REQUEST, SCOPE, VECTOR, VECTORS
from .words import index_words, manner_words, scope_token

REQUESTS_AT_ONCE: Final = 200
"""Requests that are indexed in one transaction: some 50 ms, in which nobody else writes."""

MOST_AT_ONCE: Final = 1_000
"""Requests that a search indexes at most before it answers; the rest follows in the background or later searches."""


class Indexing(Part):
    """The part of a home that brings the full text up to what was stored."""

    def index_interactions(self, *, user_id: str | None = None, limit: int = MOST_AT_ONCE) -> int:
        """Make what was said findable, the newest first, at most ``limit`` requests; how many were indexed."""
        newest = select(REQUEST.c.user_id, REQUEST.c.request_id).where(_waiting(user_id))
        newest = newest.order_by(REQUEST.c.created_at_us.desc(), REQUEST.c.request_id.desc()).limit(limit)
        by_user: dict[str, list[str]] = defaultdict(list)
        with self._database.read() as connection:
            for name, request_id in connection.execute(newest):
                by_user[name].append(request_id)
        for name, request_ids in by_user.items():
            for part in chunks(request_ids, REQUESTS_AT_ONCE):
                self._index(name, part)
        return sum(map(len, by_user.values()))

    def unindexed(self, *, user_id: str | None = None) -> int:
        """How many requests have no documents yet; at most 1,001 are counted."""
        some = select(REQUEST.c.request_id).where(_waiting(user_id)).limit(MOST_AT_ONCE + 1).subquery()
        with self._database.read() as connection:
            return connection.execute(select(func.count()).select_from(some)).scalar_one()

    def index_backlog(self) -> int:
        """Index a few requests of a backlog that no search could index at once; see the contract."""
        return self.index_interactions(limit=REQUESTS_AT_ONCE) if self.unindexed() > MOST_AT_ONCE else 0

    @retried
    def _index(self, user_id: str, request_ids: Sequence[str]) -> None:
        with self._database.write() as connection:
            self._database.dialect.hold(connection, [user_id])
            index_requests(connection, self._database.dialect, user_id, request_ids)


def _waiting(user_id: str | None) -> ColumnElement[bool]:
    waiting = REQUEST.c.text_indexed == false()
    return waiting if user_id is None else and_(REQUEST.c.user_id == user_id, waiting)


def interaction_scope(user_id: str) -> str:
    """The scope of all messages of a user."""
    return scope_token(INTERACTION_KIND, user_id)


def document_keys(user_id: str, request_ids: Iterable[str]) -> list[DocumentKey]:
    """The keys of the documents of requests."""
    return [DocumentKey(INTERACTION_KIND, user_id, request_id) for request_id in request_ids]


def index_requests(connection: Connection, dialect: Dialect, user_id: str, request_ids: Sequence[str]) -> None:
    """Make documents of the messages of requests that have none yet."""
    waiting = and_(
        REQUEST.c.user_id == user_id, REQUEST.c.request_id.in_(request_ids), REQUEST.c.text_indexed == false()
    )
    names = connection.execute(select(REQUEST.c.request_id).where(waiting)).scalars().all()
    theirs = and_(INTERACTION.c.user_id == user_id, INTERACTION.c.request_id.in_(names))
    in_time = (INTERACTION.c.created_at, INTERACTION.c.request_id, INTERACTION.c.seq)
    rows = connection.execute(select(INTERACTION).where(theirs).order_by(*in_time)).mappings()
    put_documents(connection, dialect, (_document(row) for row in rows))
    connection.execute(update(REQUEST).where(waiting).values(text_indexed=True))


def index_again(connection: Connection, dialect: Dialect) -> None:
    """Make all documents anew, with the words of this release: learnings now, messages when they are searched."""
    for index in INDEXES:
        dialect.text.clear(connection, index)
    for table in (DOCUMENT, SCOPE, VECTOR, VECTORS):
        connection.execute(delete(table))
    for kind in KINDS.values():
        for rows in connection.execute(select(kind.table)).mappings().partitions(1000):
            put_documents(connection, dialect, [kind.document(row) for row in rows])
    connection.execute(update(REQUEST).values(text_indexed=False))


def _document(row: RowMapping) -> Document:
    tools = " ".join(str(tool.get("tool_name", "")) for tool in row["tools_used"] or ())
    said = " ".join([row["content"], row["user_action_description"], row["expert_content"], tools])
    words = list(dict.fromkeys(index_words(said)))
    key = DocumentKey(INTERACTION_KIND, row["user_id"], row["request_id"], row["seq"])
    manner = manner_words(row["role"], row["content"])
    return Document(key, (interaction_scope(row["user_id"]),), manner, words, len(words))
