"""Forgetting: messages, requests, sessions and users, with what was learned from them alone.

Everything is per user, so that each statement stays within one user's rows. A delete of more than 100 requests is cut
into transactions of so many, with a pause after each: the agent's turns are stored in between.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Sequence

from sqlalchemy import ColumnElement, Connection, Row, Select, Table, and_, delete, func, select, true

from reflexio_store.contract import Receipt
from reflexio_store.erasing import digest_of

from .compaction import Compaction
from .database import retried
from .dismissals import drop_dismissals
from .erasure import note, wait_for_storing
from .history import forget_history_of_requests
from .jobs import forget_in_jobs
from .kinds import PROFILES, USER_PLAYBOOKS
from .learning_rows import remove_rows
from .part import chunks
from .sharing import reconcile
from .tables import EVIDENCE, INTERACTION, JOB, OUTCOME, REQUEST, SESSION, UNLEARNED
from .traces import forget_message, forget_requests, mend_sessions
from .usage import forget_user
from .uses import note_shown_again
from .vectors import VectorCache

_AT_ONCE = 100  # requests in a transaction
_PAUSE = 0.01  # seconds; a writer that waits looks again more often than that

_NAMES = select(REQUEST.c.user_id, REQUEST.c.request_id, REQUEST.c.session_id)
_OF_SESSIONS = _NAMES.join(
    SESSION, and_(SESSION.c.user_id == REQUEST.c.user_id, SESSION.c.session_id == REQUEST.c.session_id)
)


class Forgetting(Compaction):
    """The part of a home that deletes turns and what rests on them."""

    _cache: VectorCache

    def delete_interaction(self, user_id: str, interaction_id: int) -> Receipt:
        """Delete one message of a user, and the learnings that rested on it alone. A request that has no message left
        goes, too."""
        receipt = self._forget_message(user_id, interaction_id)
        self._clean_up()
        return receipt

    @retried
    def _forget_message(self, user_id: str, interaction_id: int) -> Receipt:
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
                digest = digest_of("request", user_id, request_id)
                note(connection, self._database.dialect, [digest], now_us=self._clock())
                one = _NAMES.where(REQUEST.c.user_id == user_id, REQUEST.c.request_id == request_id)
                return self._forget(connection, connection.execute(one).all())
            profiles, playbooks = forget_message(connection, self._database.dialect, user_id, request_id, place)
            connection.execute(delete(INTERACTION).where(of_request, c.seq == place))
            note_shown_again(connection, self._database.dialect, user_id, request_id)
            receipt = Receipt(interactions=1, profiles=profiles, user_playbooks=playbooks)
            receipt += self._unshare(connection, user_id)
            self._compact(connection)
            return receipt

    def delete_requests(self, request_ids: Sequence[str] | None, *, user_id: str | None = None) -> Receipt:
        """Delete requests (all of them, or of the user, where ``request_ids`` is None), and the learnings that rested
        on them alone."""
        if request_ids is None:
            self._note_first([digest_of("requests", user_id)])
            receipt = self._forget_sessions(_owned_by(SESSION, user_id))
            self._clean_up()
            return receipt
        self._note_first([digest_of("request", user_id, name) for name in request_ids])
        receipt = Receipt()
        for part in chunks(list(dict.fromkeys(request_ids)), _AT_ONCE):
            if receipt.requests:
                time.sleep(_PAUSE)
            which = _NAMES.where(REQUEST.c.request_id.in_(part), _owned_by(REQUEST, user_id))
            receipt += self._forget_named(which)[0]
        self._clean_up()
        return receipt

    def delete_session(self, session_id: str, *, user_id: str | None = None) -> Receipt:
        """Delete a session (of one user where one is given), and the learnings that rested on it alone."""
        self._note_first([digest_of("session", user_id, session_id)])
        receipt = self._forget_sessions(and_(SESSION.c.session_id == session_id, _owned_by(SESSION, user_id)))
        self._clean_up()
        return receipt

    def delete_user(self, user_id: str) -> Receipt:
        """Delete everything held on one user, also what was added by hand."""
        self._note_first([digest_of("user", user_id)])
        receipt = self._forget_sessions(SESSION.c.user_id == user_id) + self._forget_the_rest(user_id)
        self._forget_in_jobs(user_id)
        self._clean_up()
        return receipt

    @retried
    def _note_first(self, digests: Sequence[str]) -> None:
        """Note what is about to be deleted: nothing of it is stored from here on."""
        if digests:
            with self._database.write() as connection:
                note(connection, self._database.dialect, digests, now_us=self._clock())
            with self._database.write() as connection:
                wait_for_storing(connection, self._database.dialect)

    @retried
    def _forget_the_rest(self, user_id: str) -> Receipt:
        with self._database.write() as connection:
            self._database.dialect.hold(connection, [user_id])
            receipt = self._forget(connection, connection.execute(_NAMES.where(REQUEST.c.user_id == user_id)).all())
            profiles, playbooks = (
                remove_rows(connection, self._database.dialect, kind, kind.column("user_id") == user_id)
                for kind in (PROFILES, USER_PLAYBOOKS)
            )
            for table in (EVIDENCE, OUTCOME, UNLEARNED):
                connection.execute(delete(table).where(table.c.user_id == user_id))
            drop_dismissals(connection, user_id)
            forget_user(connection, self._database.dialect, user_id)
            forget_history_of_requests(connection, user_id)
            theirs = and_(JOB.c.user_id == user_id, JOB.c.user_id != "")  # those of nobody are for all
            jobs = connection.execute(delete(JOB).where(theirs)).rowcount
            receipt += Receipt(profiles=profiles, user_playbooks=playbooks, jobs=jobs)
            receipt += self._unshare(connection, user_id)
            self._compact(connection)
            self._database.dialect.forget_hold(connection, user_id)
        self._cache.forget(user_id)
        return receipt

    @retried
    def _forget_in_jobs(self, user_id: str) -> None:
        """By itself, for it keeps the jobs of nobody: whoever asks for one of them must not hold what it waits for."""
        with self._database.write() as connection:
            forget_in_jobs(connection, user_id)

    def _forget_sessions(self, which: ColumnElement[bool]) -> Receipt:
        receipt = Receipt()
        more = True
        while more:
            some, more = self._forget_named(_OF_SESSIONS.where(which).limit(_AT_ONCE))
            receipt += some
            if more:
                time.sleep(_PAUSE)
        return receipt

    @retried
    def _forget_named(self, names: Select[str, str, str]) -> tuple[Receipt, bool]:
        """Forget the requests that a statement names, in one transaction; and whether it names as many as may be."""
        with self._database.write() as connection:
            found = connection.execute(names).all()
            return self._forget(connection, found), len(found) == _AT_ONCE

    def _forget(self, connection: Connection, found: Iterable[Row[str, str, str]]) -> Receipt:
        """Delete requests by user, id and session, and begin to compact what they were in."""
        by_user: dict[str, dict[str, str]] = defaultdict(dict)
        for user_id, request_id, session_id in found:
            by_user[user_id][request_id] = session_id
        self._database.dialect.hold(connection, by_user)
        receipt = Receipt()
        for user_id, requests in by_user.items():
            for part in chunks(list(requests)):
                receipt += forget_requests(connection, self._database.dialect, user_id, part)
            receipt += Receipt(jobs=mend_sessions(connection, user_id, sorted(set(requests.values()))))
            receipt += self._unshare(connection, user_id)
        self._compact(connection)
        return receipt

    def _unshare(self, connection: Connection, user_id: str) -> Receipt:
        """Take away what user playbooks that are gone gave to agent playbooks."""
        lost = reconcile(connection, self._database.dialect, user_id, now_us=self._clock())
        return Receipt(agent_playbooks_retired=lost.retired, agent_playbooks_lowered=lost.lowered)


def _owned_by(table: Table, user_id: str | None) -> ColumnElement[bool]:
    return true() if user_id is None else table.c.user_id == user_id
