"""Reading the record of turns: pages of sessions, one whole session."""

from __future__ import annotations

import base64
import binascii
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from operator import attrgetter, itemgetter

import orjson
from sqlalchemy import ColumnElement, Connection, Select, and_, func, select, tuple_

from reflexio_store.errors import InvalidInputError
from reflexio_store.models import GetRequestsRequest, GetRequestsResponse, Interaction, RequestData, Session

from .part import Part, chunks, microseconds
from .rows import interaction_value, request_value, trusted
from .tables import INTERACTION, REQUEST, SESSION

DEFAULT_SESSIONS = 100
_MAX_LENGTH = 4096  # characters of a cursor
_SEQ = itemgetter(2)  # of a row of interactions
_PLACE = attrgetter("created_at_us", "request_id")
_SESSIONS_AT_ONCE = 200  # pairs in one condition


@dataclass(frozen=True, slots=True)
class _Place:
    """A session's place in a listing: the time of its newest request that matches, then its name."""

    last_at_us: int
    user_id: str
    session_id: str

    @property
    def cursor(self) -> str:
        """The place as opaque text."""
        data = orjson.dumps([self.last_at_us, self.user_id, self.session_id])
        return base64.urlsafe_b64encode(data).decode().rstrip("=")

    @classmethod
    def of(cls, cursor: str) -> _Place:
        """The place that a cursor names."""
        try:
            if len(cursor) > _MAX_LENGTH:
                raise ValueError("too long")
            data = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
            last_at_us, user_id, session_id = orjson.loads(data)
            if not (type(last_at_us) is int and isinstance(user_id, str) and isinstance(session_id, str)):
                raise ValueError("of other types")
        except (ValueError, TypeError, binascii.Error) as error:
            problem = ("cursor", "is not a next_cursor of this listing; leave it out to begin at the first page")
            raise InvalidInputError("The requests were not listed", [problem]) from error
        return cls(last_at_us, user_id, session_id)


class Listing(Part):
    """The part of a home that lists and reads sessions."""

    def get_requests(self, query: GetRequestsRequest) -> GetRequestsResponse:
        """Sessions with their requests, newest first, one page of them.

        Ordered by the newest request that matches, then by user and session. At most 100 sessions where ``top_k`` is
        None. ``offset`` counts from the cursor where both are given.
        """
        size = query.top_k or DEFAULT_SESSIONS
        statement = _page(query, _Place.of(query.cursor) if query.cursor else None)
        with self._database.read() as connection:
            found = [_Place(*row) for row in connection.execute(statement.limit(size + 1).offset(query.offset))]
            page = found[:size]
            sessions = _hydrated(connection, page, _filters_within(query))
        more = len(found) > size
        total = sum(len(session.requests) for session in sessions)
        return GetRequestsResponse(
            sessions=sessions,
            has_more=more,
            next_cursor=page[-1].cursor if more else None,
            msg=f"Found {total} request(s) in {len(sessions)} session(s)",
        )

    def read_session(self, user_id: str, session_id: str) -> list[RequestData]:
        """The whole session of one user, oldest request first."""
        which = [REQUEST.c.user_id == user_id, REQUEST.c.session_id == session_id]
        with self._database.read() as connection:
            return request_data(connection, and_(*which))[::-1]


def _page(query: GetRequestsRequest, after: _Place | None) -> Select[int, str, str]:
    """The places of a page. Without filters on requests the sessions table knows them; else they are grouped."""
    if query.request_id is None and query.source is None and query.start_time is None and query.end_time is None:
        place = (SESSION.c.last_at_us, SESSION.c.user_id, SESSION.c.session_id)
        statement = select(*place)
        for column in (SESSION.c.user_id, SESSION.c.session_id):
            if (value := getattr(query, column.name)) is not None:
                statement = statement.where(column == value)
        newest: ColumnElement[int] = place[0]
    else:
        newest = func.max(REQUEST.c.created_at_us)
        place = (newest, REQUEST.c.user_id, REQUEST.c.session_id)  # type: ignore[assignment]
        statement = select(*place).where(*_filters(query)).group_by(REQUEST.c.user_id, REQUEST.c.session_id)
    if after is not None:
        bound = tuple_(*place) < tuple_(after.last_at_us, after.user_id, after.session_id)
        statement = statement.where(bound) if newest is SESSION.c.last_at_us else statement.having(bound)
    return statement.order_by(*(column.desc() for column in place))


def _filters(query: GetRequestsRequest) -> list[ColumnElement[bool]]:
    equal = {REQUEST.c.user_id: query.user_id, REQUEST.c.session_id: query.session_id}
    return [column == value for column, value in equal.items() if value is not None] + _filters_within(query)


def _filters_within(query: GetRequestsRequest) -> list[ColumnElement[bool]]:
    """The filters that choose among the requests of a session."""
    c = REQUEST.c
    equal = {c.request_id: query.request_id, c.source: query.source}
    filters = [column == value for column, value in equal.items() if value is not None]
    if query.start_time is not None:
        filters.append(c.created_at_us >= microseconds(query.start_time))
    if query.end_time is not None:
        filters.append(c.created_at_us < microseconds(query.end_time))
    return filters


def _hydrated(connection: Connection, page: Sequence[_Place], filters: Iterable[ColumnElement[bool]]) -> list[Session]:
    requests: dict[tuple[str, str], list[RequestData]] = defaultdict(list)
    for part in chunks(page, _SESSIONS_AT_ONCE):
        for data in request_data(connection, and_(_among(part), *filters)):
            requests[data.request.user_id, data.request.session_id or ""].append(data)
    return [
        trusted(
            Session,
            session_id=place.session_id,
            requests=requests[place.user_id, place.session_id],
            user_id=place.user_id,
        )
        for place in page
        if (place.user_id, place.session_id) in requests
    ]


def _among(page: Iterable[_Place]) -> ColumnElement[bool]:
    """The requests of some sessions: as pairs, for SQLite takes users to have few requests, and would read them all."""
    return tuple_(REQUEST.c.user_id, REQUEST.c.session_id).in_([(place.user_id, place.session_id) for place in page])


def request_data(connection: Connection, which: ColumnElement[bool]) -> list[RequestData]:
    """Requests with their interactions, newest request first."""
    requests = connection.execute(select(REQUEST).where(which)).all()
    requests = sorted(requests, key=_PLACE, reverse=True)  # asked to sort, SQLite reads all requests of a user in order
    interactions = _interactions_of(connection, [(row[0], row[1]) for row in requests])
    return [
        trusted(RequestData, request=request_value(row), interactions=interactions[row[0], row[1]]) for row in requests
    ]


def _interactions_of(
    connection: Connection, requests: Sequence[tuple[str, str]]
) -> dict[tuple[str, str], list[Interaction]]:
    """Interactions by user and request: by their keys, for a join may be run through all messages of a user."""
    found: dict[tuple[str, str], list[Interaction]] = defaultdict(list)
    key = tuple_(INTERACTION.c.user_id, INTERACTION.c.request_id)
    for part in chunks(requests):
        rows = connection.execute(select(INTERACTION).where(key.in_(part))).all()
        for row in sorted(rows, key=_SEQ):  # sorting in the database would move all the texts
            found[row[0], row[1]].append(interaction_value(row))
    return found
