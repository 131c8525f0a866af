"""Storing turns: one transaction for a batch, the session and the job in it.

Full text of interactions is not: it was measured to make capture eight times slower, so it is caught up with when
someone searches (:mod:`.interactions`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, case

from reflexio_store.errors import InvalidInputError
from reflexio_store.records import TurnRecord

from .database import retried
from .erasure import not_erased
from .jobs import ask_to_learn
from .moved_turns import leave_turns_unread
from .part import Part
from .rows import interaction_rows, request_row, storable
from .tables import INTERACTION, REQUEST, SESSION
from .uses import note_shown


class Turns(Part):
    """The part of a home that stores turns."""

    def add_turns(self, turns: Sequence[TurnRecord], *, learn_after: float | None = 0.0, restore: bool = False) -> int:
        """Store turns in one transaction and return how many were new; see the contract."""
        if not turns:
            return 0
        try:
            return self._add_all(turns, learn_after, restore)
        except InvalidInputError:  # rare, hence not looked for beforehand: one bad text must not stop its neighbours
            return self._add_all([storable(turn) for turn in turns], learn_after, restore)

    @retried
    def _add_all(self, turns: Sequence[TurnRecord], learn_after: float | None, restore: bool) -> int:
        named: dict[tuple[str, str], TurnRecord] = {}
        for turn in turns:
            named.setdefault((turn.user_id, turn.request_id), turn)
        dialect = self._database.dialect
        with self._database.write() as connection:
            wanted = list(named.values()) if restore else not_erased(connection, list(named.values()))
            stored = dialect.insert_new(connection, REQUEST, [request_row(turn) for turn in wanted]) if wanted else []
            new = [named[key] for key in stored]
            if not new:
                return 0
            dialect.insert_all(connection, INTERACTION, [row for turn in new for row in interaction_rows(turn)])
            note_shown(connection, dialect, new)
            self._note_sessions(connection, new)
            if learn_after is None:
                leave_turns_unread(connection, new)
            else:
                ask_to_learn(connection, dialect, new, now_us=self._clock(), learn_after=learn_after)
            return len(new)

    def _note_sessions(self, connection: Connection, turns: Iterable[TurnRecord]) -> None:
        sessions: dict[tuple[str, str], dict[str, Any]] = {}
        for turn in turns:
            at = turn.created_at_us
            row = sessions.setdefault(
                (turn.user_id, turn.session_id),
                {
                    "user_id": turn.user_id,
                    "session_id": turn.session_id,
                    "first_at_us": at,
                    "last_at_us": at,
                    "n_requests": 0,
                },
            )
            row["first_at_us"], row["last_at_us"] = min(row["first_at_us"], at), max(row["last_at_us"], at)
            row["n_requests"] += 1
        statement = self._database.dialect.insert(SESSION)
        new, old = statement.excluded, SESSION.c
        connection.execute(
            statement.on_conflict_do_update(
                index_elements=[old.user_id, old.session_id],
                set_={
                    "first_at_us": case((new.first_at_us < old.first_at_us, new.first_at_us), else_=old.first_at_us),
                    "last_at_us": case((new.last_at_us > old.last_at_us, new.last_at_us), else_=old.last_at_us),
                    "n_requests": old.n_requests + new.n_requests,
                },
            ),
            [sessions[key] for key in sorted(sessions)],
        )
