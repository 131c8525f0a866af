"""Reading and searching single interactions of one user."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from sqlalchemy import ColumnElement, Connection, RowMapping, and_, false, select, tuple_, update

from reflexio_store.models import GetInteractionsRequest, Interaction, SearchInteractionRequest

from .database import retried
from .dialects import Document, DocumentKey
from .part import Part, among, chunks, seconds_from
from .rows import interaction_value
from .tables import INTERACTION, REQUEST
from .words import index_words, query_words, scope_token

KIND = "interaction"
_MOST = 100
_REQUESTS_AT_ONCE = 200  # requests that are indexed in one transaction
_c = INTERACTION.c


class Interactions(Part):
    """The part of a home that finds interactions."""

    def get_interactions(self, query: GetInteractionsRequest) -> list[Interaction]:
        """Interactions of one user, newest first (at most 100 where ``top_k`` is None); those of all users go by the
        time of their requests."""
        limit = query.top_k or _MOST
        with self._database.read() as connection:
            if query.user_id is None:
                return _newest_of_all(connection, _window(query), limit)
            return _newest(connection, [_c.user_id == query.user_id, *_window(query)], limit)

    def search_interactions(self, query: SearchInteractionRequest) -> list[Interaction]:
        """Interactions of one user that match, best first. What was stored before the call is found.

        Without a query the ``most_recent_k`` newest are given; with neither, nothing.
        """
        if query.query is None or not query.query.strip():
            if query.most_recent_k is None:
                return []
            which = [_c.user_id == query.user_id, *_window(query)]
            if query.request_id is not None:
                which.append(_c.request_id == query.request_id)
            with self._database.read() as connection:
                return _newest(connection, which, query.most_recent_k)
        words = query_words(query.query)
        if not words:
            return []
        self._index_what_is_not(query.user_id)
        scopes = [scope_token(KIND, query.user_id)]
        if query.request_id is not None:
            scopes.append(scope_token(KIND, query.user_id, query.request_id))
        with self._database.read() as connection:
            found = self._database.dialect.text.best_interactions(
                connection,
                query.user_id,
                scopes,
                words,
                window=(seconds_from(query.start_time), seconds_from(query.end_time)),
                limit=query.top_k or _MOST,
            )
            return _in_order(connection, query.user_id, found)

    def _index_what_is_not(self, user_id: str) -> None:
        """Bring the full text up to what was stored when this began, a bounded piece at a time."""
        waiting = and_(REQUEST.c.user_id == user_id, REQUEST.c.text_indexed == false())
        with self._database.read() as connection:
            names = connection.execute(select(REQUEST.c.request_id).where(waiting)).scalars().all()
        for part in chunks(names, _REQUESTS_AT_ONCE):
            self._index(user_id, part)

    @retried
    def _index(self, user_id: str, request_ids: Sequence[str]) -> None:
        with self._database.write() as connection:
            self._database.dialect.hold(connection, [user_id])
            which = and_(
                REQUEST.c.user_id == user_id, REQUEST.c.request_id.in_(request_ids), REQUEST.c.text_indexed == false()
            )
            names = connection.execute(select(REQUEST.c.request_id).where(which)).scalars().all()
            rows = connection.execute(select(INTERACTION).where(_c.user_id == user_id, _c.request_id.in_(names)))
            self._database.dialect.text.put(connection, "interaction", (_document(row) for row in rows.mappings()))
            connection.execute(update(REQUEST).where(which).values(text_indexed=True))


def document_keys(user_id: str, request_ids: Iterable[str]) -> list[DocumentKey]:
    """The keys of the documents of requests in the full-text index."""
    return [DocumentKey(KIND, user_id, request_id) for request_id in request_ids]


def _document(row: RowMapping) -> Document:
    tools = " ".join(str(tool.get("tool_name", "")) for tool in row["tools_used"] or ())
    user_id, request_id = row["user_id"], row["request_id"]
    words = index_words(" ".join([row["content"], row["user_action_description"], row["expert_content"], tools]))
    return Document(
        DocumentKey(KIND, user_id, request_id, row["seq"]),
        (scope_token(KIND, user_id), scope_token(KIND, user_id, request_id)),
        head=(),
        body=words,
        size=len(words),
    )


def _window(query: GetInteractionsRequest | SearchInteractionRequest) -> list[ColumnElement[bool]]:
    start, end = seconds_from(query.start_time), seconds_from(query.end_time)
    window = [] if start is None else [_c.created_at >= start]
    return window if end is None else [*window, _c.created_at < end]


def _newest(connection: Connection, which: Sequence[ColumnElement[bool]], limit: int) -> list[Interaction]:
    same = and_(REQUEST.c.user_id == _c.user_id, REQUEST.c.request_id == _c.request_id)
    order = (_c.created_at.desc(), REQUEST.c.created_at_us.desc(), _c.request_id.desc(), _c.seq.desc())
    statement = select(INTERACTION).join(REQUEST, same).where(*which).order_by(*order).limit(limit)
    return [interaction_value(row) for row in connection.execute(statement)]


def _newest_of_all(connection: Connection, which: Sequence[ColumnElement[bool]], limit: int) -> list[Interaction]:
    """Through the requests, newest first: no index has the interactions of all users in order."""
    c = REQUEST.c
    found: list[Interaction] = []
    before: tuple[int, str, str] | None = None
    while len(found) < limit:
        statement = select(c.created_at_us, c.request_id, c.user_id)
        if before is not None:
            statement = statement.where(tuple_(c.created_at_us, c.request_id, c.user_id) < tuple_(*before))
        newest = (c.created_at_us.desc(), c.request_id.desc(), c.user_id.desc())
        page = connection.execute(statement.order_by(*newest).limit(_REQUESTS_AT_ONCE)).all()
        if not page:
            break
        messages: dict[tuple[str, str], list[Interaction]] = defaultdict(list)
        for some in among(_c.user_id, _c.request_id, [(row.user_id, row.request_id) for row in page]):
            rows = connection.execute(select(INTERACTION).where(some, *which).order_by(_c.seq.desc()))
            for row in rows:
                messages[row.user_id, row.request_id].append(interaction_value(row))
        found += [item for row in page for item in messages[row.user_id, row.request_id]]
        before = page[-1].created_at_us, page[-1].request_id, page[-1].user_id
    return found[:limit]


def _in_order(connection: Connection, user_id: str, found: Sequence[tuple[str, int]]) -> list[Interaction]:
    rows: dict[tuple[str, int], Interaction] = {}
    for part in chunks(found):
        names = tuple_(_c.request_id, _c.seq).in_(part)
        statement = select(INTERACTION).where(_c.user_id == user_id, names)
        for row in connection.execute(statement):
            rows[row.request_id, row.seq] = interaction_value(row)
    return [rows[name] for name in found if name in rows]
