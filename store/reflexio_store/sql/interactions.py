"""Reading and searching single interactions of one user."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from sqlalchemy import ColumnElement, Connection, and_, select, tuple_

from reflexio_store.contract import Meaning
from reflexio_store.models import GetInteractionsRequest, Interaction, SearchInteractionRequest

from .conversations import best_messages
from .documents import INTERACTION_KIND
from .indexing import Indexing
from .part import among, chunks, seconds_from
from .rows import interaction_value
from .tables import INTERACTION, REQUEST
from .vectors import VectorCache
from .words import query_words

_MOST = 100
_PAGE = 200  # requests
_c = INTERACTION.c


class Interactions(Indexing):
    """The part of a home that finds interactions."""

    def get_interactions(self, query: GetInteractionsRequest) -> list[Interaction]:
        """Interactions of one user, newest first (at most 100 where ``top_k`` is None); those of all users go by the
        time of their requests."""
        limit = query.top_k or _MOST
        with self._database.read() as connection:
            if query.user_id is None:
                return _newest_of_all(connection, _window(query), limit)
            return _newest(connection, [_c.user_id == query.user_id, *_window(query)], limit)

    _cache: VectorCache

    def search_interactions(
        self, query: SearchInteractionRequest, *, meaning: Meaning | None = None
    ) -> list[Interaction]:
        """Interactions of one user that match, best first; see the contract.

        Without a query the ``most_recent_k`` newest are given; with neither, nothing.
        """
        if query.query is None or not query.query.strip():
            if query.most_recent_k is None:
                return []
            which = [_c.user_id == query.user_id, *_conditions(query)]
            with self._database.read() as connection:
                return _newest(connection, which, query.most_recent_k)
        words = [] if meaning and query.search_mode == "vector" else query_words(query.query)
        if not (words or meaning):
            return []
        self.index_interactions(user_id=query.user_id)
        with self._database.read() as connection:
            conditions = _conditions(query)
            near = self._cache.cosines(connection, INTERACTION_KIND, query.user_id, meaning) if meaning else None
            found = best_messages(
                connection, self._database.dialect.text, query.user_id, words, conditions=conditions, cosines=near
            )
            which = [_c.user_id == query.user_id, *conditions]
            return _in_order(connection, which, found, min(query.top_k or _MOST, _MOST))


def _conditions(query: SearchInteractionRequest) -> list[ColumnElement[bool]]:
    conditions = _window(query)
    return conditions if query.request_id is None else [*conditions, _c.request_id == query.request_id]


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
        page = connection.execute(statement.order_by(*newest).limit(_PAGE)).all()
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


def _in_order(
    connection: Connection, which: Sequence[ColumnElement[bool]], found: Sequence[tuple[str, int]], limit: int
) -> list[Interaction]:
    best: list[Interaction] = []
    for part in chunks(found, 2 * limit):
        names = tuple_(_c.request_id, _c.seq).in_(part)
        rows = connection.execute(select(INTERACTION).where(*which, names))
        values = {(row.request_id, row.seq): interaction_value(row) for row in rows}
        best += [values[name] for name in part if name in values]
        if len(best) >= limit:
            break
    return best[:limit]
