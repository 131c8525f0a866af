"""What requests of one user leave behind, and how to remove it: rows, full text, evidence, sessions, jobs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, delete, func, select, update

from reflexio_store.contract import Receipt
from reflexio_store.ids import interaction_id

from .dialects import Dialect
from .dismissals import drop_dismissals
from .documents import drop_documents
from .history import forget_history_of_requests
from .indexing import document_keys
from .jobs import is_learning
from .kinds import PROFILES, USER_PLAYBOOKS, Kind
from .learning_rows import evidence_of, named
from .part import chunks
from .succession import forget_rows
from .tables import EVIDENCE, INTERACTION, JOB, OUTCOME, REQUEST, SESSION
from .unread import forget_unread

_e = EVIDENCE.c


def forget_requests(connection: Connection, dialect: Dialect, user_id: str, request_ids: Sequence[str]) -> Receipt:
    """Delete requests of one user, their interactions and full text, and the learnings that rested on them alone.

    What those had superseded is current again.
    """
    which = and_(_e.user_id == user_id, _e.request_id.in_(request_ids))
    profiles, playbooks = _forget_evidence(connection, dialect, user_id, request_ids, which)
    drop_dismissals(connection, user_id, request_ids)
    forget_history_of_requests(connection, user_id, request_ids)
    drop_documents(connection, dialect, document_keys(user_id, request_ids))
    interactions, requests = (
        connection.execute(
            delete(table).where(table.c.user_id == user_id, table.c.request_id.in_(request_ids))
        ).rowcount
        for table in (INTERACTION, REQUEST)
    )
    forget_unread(connection, user_id, request_ids)
    return Receipt(requests=requests, interactions=interactions, profiles=profiles, user_playbooks=playbooks)


def forget_message(
    connection: Connection, dialect: Dialect, user_id: str, request_id: str, place: int
) -> tuple[int, int]:
    """Forget one message of a request: its evidence, dismissals and full text, but not its row; how many profiles and
    user playbooks went with it. The other messages of the request are indexed again by the next search."""
    said = and_(_e.user_id == user_id, _e.request_id == request_id, _e.interaction_index == place)
    counts = _forget_evidence(connection, dialect, user_id, [request_id], said)
    drop_dismissals(connection, user_id, [request_id], place)
    forget_history_of_requests(connection, user_id, [request_id])
    drop_documents(connection, dialect, document_keys(user_id, [request_id]))
    this = and_(REQUEST.c.user_id == user_id, REQUEST.c.request_id == request_id)
    connection.execute(update(REQUEST).where(this).values(text_indexed=False))
    return counts


def mend_sessions(connection: Connection, user_id: str, session_ids: Sequence[str]) -> int:
    """Bring sessions in step with the requests they still have; empty ones go with their jobs: how many jobs went."""
    c = REQUEST.c
    jobs = 0
    for part in chunks(session_ids):
        sessions = and_(SESSION.c.user_id == user_id, SESSION.c.session_id.in_(part))
        # whoever stores a turn in one of them waits from here on, so that no turn is left out of the count
        connection.execute(
            select(SESSION.c.session_id).where(sessions).order_by(SESSION.c.session_id).with_for_update()
        )
        spans = select(c.session_id, func.min(c.created_at_us), func.max(c.created_at_us), func.count())
        of_them = and_(c.user_id == user_id, c.session_id.in_(part))
        left = {row[0]: row[1:] for row in connection.execute(spans.where(of_them).group_by(c.session_id))}
        for session_id, (first, last, count) in left.items():
            this = and_(SESSION.c.user_id == user_id, SESSION.c.session_id == session_id)
            values = {"first_at_us": first, "last_at_us": last, "n_requests": count}
            connection.execute(update(SESSION).where(this).values(values))
        theirs = and_(JOB.c.user_id == user_id, JOB.c.key.in_(list(left)))
        connection.execute(update(JOB).where(theirs).values(last_error=""))  # it may quote what is forgotten
        empty = [session_id for session_id in part if session_id not in left]
        for table in (SESSION, OUTCOME):
            connection.execute(delete(table).where(table.c.user_id == user_id, table.c.session_id.in_(empty)))
        theirs = and_(JOB.c.user_id == user_id, is_learning(), JOB.c.key.in_(empty))
        jobs += connection.execute(delete(JOB).where(theirs)).rowcount
    return jobs


def _forget_evidence(
    connection: Connection, dialect: Dialect, user_id: str, request_ids: Sequence[str], which: ColumnElement[bool]
) -> tuple[int, int]:
    """Delete evidence in some requests; how many profiles and user playbooks went with it."""
    touched: dict[str, dict[str, set[int]]] = defaultdict(lambda: defaultdict(set))
    evidence = select(_e.kind, _e.learning_id, _e.request_id, _e.interaction_index).where(which)
    for kind, learning_id, request_id, index in connection.execute(evidence):
        touched[kind][learning_id].add(interaction_id(request_id, index))
    connection.execute(delete(EVIDENCE).where(which))
    counts = []
    for kind in (PROFILES, USER_PLAYBOOKS):
        left = evidence_of(connection, kind, user_id, list(touched[kind.name]))
        bare = [learning_id for learning_id in touched[kind.name] if learning_id not in left]
        counts.append(sum(forget_rows(connection, dialect, kind, named(kind, ids, user_id)) for ids in chunks(bare)))
        _forget_origins(connection, kind, user_id, request_ids, {name: touched[kind.name][name] for name in left})
    return counts[0], counts[1]


def _forget_origins(
    connection: Connection, kind: Kind, user_id: str, request_ids: Sequence[str], touched: dict[str, set[int]]
) -> None:
    """Let learnings that keep other evidence no longer name, or quote, what is forgotten."""
    origin = str(kind.request)
    gone = set(request_ids)
    for part in chunks(list(touched)):
        evidence = evidence_of(connection, kind, user_id, part)
        rows = connection.execute(select(kind.table).where(named(kind, part, user_id))).mappings().all()
        for row in rows:
            learning_id = str(row[kind.key])
            ids = [item for item in row["source_interaction_ids"] or () if item not in touched[learning_id]]
            values: dict[str, Any] = {"source_interaction_ids": ids}
            if row[origin] in gone:
                values |= {origin: evidence[learning_id][0].request_id, "source_span": None}
            this = and_(kind.column("user_id") == user_id, kind.column(kind.key) == row[kind.key])
            connection.execute(update(kind.table).where(this).values(values))
