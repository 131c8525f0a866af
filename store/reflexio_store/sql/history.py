"""What happened to learnings: one entry for each change, forgotten with the learning or the message it came from."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, RowMapping, and_, delete, insert, select

from reflexio_store.ids import uuid7
from reflexio_store.models import HistoryEntry, LearningKind

from .kinds import Kind
from .part import Part, chunks
from .tables import HISTORY

_h = HISTORY.c
Values = Mapping[str, Any] | RowMapping


class History(Part):
    """The part of a home that tells what happened to learnings."""

    def history(
        self,
        kind: LearningKind,
        *,
        user_id: str | None = None,
        learning_id: str | None = None,
        limit: int | None = 100,
    ) -> list[HistoryEntry]:
        """What happened to learnings of one kind, the latest first; see the contract."""
        which = [_h.kind == kind]
        which += [] if user_id is None else [_h.user_id == user_id]
        which += [] if learning_id is None else [_h.learning_id == learning_id]
        statement = select(HISTORY).where(*which).order_by(_h.at_us.desc(), _h.entry_id.desc()).limit(limit)
        with self._database.read() as connection:
            return [HistoryEntry.model_validate(dict(row)) for row in connection.execute(statement).mappings()]


def note(connection: Connection, kind: Kind, action: str, rows: Sequence[Values], *, words: bool = True) -> None:
    """Note what happened to rows, as they are after it; without ``words``, only that it happened."""
    now_us = time.time_ns() // 1000
    entries = [
        {
            "user_id": row["user_id"],
            "entry_id": uuid7(),
            "at_us": now_us + place,
            "kind": kind.name,
            "learning_id": str(row[kind.key]),
            "action": action,
            "content": _words(row) if words else "",
            "other_id": row["superseded_by"] or "",
            "request_id": row[str(kind.request)] or "",
        }
        for place, row in enumerate(rows)
    ]
    if entries and kind.personal:
        connection.execute(insert(HISTORY), entries)


def note_change(connection: Connection, kind: Kind, old: Values, new: Values) -> None:
    """Note a row that was rewritten, if its standing or its words changed."""
    if not kind.personal:
        return
    if old["status"] != new["status"]:
        note(connection, kind, new["status"] or "restored", [new])
    elif old["sameness"] != new["sameness"]:
        note(connection, kind, "changed", [new])


def forget_history(connection: Connection, user_id: str, kind: Kind, learning_ids: Sequence[str]) -> None:
    """Forget what happened to learnings of one user."""
    for part in chunks(learning_ids):
        of_them = and_(_h.user_id == user_id, _h.kind == kind.name, _h.learning_id.in_(part))
        connection.execute(delete(HISTORY).where(of_them))


def forget_history_of_requests(connection: Connection, user_id: str, request_ids: Sequence[str] | None = None) -> None:
    """Forget what was learned from some requests of one user, or all that happened to that user's learnings."""
    which = _h.user_id == user_id
    if request_ids is not None:
        which = and_(which, _h.request_id.in_(request_ids))
    connection.execute(delete(HISTORY).where(which))


def _words(row: Values) -> str:
    trigger = row.get("trigger")
    return f"{trigger}: {row['content']}" if trigger else str(row["content"])
