"""What a user deleted or reworded by hand, so that the same messages do not teach it again.

Only a digest of the words is kept, with the messages that had taught it; it goes when those messages go.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import ColumnElement, Connection, String, and_, cast, delete, literal, select

from reflexio_store.models import Evidence

from .dialects import Dialect
from .kinds import Kind
from .tables import DISMISSED, EVIDENCE, REQUEST

_d, _e, _r = DISMISSED.c, EVIDENCE.c, REQUEST.c


def dismiss(connection: Connection, dialect: Dialect, kind: Kind, which: ColumnElement[bool]) -> None:
    """Note that learnings, about to be deleted or reworded, are not to be learned again from what they rest on."""
    if not kind.personal:
        return
    theirs = and_(
        _e.user_id == kind.column("user_id"),
        _e.kind == kind.name,
        _e.learning_id == cast(kind.column(kind.key), String),
    )
    stored = and_(_r.user_id == _e.user_id, _r.request_id == _e.request_id)
    columns = _e.user_id, literal(kind.name), kind.column("sameness"), _e.request_id, _e.interaction_index
    rows = select(*columns).where(which, theirs, stored).distinct()
    connection.execute(dialect.insert(DISMISSED).from_select(list(_d.keys()), rows).on_conflict_do_nothing())


def is_dismissed(connection: Connection, kind: Kind, user_id: str, sameness: str, evidence: Sequence[Evidence]) -> bool:
    """Whether what says this was deleted or reworded by hand when it rested on all of this evidence."""
    this = and_(_d.user_id == user_id, _d.kind == kind.name, _d.sameness == sameness)
    found = connection.execute(select(_d.request_id, _d.interaction_index).where(this))
    return {(item.request_id, item.interaction_index) for item in evidence} <= {(name, index) for name, index in found}


def drop_dismissals(
    connection: Connection, user_id: str, request_ids: Sequence[str] | None = None, place: int | None = None
) -> None:
    """Forget what is noted on one user, on some of that user's requests, or on one message of each."""
    which = _d.user_id == user_id
    if request_ids is not None:
        which = and_(which, _d.request_id.in_(request_ids))
    if place is not None:
        which = and_(which, _d.interaction_index == place)
    connection.execute(delete(DISMISSED).where(which))
