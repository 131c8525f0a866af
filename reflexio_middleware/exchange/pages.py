"""Reading a whole home page by page, through the contract of every home."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from reflexio_store.contract import Store
from reflexio_store.models import (
    AgentPlaybook,
    GetRequestsRequest,
    Learning,
    LearningKind,
    LearningQuery,
    RequestData,
    Status,
    UserPlaybook,
    UserProfile,
)

_SESSIONS: Final = 50
_LEARNINGS: Final = 500
_SECOND_US: Final = 1_000_000
_EVERY_STATUS: Final[list[Status | None]] = [None, *Status]


def requests_in(store: Store, user_id: str | None = None) -> Iterator[tuple[RequestData, int]]:
    """Every request (of one user, or of all) with its time in epoch microseconds; sessions newest first, the requests
    of a session oldest first."""
    cursor = None
    newest: int | None = None
    while True:
        page = store.get_requests(GetRequestsRequest(user_id=user_id, top_k=_SESSIONS, cursor=cursor))
        for session in page.sessions:
            times = _times(session.requests, newest)
            newest = times[0]
            yield from zip(reversed(session.requests), reversed(times), strict=True)
        cursor = page.next_cursor
        if cursor is None:
            return


def _times(requests: Sequence[RequestData], before: int | None) -> list[int]:
    """Epoch microseconds of the requests of a session, newest first, all before ``before``.

    Values tell whole seconds, but the order must last: so each stays in its second (and in the millisecond of its id,
    where that is a UUIDv7 of that second), and goes as far back in it as keeps the order.
    """
    times = []
    for data in requests:
        start = data.request.created_at * _SECOND_US
        made = _time_in(data.request.request_id)
        latest = made + 999 if start <= made < start + _SECOND_US else start + _SECOND_US - 1
        before = latest if before is None else max(start, min(latest, before - 1))
        times.append(before)
    return times


def _time_in(request_id: str) -> int:
    """Epoch microseconds (whole milliseconds) in a UUIDv7; 0 where an id is none."""
    try:
        value = UUID(request_id)
    except ValueError:
        return 0
    return (value.int >> 80) * 1000 if value.version == 7 else 0


def learnings_in(store: Store, user_id: str | None = None) -> Iterator[Learning]:
    """Every profile, user playbook and (unless a user is named) agent playbook, of any status, newest first."""
    yield from _learnings(store, "profile", user_id)
    yield from _learnings(store, "user_playbook", user_id)
    if user_id is None:
        yield from _learnings(store, "agent_playbook", None)


def _learnings(store: Store, kind: LearningKind, user_id: str | None) -> Iterator[Learning]:
    """One kind, in windows of time: each page ends with a second, which the next one begins with."""
    end: datetime | None = None
    size = _LEARNINGS
    seen: set[tuple[str, str]] = set()
    while True:
        query = LearningQuery(user_id=user_id, status_filter=_EVERY_STATUS, end_time=end, top_k=size)
        page = store.get_learnings(kind, query)
        fresh = [item for item in page if _name(item) not in seen]
        yield from fresh
        if len(page) < size:
            return
        last = _stamp(page[-1])
        if _after(last) == end:  # more in one second than a page holds: the same again, and more of it
            seen |= {_name(item) for item in page}
            size *= 2
        else:
            seen = {_name(item) for item in page if _stamp(item) == last}
            end, size = _after(last), _LEARNINGS


def _stamp(learning: Learning) -> int:
    return learning.last_modified_timestamp if isinstance(learning, UserProfile) else learning.created_at


def _name(learning: Learning) -> tuple[str, str]:
    if isinstance(learning, UserProfile):
        return learning.user_id, learning.profile_id
    if isinstance(learning, UserPlaybook):
        return learning.user_id, str(learning.user_playbook_id)
    assert isinstance(learning, AgentPlaybook)  # noqa: S101 - there are three kinds
    return learning.agent_version, str(learning.agent_playbook_id)


def _after(second: int) -> datetime | None:
    """The end of a second; None beyond the year 9999, where no window ends."""
    try:
        return datetime.fromtimestamp(second + 1, UTC)
    except (OverflowError, ValueError, OSError):
        return None
