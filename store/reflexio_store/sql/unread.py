"""Which turns an extractor has still to read, and reading them: the work of a run goes by what is new."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Row, and_, delete, exists, func, literal, select, tuple_, update

from reflexio_store.contract import Fresh, Reading, Unlearned
from reflexio_store.moving import JobRecord
from reflexio_store.terms import USER_ROLES

from .database import retried
from .dialects import Dialect
from .jobs import LEARN, is_learning, make_due
from .listing import request_data
from .part import Part, chunks
from .rows import interaction_value
from .tables import INTERACTION, JOB, REQUEST, UNLEARNED
from .words import different_words, query_words, worth

_u, _r, _i, _j = UNLEARNED.c, REQUEST.c, INTERACTION.c, JOB.c
_MOST_CHARACTERS: Final = 2_000  # of a message that are compared
_Place = tuple[int, str]
"""Where a request stands in its session: microseconds, then its id."""


class Unread(Part):
    """The part of a home that knows how far each extractor has read."""

    def unlearned(self, user_id: str, session_id: str) -> list[Unlearned]:
        """What is unread of a session, for all extractors, by request id."""
        columns = (_u.extractor, _u.request_id, _u.interactions, _u.forced)
        statement = select(*columns).where(_of(user_id, session_id)).order_by(_u.extractor, _u.request_id)
        with self._database.read() as connection:
            return [Unlearned(*row) for row in connection.execute(statement)]

    @retried
    def hand_over(self, user_id: str, session_id: str, extractors: Sequence[str]) -> None:
        """Let each of these extractors have what is unread under ``""``, and it alone; atomic."""
        fresh = and_(_of(user_id, session_id), _u.extractor == "")
        with self._database.write() as connection:
            self._database.dialect.hold(connection, [user_id])
            rows = connection.execute(select(UNLEARNED).where(fresh)).mappings().all()
            given = [{**row, "extractor": name} for name in extractors for row in rows]
            if given:
                connection.execute(self._database.dialect.insert(UNLEARNED).on_conflict_do_nothing(), given)
            for part in chunks([row["request_id"] for row in rows]):  # what came meanwhile stays for the next time
                connection.execute(delete(UNLEARNED).where(fresh, _u.request_id.in_(part)))

    def read_unlearned(
        self, user_id: str, session_id: str, extractor: str, *, context: int, limit: int, skip: Sequence[str] = ()
    ) -> Reading:
        """The oldest unread turns of a session with what is before them; see the contract."""
        theirs = and_(_r.user_id == user_id, _r.session_id == session_id)
        with self._database.read() as connection:
            unread = _unread(connection, user_id, session_id, extractor, skip)
            if not unread:
                return Reading()
            first, place = min(unread), tuple_(_r.created_at_us, _r.request_id)
            before = _places(connection, and_(theirs, place < tuple_(*map(literal, first))), context, newest=True)
            shown = _places(connection, and_(theirs, place >= tuple_(*map(literal, first))), limit)
            new = unread & set(shown)
            shown = shown[: 1 + max(shown.index(one) for one in new)]
            names = [name for _, name in (*before, *shown)]
            requests = [data for part in chunks(names) for data in request_data(connection, _named(user_id, part))]
        order = {name: number for number, name in enumerate(names)}
        requests.sort(key=lambda data: order[data.request.request_id])
        return Reading(requests, frozenset(name for _, name in new), more=len(new) < len(unread))

    def fresh_messages(self, user_id: str, query: str, *, except_session: str, limit: int) -> list[Fresh]:
        """What a user said that is still unread and shares words with a query; see the contract.

        The words are compared here, not in the index, so that a recall never waits for indexing.
        """
        asked = query_words(query)
        if not asked:
            return []
        with self._database.read() as connection:
            rows = _said_unread(connection, user_id, except_session, limit)
        found = []
        for row in rows:
            said = set(different_words(row.content[:_MOST_CHARACTERS]))
            shared = said.intersection(asked)
            if shared:
                coverage = worth(shared) / worth(asked)
                found.append(Fresh(interaction_value(row), coverage, worth(shared) / len(said)))
        return found

    @retried
    def mark_learned(self, user_id: str, session_id: str, extractor: str, request_ids: Sequence[str]) -> None:
        """Note turns as read."""
        mine = and_(_of(user_id, session_id), _u.extractor == extractor)
        with self._database.write() as connection:
            for part in chunks(request_ids):
                connection.execute(delete(UNLEARNED).where(mine, _u.request_id.in_(part)))

    @retried
    def force_learning(self, *, user_id: str | None = None, session_id: str | None = None) -> int:
        """Let all that is unread be learned from now (of a user, of a session): how many sessions that concerns."""
        which = [_u.user_id == user_id] if user_id is not None else []
        if session_id is not None:
            which.append(_u.session_id == session_id)
        sessions: dict[str, set[str]] = defaultdict(set)
        with self._database.write() as connection:
            for owner, name in connection.execute(select(_u.user_id, _u.session_id).where(*which).distinct()):
                sessions[owner].add(name)
            connection.execute(update(UNLEARNED).where(*which).values(forced=True))
            for owner, names in sessions.items():
                for part in chunks(sorted(names)):
                    make_due(connection, owner, part, now_us=self._clock())
        return sum(map(len, sessions.values()))


def leave_sessions_unread(connection: Connection, dialect: Dialect, jobs: Iterable[JobRecord]) -> None:
    """Let the sessions that open jobs learn from be unread as a whole: which of their turns were read is not known."""
    size = select(func.count()).where(_i.user_id == _r.user_id, _i.request_id == _r.request_id).scalar_subquery()
    for job in jobs:
        learns, _, extractor = job.kind.partition(".")
        if learns != LEARN or job.state == "done":
            continue
        theirs = and_(_r.user_id == job.user_id, _r.session_id == job.key)
        columns = (_r.user_id, _r.session_id, literal(extractor), _r.request_id, size, literal(False))
        rows = select(*columns).where(theirs)
        connection.execute(dialect.insert(UNLEARNED).from_select(list(_u.keys()), rows).on_conflict_do_nothing())


def ask_for_unread(connection: Connection, jobs: Iterable[JobRecord]) -> None:
    """Let jobs that learn be ready again where they are done, but turns that moved in are unread."""
    unread = exists().where(_u.user_id == _j.user_id, _u.session_id == _j.key)
    for job in jobs:
        this = and_(_j.user_id == job.user_id, _j.kind == job.kind, _j.key == job.key)
        done = and_(this, is_learning(), _j.state == "done", unread)
        connection.execute(
            update(JOB).where(done).values(state="ready", due_us=job.due_us, generation=_j.generation + 1)
        )


def forget_unread(connection: Connection, user_id: str, request_ids: Sequence[str]) -> None:
    """Let requests that are deleted be read by nobody."""
    connection.execute(delete(UNLEARNED).where(_u.user_id == user_id, _u.request_id.in_(request_ids)))


def _of(user_id: str, session_id: str) -> ColumnElement[bool]:
    return and_(_u.user_id == user_id, _u.session_id == session_id)


def _named(user_id: str, request_ids: Sequence[str]) -> ColumnElement[bool]:
    return and_(_r.user_id == user_id, _r.request_id.in_(request_ids))


def _unread(connection: Connection, user_id: str, session_id: str, extractor: str, skip: Sequence[str]) -> set[_Place]:
    same = and_(_r.user_id == _u.user_id, _r.request_id == _u.request_id)
    mine = and_(_of(user_id, session_id), _u.extractor == extractor)
    found = connection.execute(select(_r.created_at_us, _r.request_id).join(UNLEARNED, same).where(mine))
    return {(at_us, name) for at_us, name in found if name not in skip}


def _said_unread(connection: Connection, user_id: str, except_session: str, limit: int) -> Sequence[Row[Any]]:
    """What the user said in the newest unread turns of other sessions, newest first."""
    same = and_(_r.user_id == _u.user_id, _r.request_id == _u.request_id)
    theirs = and_(_u.user_id == user_id, _u.session_id != except_session)
    order = (_r.created_at_us.desc(), _r.request_id.desc())
    turns = select(_r.created_at_us, _r.request_id).join(UNLEARNED, same).where(theirs).distinct()
    newest = turns.order_by(*order).limit(limit).subquery()
    here = and_(_i.user_id == user_id, _i.request_id == newest.c.request_id)
    said = select(INTERACTION).join(newest, here).where(func.lower(_i.role).in_(USER_ROLES))
    latest = (newest.c.created_at_us.desc(), newest.c.request_id.desc(), _i.seq.desc())
    return connection.execute(said.order_by(*latest)).all()


def _places(connection: Connection, which: ColumnElement[bool], limit: int, *, newest: bool = False) -> list[_Place]:
    """Places in the order of the session: the first of them, or the last."""
    columns = (_r.created_at_us, _r.request_id)
    order = [column.desc() if newest else column.asc() for column in columns]
    found = [
        (at_us, name) for at_us, name in connection.execute(select(*columns).where(which).order_by(*order).limit(limit))
    ]
    return found[::-1] if newest else found
