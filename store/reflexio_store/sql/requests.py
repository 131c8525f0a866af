"""Storing turns: one transaction for a batch, the session and the job in it.

Full text of interactions is not: it was measured to make capture eight times slower, so it is caught up with when
someone searches (:mod:`.interactions`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from sqlalchemy import Connection

from reflexio_store.errors import InvalidInputError
from reflexio_store.records import TurnRecord

from .database import retried
from .dialects import Dialect
from .erasure import not_erased
from .jobs import ask_to_learn
from .moved_turns import leave_turns_unread
from .part import Part
from .rows import interaction_rows, request_row, storable
from .tables import INTERACTION, REQUEST, SESSION
from .uses import note_shown

_LONGER: Final = """
    first_at_us = CASE WHEN excluded.first_at_us < reflexio_session.first_at_us
        THEN excluded.first_at_us ELSE reflexio_session.first_at_us END,
    last_at_us = CASE WHEN excluded.last_at_us > reflexio_session.last_at_us
        THEN excluded.last_at_us ELSE reflexio_session.last_at_us END,
    n_requests = reflexio_session.n_requests + excluded.n_requests"""


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
            dialect.insert_all(connection, INTERACTION, (row for turn in new for row in interaction_rows(turn)))
            note_shown(connection, dialect, new)
            _note_sessions(connection, dialect, new)
            if learn_after is None:
                leave_turns_unread(connection, dialect, new)
            else:
                ask_to_learn(connection, dialect, new, now_us=self._clock(), learn_after=learn_after)
            return len(new)


def _note_sessions(connection: Connection, dialect: Dialect, turns: Iterable[TurnRecord]) -> None:
    sessions: dict[tuple[str, str], tuple[int, int, int]] = {}
    for turn in turns:
        at, key = turn.created_at_us, (turn.user_id, turn.session_id)
        first, last, count = sessions.get(key, (at, at, 0))
        sessions[key] = min(first, at), max(last, at), count + 1
    dialect.upsert(connection, SESSION, [(*key, *sessions[key]) for key in sorted(sessions)], _LONGER)
