"""Pages of sessions, exact and stable while turns arrive, over a server that pages by offset.

The server counts sessions by ``session_id`` alone, newest matching request first, ties by ``session_id`` descending,
and its ``has_more`` is true whenever a page is full (wire facts). So it is not believed: one session more than wanted
is asked for. A cursor is a place in that order. Its offset is a hint only: new sessions push places back, which repeats
some to pass over; deleted ones pull them forward, which shows, as the session at the hint then lies after the cursor.
"""

from __future__ import annotations

import base64
import binascii
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import orjson

from reflexio_store.errors import InvalidInputError
from reflexio_store.models import RequestData, Session

from .wire import request_data

Rows = list[Mapping[str, Any]]
Ask = Callable[[int, int], Rows]
"""The server's sessions from an offset on, at most so many."""
_MOST_AT_ONCE: Final = 100
_MAX_LENGTH: Final = 4096  # characters of a cursor


class Place(NamedTuple):
    """A session's place; listings go from greater to smaller places. Times are in epoch seconds."""

    last_at: int
    session_id: str
    users_last_at: int
    user_id: str

    @property
    def of_row(self) -> tuple[int, str]:
        """The place of the server's session that this one is part of."""
        return self.last_at, self.session_id


@dataclass(frozen=True, slots=True)
class Placed:
    """A session, its place, and the offset at which the server had it."""

    session: Session
    place: Place
    offset: int

    @property
    def cursor(self) -> str:
        """The place as opaque text."""
        return base64.urlsafe_b64encode(orjson.dumps([self.offset, *self.place])).decode().rstrip("=")


def read_cursor(cursor: str) -> tuple[int, Place]:
    """The offset and the place that a cursor names.

    Raises:
        InvalidInputError: It is none of ours.
    """
    try:
        if len(cursor) > _MAX_LENGTH:
            raise ValueError("too long")
        data = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        offset, *values = orjson.loads(data)
        place = Place(*values)
        if [type(value) for value in (offset, *place)] != [int, int, str, int, str] or offset < 0:
            raise ValueError("of other types")
    except (ValueError, TypeError, binascii.Error) as error:
        problem = ("cursor", "is not a next_cursor of this listing; leave it out to begin at the first page")
        raise InvalidInputError("The requests were not listed", [problem]) from error
    return offset, place


def walk(ask: Ask, matches: Callable[[RequestData], bool], size: int, cursor: str | None) -> Iterator[Placed]:
    """The sessions of each user after a cursor, with their requests that match, newest first."""
    start, after = read_cursor(cursor) if cursor else (0, None)
    step = min(max(size, 2), _MOST_AT_ONCE)
    while True:
        rows = ask(start, step)
        if after is not None and start and (not rows or _place_of(rows[0]) < after.of_row):
            start = max(0, start - step)
            continue
        for offset, row in enumerate(rows, start):
            for place, session in _of_each_user(row, matches):
                if after is None or place < after:
                    yield Placed(session, place, offset)
                    after = place
        if len(rows) < step:
            return
        start += len(rows) - 1  # the last one again: it shows that none before it was deleted meanwhile


def _place_of(row: Mapping[str, Any]) -> tuple[int, str]:
    return max((item["request"]["created_at"] for item in row["requests"]), default=0), row["session_id"]


def _of_each_user(row: Mapping[str, Any], matches: Callable[[RequestData], bool]) -> list[tuple[Place, Session]]:
    """The server's session taken apart: what two users call by the same name are two sessions."""
    last_at, session_id = _place_of(row)
    users: dict[str, list[RequestData]] = defaultdict(list)
    for data in map(request_data, row["requests"]):
        if matches(data):
            users[data.request.user_id].append(data)
    found = []
    for user_id, requests in users.items():
        requests.sort(key=_arrival, reverse=True)
        place = Place(last_at, session_id, requests[0].request.created_at, user_id)
        found.append((place, Session(session_id=session_id, user_id=user_id, requests=requests)))
    return sorted(found, key=lambda item: item[0], reverse=True)


def _arrival(data: RequestData) -> tuple[int, int, str]:
    """Requests of one second are told apart by their interactions, whose ids rise (wire fact)."""
    first = min((item.interaction_id for item in data.interactions), default=0)
    return data.request.created_at, first, data.request.request_id
