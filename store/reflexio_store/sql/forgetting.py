"""Forgetting: messages, requests, sessions and users, with what was learned from them alone.

Everything is per user, so that each statement stays within one user's rows. A delete of many sessions is cut into
transactions of 50, so that the agent's turns are stored in between; a single request or session goes at once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from sqlalchemy import ColumnElement, Connection, Table, and_, delete, func, select, true

from reflexio_store.contract import Receipt

from .database import retried
from .dismissals import drop_dismissals
from .kinds import PROFILES, USER_PLAYBOOKS
from .learning_rows import remove_rows
from .part import Part, chunks
from .tables import EVIDENCE, INTERACTION, JOB, REQUEST, SESSION
from .traces import forget_message, forget_requests, mend_sessions
from .uses import note_shown_again

_SESSIONS_AT_ONCE = 50


class Forgetting(Part):
    """The part of a home that deletes turns and what rests on them."""

    @retried
    def delete_interaction(self, user_id: str, interaction_id: int) -> Receipt:
        """Delete one message of a user, and the learnings that rested on it alone. A request that has no message left
        goes, too."""
        c = INTERACTION.c
        which = and_(c.user_id == user_id, c.interaction_id == interaction_id)
        with self._database.write() as connection:
            self._database.dialect.hold(connection, [user_id])
            found = connection.execute(select(c.request_id, c.seq).where(which)).first()
            if found is None:
                return Receipt()
            request_id, place = found
            of_request = and_(c.user_id == user_id, c.request_id == request_id)
            if connection.execute(select(func.count()).where(of_request)).scalar_one() == 1:
                one = and_(REQUEST.c.user_id == user_id, REQUEST.c.request_id == request_id)
                receipt = self._forget_where(connection, one)
            else:
                profiles, playbooks = forget_message(connection, self._database.dialect, user_id, request_id, place)
                connection.execute(delete(INTERACTION).where(of_request, c.seq == place))
                note_shown_again(connection, self._database.dialect, user_id, request_id)
                receipt = Receipt(interactions=1, profiles=profiles, user_playbooks=playbooks)
            self._compact(connection, receipt)
            return receipt

    def delete_requests(self, request_ids: Sequence[str] | None, *, user_id: str | None = None) -> Receipt:
        """Delete requests (all of them, or of the user, where ``request_ids`` is None), and the learnings that rested
        on them alone."""
        if request_ids is None:
            return self._forget_sessions(_owned_by(SESSION, user_id))
        return self._forget_named(request_ids, user_id)

    @retried
    def _forget_named(self, request_ids: Sequence[str], user_id: str | None) -> Receipt:
        receipt = Receipt()
        with self._database.write() as connection:
            for part in chunks(list(dict.fromkeys(request_ids))):
                which = and_(REQUEST.c.request_id.in_(part), _owned_by(REQUEST, user_id))
                receipt = _sum(receipt, self._forget_where(connection, which))
            self._compact(connection, receipt)
        return receipt

    def delete_session(self, session_id: str, *, user_id: str | None = None) -> Receipt:
        """Delete a session (of one user where one is given), and the learnings that rested on it alone."""
        return self._forget_sessions(and_(SESSION.c.session_id == session_id, _owned_by(SESSION, user_id)))

    def delete_user(self, user_id: str) -> Receipt:
        """Delete everything held on one user, also what was added by hand."""
        return _sum(self._forget_sessions(SESSION.c.user_id == user_id), self._forget_the_rest(user_id))

    @retried
    def _forget_the_rest(self, user_id: str) -> Receipt:
        with self._database.write() as connection:
            self._database.dialect.hold(connection, [user_id])
            receipt = self._forget_where(connection, REQUEST.c.user_id == user_id)
            profiles, playbooks = (
                remove_rows(connection, self._database.dialect, kind, kind.column("user_id") == user_id)
                for kind in (PROFILES, USER_PLAYBOOKS)
            )
            connection.execute(delete(EVIDENCE).where(EVIDENCE.c.user_id == user_id))
            drop_dismissals(connection, user_id)
            jobs = connection.execute(delete(JOB).where(JOB.c.user_id == user_id)).rowcount
            receipt = _sum(receipt, Receipt(profiles=profiles, user_playbooks=playbooks, jobs=jobs))
            self._compact(connection, receipt, thorough=True)
            self._database.dialect.forget_hold(connection, user_id)
        return receipt

    def _forget_sessions(self, which: ColumnElement[bool]) -> Receipt:
        receipt = Receipt()
        more = True
        while more:
            some, more = self._forget_some_sessions(which)
            receipt = _sum(receipt, some)
        return receipt

    @retried
    def _forget_some_sessions(self, which: ColumnElement[bool]) -> tuple[Receipt, bool]:
        """Forget a bounded number of sessions; and whether there are more."""
        receipt = Receipt()
        with self._database.write() as connection:
            names = select(SESSION.c.user_id, SESSION.c.session_id).where(which).limit(_SESSIONS_AT_ONCE)
            by_user: dict[str, list[str]] = defaultdict(list)
            for user_id, session_id in connection.execute(names):
                by_user[user_id].append(session_id)
            self._database.dialect.hold(connection, by_user)
            for user_id, sessions in by_user.items():
                theirs = and_(REQUEST.c.user_id == user_id, REQUEST.c.session_id.in_(sessions))
                receipt = _sum(receipt, self._forget_where(connection, theirs))
                receipt = _sum(receipt, Receipt(jobs=mend_sessions(connection, user_id, sessions)))
            more = sum(map(len, by_user.values())) == _SESSIONS_AT_ONCE
            if not more:
                self._compact(connection, receipt)
        return receipt, more

    def _forget_where(self, connection: Connection, which: ColumnElement[bool]) -> Receipt:
        names = select(REQUEST.c.user_id, REQUEST.c.request_id, REQUEST.c.session_id).where(which)
        by_user: dict[str, dict[str, str]] = defaultdict(dict)
        for user_id, request_id, session_id in connection.execute(names):
            by_user[user_id][request_id] = session_id
        self._database.dialect.hold(connection, by_user)
        receipt = Receipt()
        for user_id, requests in by_user.items():
            for part in chunks(list(requests)):
                receipt = _sum(receipt, forget_requests(connection, self._database.dialect, user_id, part))
            receipt = _sum(receipt, Receipt(jobs=mend_sessions(connection, user_id, sorted(set(requests.values())))))
        return receipt

    def _compact(self, connection: Connection, receipt: Receipt, *, thorough: bool = False) -> None:
        text = self._database.dialect.text
        if receipt.interactions:
            text.compact(connection, "interaction", thorough=thorough)
        if receipt.profiles or receipt.user_playbooks:
            text.compact(connection, "learning", thorough=thorough)


def _owned_by(table: Table, user_id: str | None) -> ColumnElement[bool]:
    return true() if user_id is None else table.c.user_id == user_id


def _sum(one: Receipt, other: Receipt) -> Receipt:
    return Receipt(*(getattr(one, name) + getattr(other, name) for name in Receipt.__dataclass_fields__))
