"""The record of use: what was shown, what was cited, how sessions ended."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Integer, RowMapping, and_, case, cast, delete, func, select

from reflexio_store.errors import InvalidInputError
from reflexio_store.models import (
    ArmResult,
    GetSessionOutcomesRequest,
    LearningKind,
    SessionOutcome,
    SetSessionOutcomeResponse,
    Use,
)
from reflexio_store.records import InteractionRecord, TurnRecord

from .database import retried
from .dialects import Dialect
from .part import Part, chunks
from .tables import INTERACTION, OUTCOME, REQUEST, SESSION, SHOWN

_s, _o, _r = SHOWN.c, OUTCOME.c, REQUEST.c
_SAME_TURN: Final = and_(_r.user_id == _s.user_id, _r.request_id == _s.request_id)
_OF_SESSION: Final = and_(_o.user_id == _r.user_id, _o.session_id == _r.session_id)
_SAID: Final = ("outcome", "occurred_at", "label", "value", "details")


class Uses(Part):
    """The part of a home that keeps the record of use."""

    def uses(self, kind: LearningKind, learning_ids: Sequence[str], *, user_id: str | None = None) -> dict[str, Use]:
        """How learnings fared, by id; see the contract."""
        found: dict[str, Use] = {}
        counted = (func.count(), _many(_s.cited), _many(_o.outcome == "success"), _many(_o.outcome == "failure"))
        source = SHOWN.join(REQUEST, _SAME_TURN).outerjoin(OUTCOME, _OF_SESSION)
        with self._database.read() as connection:
            for part in chunks(list(dict.fromkeys(learning_ids))):
                which = [_s.kind == kind, _s.learning_id.in_(part)]
                if user_id is not None:
                    which.append(_s.user_id == user_id)
                statement = select(_s.learning_id, *counted).select_from(source).where(*which)
                for name, *counts in connection.execute(statement.group_by(_s.learning_id)):
                    found[name] = Use(*map(int, counts))
        return found

    @retried
    def mark_outcome(self, outcome: SessionOutcome) -> SetSessionOutcomeResponse:
        """Note how a session ended; the first report stands."""
        with self._database.write() as connection:
            first = self._held_request(connection, outcome)
            if first is None:
                return SetSessionOutcomeResponse(
                    success=False, reason="unknown_session", message=f"No turn of session {outcome.session_id} is known"
                )
            row = {
                **outcome.model_dump(include=set(_SAID)),
                "details": outcome.metadata,
                "user_id": first["user_id"],
                "session_id": outcome.session_id,
                "source": first["source"],
                "created_at": self._now_seconds(),
            }
            insert = self._database.dialect.insert(OUTCOME).on_conflict_do_nothing().returning(_o.user_id)
            recorded = connection.execute(insert, row).first() is not None
            if not recorded and not _is_said(connection, row):
                return SetSessionOutcomeResponse(
                    success=False,
                    reason="conflicting_outcome",
                    message="Another outcome was reported before; it stands",
                )
        said = "Recorded" if recorded else "This was recorded before"
        return SetSessionOutcomeResponse(
            success=True, recorded=recorded, message=said, user_id=first["user_id"], source=first["source"]
        )

    def _held_request(self, connection: Connection, outcome: SessionOutcome) -> RowMapping | None:
        """The earliest request of the session, read while its user is held: an outcome never outlives its session."""
        first = _first_request(connection, outcome)
        if first is None:
            return None
        self._database.dialect.hold(connection, [first["user_id"]])
        return _first_request(connection, outcome)

    def get_outcomes(self, query: GetSessionOutcomesRequest) -> list[SessionOutcome]:
        """Reported outcomes, the latest first."""
        equal = {name: getattr(query, name) for name in ("user_id", "source", "outcome", "label")}
        which: list[ColumnElement[bool]] = [
            OUTCOME.c[name] == value for name, value in equal.items() if value is not None
        ]
        if query.session_ids is not None:
            which.append(_o.session_id.in_(query.session_ids))
        if query.start_time is not None:
            which.append(_o.occurred_at >= query.start_time)
        if query.end_time is not None:
            which.append(_o.occurred_at <= query.end_time)
        order = (_o.occurred_at.desc(), _o.user_id, _o.session_id)
        statement = select(OUTCOME).where(*which).order_by(*order).limit(query.top_k).offset(query.offset)
        with self._database.read() as connection:
            return [outcome_value(row) for row in connection.execute(statement).mappings()]

    def experiment_results(self, experiment_id: str) -> list[ArmResult]:
        """How the sessions of an experiment ended: one result for each user and arm, without saying who."""
        sessions = (
            select(_r.user_id, _r.session_id, _r.retrieval_experiment_arm.label("arm"))
            .where(_r.retrieval_experiment_id == experiment_id, _r.retrieval_experiment_arm.is_not(None))
            .distinct()
            .subquery()
        )
        ended = and_(_o.user_id == sessions.c.user_id, _o.session_id == sessions.c.session_id)
        counted = (func.count(), _many(_o.outcome == "success"), _many(_o.outcome == "failure"))
        statement = select(sessions.c.arm, *counted).select_from(sessions.outerjoin(OUTCOME, ended))
        with self._database.read() as connection:
            found = connection.execute(statement.group_by(sessions.c.user_id, sessions.c.arm)).all()
        return [ArmResult(arm, int(all_), int(good), int(bad)) for arm, all_, good, bad in found]


def note_shown(connection: Connection, dialect: Dialect, turns: Iterable[TurnRecord]) -> None:
    """Note what was shown in new turns, and what they cited, where they say so."""
    rows = [row for turn in turns for row in _shown(turn)]
    if rows:
        connection.execute(dialect.insert(SHOWN).on_conflict_do_nothing(), rows)


def note_shown_again(connection: Connection, dialect: Dialect, user_id: str, request_id: str) -> None:
    """Note what is shown in a request now that one of its messages is gone."""
    connection.execute(delete(SHOWN).where(_s.user_id == user_id, _s.request_id == request_id))
    c = INTERACTION.c
    left = select(c.retrieved_learnings, c.citations).where(c.user_id == user_id, c.request_id == request_id)
    messages = [
        InteractionRecord("", retrieved_learnings=shown or [], citations=cited or [])
        for shown, cited in connection.execute(left)
    ]
    note_shown(connection, dialect, [TurnRecord(request_id, user_id, "", "", "", 0, messages)])


def _shown(turn: TurnRecord) -> list[dict[str, Any]]:
    shown = {
        (str(item["kind"]), str(item["learning_id"])) for made in turn.interactions for item in made.retrieved_learnings
    }
    if not shown:
        return []
    cited = {(str(item["kind"]), str(item["real_id"])) for made in turn.interactions for item in made.citations}
    of_turn = {"user_id": turn.user_id, "request_id": turn.request_id}
    return [{**of_turn, "kind": key[0], "learning_id": key[1], "cited": key in cited} for key in sorted(shown)]


def _many(condition: ColumnElement[bool]) -> ColumnElement[int]:
    return func.coalesce(func.sum(cast(case((condition, 1), else_=0), Integer)), 0)


def _first_request(connection: Connection, outcome: SessionOutcome) -> RowMapping | None:
    """The earliest request of the session that is meant, which tells its user and source (wire fact)."""
    owners = select(SESSION.c.user_id).where(SESSION.c.session_id == outcome.session_id)
    if outcome.user_id:
        owners = owners.where(SESSION.c.user_id == outcome.user_id)
    users = connection.execute(owners.limit(2)).scalars().all()
    if len(users) > 1:
        raise InvalidInputError(
            "The outcome was not recorded",
            [("user_id", f"several users have a session {outcome.session_id!r}: say whose is meant")],
        )
    if not users:
        return None
    which = and_(_r.user_id == users[0], _r.session_id == outcome.session_id)
    first = select(_r.user_id, _r.source).where(which).order_by(_r.created_at_us, _r.request_id).limit(1)
    return connection.execute(first).mappings().first()


def _is_said(connection: Connection, row: dict[str, Any]) -> bool:
    this = and_(_o.user_id == row["user_id"], _o.session_id == row["session_id"])
    known = connection.execute(select(OUTCOME).where(this)).mappings().one()
    return all(known[name] == row.get(name) for name in _SAID)


def outcome_row(outcome: SessionOutcome) -> dict[str, Any]:
    """The row of an outcome that was recorded before."""
    return {**outcome.model_dump(exclude={"metadata"}), "details": outcome.metadata}


def outcome_value(row: RowMapping) -> SessionOutcome:
    """The outcome that a row holds."""
    values = dict(row)
    return SessionOutcome.model_construct(**{**values, "metadata": values.pop("details")})
