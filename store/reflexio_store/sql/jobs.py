"""Durable jobs with leases, in the same database: a job commits together with the turn that asks for it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    Connection,
    RowMapping,
    Select,
    and_,
    case,
    delete,
    func,
    literal,
    or_,
    select,
    update,
)

from reflexio_store.contract import Job, JobState
from reflexio_store.ids import uuid7
from reflexio_store.json_text import dumps_for_jsonb
from reflexio_store.records import TurnRecord

from .database import retried
from .dialects import Dialect, Row
from .erasure import gone
from .part import Part
from .tables import JOB, UNLEARNED

LEARN: Final = "learn"
"""The kind of the job that learns from a session; its key is the session_id."""
AGGREGATE: Final = "aggregate"
"""The kind of the job that looks for what users agree on; its key is the agent_version, its user nobody."""
PURGE: Final = "purge"
"""The kind of the job that deletes what has expired; there is one, of nobody."""

OPEN: Final = ("ready", "running", "dead")
"""States of a job that is not done."""
_AT_ONCE = ("force_extraction", "session_finished")
_MAX_ERROR = 10_000  # characters of an error that are kept
_CURRENT = "current_user_id"
_NAMING = ("processed_user_ids", "failed_user_ids")
_QUOTING = ("error_message", "waits_for")
"""What the result of a job that works for many users says of them: at whom it is, with whom it is done, and errors."""
_c = JOB.c
_ASKED_AGAIN: Final = """
    generation = reflexio_job.generation + excluded.generation,
    due_us = CASE WHEN reflexio_job.state = 'ready' AND reflexio_job.due_us <= ?
        THEN reflexio_job.due_us ELSE excluded.due_us END,
    attempts = CASE WHEN reflexio_job.state IN ('done', 'dead') THEN 0 ELSE reflexio_job.attempts END,
    state = CASE WHEN reflexio_job.state IN ('done', 'dead') THEN 'ready' ELSE reflexio_job.state END,
    payload = coalesce(excluded.payload, reflexio_job.payload)"""


class JobQueue(Part):
    """The part of a home that hands out work."""

    _flowing: set[str]
    """Kinds of which the last look found a job: there are likely more, so that the next one takes it at once."""

    @retried
    def put_job(
        self, kind: str, key: str, *, user_id: str = "", due_after: float = 0.0, payload: dict[str, Any] | None = None
    ) -> None:
        """Ask for a piece of work, ``due_after`` seconds from now; see the contract."""
        said = None if payload is None else dumps_for_jsonb(payload)
        row = _asked(user_id, kind, key, due_us=self._lease(due_after), times=1, payload=said)
        owner = user_id or _asked_for(payload)
        with self._database.write() as connection:
            self._database.dialect.hold(connection, [owner] if owner else [])
            if not gone(connection, [owner]):
                _ask(connection, self._database.dialect, [row], now_us=self._clock())

    @retried
    def claim_job(self, kind: str, *, lease_seconds: float) -> Job | None:
        """Take the job that has been due longest, or one whose lease ran out; None if there is none."""
        if kind not in self._flowing and self._is_empty(kind):
            return None
        with self._database.write() as connection:
            row = self._next(connection, kind, taking=True)
            if row is None:
                self._flowing.discard(kind)
                return None
            self._flowing.add(kind)
            job = Job(
                user_id=row["user_id"],
                kind=kind,
                key=row["key"],
                token=uuid7(),
                attempts=row["attempts"] + 1,
                generation=row["generation"],
                lease_until_us=self._lease(lease_seconds),
                payload=row["payload"] or {},
            )
            values = {"state": "running", "token": job.token, "attempts": job.attempts}
            connection.execute(update(JOB).where(_is(job)).values(**values, lease_until_us=job.lease_until_us))
            return job

    def _is_empty(self, kind: str) -> bool:
        """Whether no job is due: to look for that must not take turns with the writers."""
        with self._database.read() as connection:
            return self._next(connection, kind) is None

    def _next(self, connection: Connection, kind: str, *, taking: bool = False) -> RowMapping | None:
        """The job to do next; when ``taking``, one that no other worker is taking, kept from the others."""
        now = self._clock()
        due = and_(_c.kind == kind, _c.state == _inline("ready"), _c.due_us <= now)
        lost = and_(_c.kind == kind, _c.state == _inline("running"), _c.lease_until_us <= now)
        found: list[RowMapping] = []
        for which, order in ((due, _c.due_us), (lost, _c.lease_until_us)):
            oldest = select(JOB).where(which).order_by(order).limit(1)
            found += connection.execute(oldest.with_for_update(skip_locked=True) if taking else oldest).mappings()
        return min(found, key=lambda row: int(row["due_us"]), default=None)

    def _lease(self, seconds: float) -> int:
        return self._clock() + round(seconds * 1_000_000)

    def extend_job(self, job: Job, *, lease_seconds: float, result: dict[str, Any] | None = None) -> bool:
        """Keep a job for longer, and note how far it is as its result so far; False if it was lost to another."""
        noted = {} if result is None else {"result": result}
        return self._change_held(job, {"lease_until_us": self._lease(lease_seconds), **noted})

    def finish_job(self, job: Job, result: dict[str, Any]) -> bool:
        """Note a job as done with its result (or ready again, if it was asked for meanwhile); False if lost."""
        asked_again = _c.generation != job.generation
        return self._change_held(
            job,
            {"state": case((asked_again, "ready"), else_="done"), "result": result, "attempts": 0, "last_error": ""},
        )

    def fail_job(self, job: Job, error: str, *, retry_after: float | None) -> bool:
        """Note a failure: due again after ``retry_after`` seconds, or dead where that is None; False if lost.

        A job that was asked for again while it ran does not die: what is new may succeed.
        """
        values: dict[str, Any] = {"last_error": error[:_MAX_ERROR]}
        if retry_after is None:
            asked_again = _c.generation != job.generation
            values["state"] = case((asked_again, "ready"), else_="dead")
            values["attempts"] = case((asked_again, 0), else_=_c.attempts)
        else:
            values |= {"state": "ready", "due_us": self._lease(retry_after)}
        return self._change_held(job, values)

    def release_job(self, job: Job, *, due_after: float = 0.0) -> bool:
        """Give a job back undone, due again after some seconds; this attempt does not count; False if lost."""
        due_us = self._lease(due_after)
        return self._change_held(job, {"state": "ready", "due_us": due_us, "attempts": job.attempts - 1})

    @retried
    def _change_held(self, job: Job, values: dict[str, Any]) -> bool:
        if "state" in values:
            values = {**values, "token": "", "lease_until_us": 0}
        with self._database.write() as connection:
            held = and_(_is(job), _c.state == "running", _c.token == job.token)
            if not job.user_id:
                values = _without_the_gone(connection, held, values)
            return connection.execute(update(JOB).where(held).values(values)).rowcount == 1

    @retried
    def hasten_jobs(self, kind: str, *, user_id: str | None = None, key: str | None = None) -> int:
        """Make waiting jobs due now; how many. A running one that was asked for again will be due at once, too."""
        now = self._clock()
        with self._database.write() as connection:
            which = and_(*_chosen(kind, user_id, key), _c.due_us > now)
            connection.execute(update(JOB).where(which, _c.state == "running").values(due_us=now))
            return connection.execute(update(JOB).where(which, _c.state == "ready").values(due_us=now)).rowcount

    def job_states(
        self,
        kind: str,
        *,
        user_id: str | None = None,
        key: str | None = None,
        states: Sequence[str] | None = None,
        limit: int = 1000,
    ) -> list[JobState]:
        """Where jobs stand, the one due first first."""
        which = _chosen(kind, user_id, key)
        if states is not None:
            which.append(_c.state.in_(states))
        statement = select(JOB).where(*which).order_by(_c.due_us, _c.user_id, _c.key).limit(limit)
        with self._database.read() as connection:
            return [_state(row) for row in connection.execute(statement).mappings()]

    @retried
    def retry_dead_jobs(self, kind: str | None = None) -> int:
        """Make dead jobs (of a kind, or all) ready again; how many."""
        again = update(JOB).where(_c.state == _inline("dead"))
        if kind is not None:
            again = again.where(_c.kind == kind)
        with self._database.write() as connection:
            return connection.execute(again.values(state="ready", attempts=0, due_us=self._clock())).rowcount

    def backlog(self) -> dict[str, int]:
        """How many jobs are open; each count reads the small index of that state."""
        with self._database.read() as connection:
            return {f"jobs_{state}": connection.execute(_counted(state)).scalar_one() for state in OPEN}


def ask_to_learn(
    connection: Connection, dialect: Dialect, turns: Iterable[TurnRecord], *, now_us: int, learn_after: float
) -> None:
    """Ask for the learning from each turn's session: a job that waits is put off, one that is due already is not."""
    later = now_us + round(learn_after * 1_000_000)
    asked: dict[tuple[str, str], tuple[int, int]] = {}
    unread: list[Row] = []
    for turn in turns:
        if not turn.user_id or turn.options.get("evaluation_only"):
            continue
        at_once = any(bool(turn.options.get(name)) for name in _AT_ONCE)
        unread.append((turn.user_id, turn.session_id, "", turn.request_id, len(turn.interactions), at_once))
        session = turn.user_id, turn.session_id
        due_us, times = asked.get(session, (later, 0))
        asked[session] = min(due_us, now_us) if at_once else due_us, times + 1
    if asked:
        dialect.insert_all(connection, UNLEARNED, unread)
        rows = [
            _asked(user_id, LEARN, session_id, due_us=due_us, times=times)
            for (user_id, session_id), (due_us, times) in sorted(asked.items())
        ]
        _ask(connection, dialect, rows, now_us=now_us)


def _ask(connection: Connection, dialect: Dialect, rows: Sequence[Row], *, now_us: int) -> None:
    dialect.upsert(connection, JOB, rows, _ASKED_AGAIN, now_us)


def _asked(user_id: str, kind: str, key: str, *, due_us: int, times: int, payload: str | None = None) -> Row:
    """The row of a job that is ready, in the order of its table's columns; ``payload`` is JSON text."""
    return user_id, kind, key, "ready", due_us, 0, times, "", 0, "", payload, None


def _counted(state: str) -> Select[int]:
    return select(func.count()).select_from(JOB).where(_c.state == _inline(state))


def _inline(state: str) -> ColumnElement[str]:
    """A state written into the statement: a bound one would not let the planner use the partial index."""
    return literal(state, literal_execute=True)


def _is(job: Job) -> ColumnElement[bool]:
    return and_(_c.user_id == job.user_id, _c.kind == job.kind, _c.key == job.key)


def _chosen(kind: str, user_id: str | None, key: str | None) -> list[ColumnElement[bool]]:
    which = [_c.kind == kind]
    if user_id is not None:
        which.append(_c.user_id == user_id)
    if key is not None:
        which.append(_c.key == key)
    return which


def _state(row: RowMapping) -> JobState:
    return JobState(
        user_id=row["user_id"],
        kind=row["kind"],
        key=row["key"],
        state=row["state"],
        attempts=row["attempts"],
        due_us=row["due_us"],
        last_error=row["last_error"],
        result=row["result"] or {},
        payload=row["payload"] or {},
    )


def is_learning() -> ColumnElement[bool]:
    """Whether a job learns from a session: its kind is ``learn``, or ``learn.`` and the name of an extractor."""
    return or_(_c.kind == LEARN, _c.kind.startswith(f"{LEARN}.", autoescape=True))


def forget_in_jobs(connection: Connection, user_id: str) -> None:
    """Let the jobs of nobody, which work for many users, no longer say that a user was one of them, or quote errors;
    what was asked for this user alone goes."""
    nobodys = and_(_c.user_id == "", or_(_c.result.is_not(None), _c.payload.is_not(None), _c.last_error != ""))
    rows = select(JOB).where(nobodys).order_by(_c.kind, _c.key).with_for_update()
    for row in connection.execute(rows).mappings().all() if user_id else ():
        this = and_(_c.user_id == "", _c.kind == row["kind"], _c.key == row["key"])
        if _asked_for(row["payload"]) == user_id:
            connection.execute(delete(JOB).where(this))
        else:
            values = {"result": _without(row["result"], user_id), "last_error": ""}
            connection.execute(update(JOB).where(this).values(values))


def _without_the_gone(connection: Connection, held: ColumnElement[bool], values: dict[str, Any]) -> dict[str, Any]:
    """What is to be noted of a job of nobody, without what it says of users who were deleted while it ran.

    The job is held from here on: a delete that is not seen yet cleans it afterwards.
    """
    before = connection.execute(select(_c.result).where(held).with_for_update()).scalar()
    result = values.get("result", before or {})
    done = (name for key in _NAMING for name in result.get(key, ()))
    strangers = gone(connection, [result.get(_CURRENT) or "", *done])
    if "last_error" in values and _CURRENT in result and (result[_CURRENT] is None or result[_CURRENT] in strangers):
        values = {**values, "last_error": ""}  # it may quote what was forgotten
    if "result" in values:
        for name in strangers:
            result = _without(result, name)
        values = {**values, "result": result}
    return values


def _asked_for(payload: dict[str, Any] | None) -> str:
    """The one user whom a job of nobody is for, or ``""``."""
    return str((payload or {}).get("params", {}).get("user_id") or "")


def _without(value: Any, name: str) -> Any:
    """A JSON value in which ``name`` stands nowhere as a text of its own, and no error is quoted."""
    if isinstance(value, dict):
        return {key: _without(item, name) for key, item in value.items() if key not in _QUOTING}
    if isinstance(value, list):
        return [_without(item, name) for item in value if item != name]
    return None if value == name else value


def make_due(connection: Connection, user_id: str, session_ids: Sequence[str], *, now_us: int) -> None:
    """Make the jobs due that learn from these sessions, also those that run and were asked for again."""
    which = and_(_c.user_id == user_id, _c.key.in_(session_ids), is_learning(), _c.due_us > now_us)
    connection.execute(update(JOB).where(which, _c.state.in_(("ready", "running"))).values(due_us=now_us))
