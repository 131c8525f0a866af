"""Asking for work that is nobody's in particular, by a time: asking again may bring it forward, never put it off."""

from __future__ import annotations

from sqlalchemy import Connection, and_, case, or_

from .dialects import Dialect
from .tables import JOB


def ask_by(connection: Connection, dialect: Dialect, kind: str, key: str, *, due_us: int) -> None:
    """Ask for a piece of work that is to be done soon after a time; one that runs will run again."""
    row = {
        "user_id": "", "kind": kind, "key": key, "state": "ready", "due_us": due_us, "attempts": 0, "generation": 1,
        "token": "", "lease_until_us": 0, "last_error": "",
    }  # fmt: skip
    statement = dialect.insert(JOB).values(row)
    new, old = statement.excluded, JOB.c
    rests = or_(old.state == "done", old.state == "dead")
    sooner = and_(old.state == "ready", old.due_us <= new.due_us)
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=[old.user_id, old.kind, old.key],
            set_={
                "generation": old.generation + new.generation,
                "due_us": case((sooner, old.due_us), else_=new.due_us),
                "attempts": case((rests, 0), else_=old.attempts),
                "state": case((rests, "ready"), else_=old.state),
            },
        )
    )
