"""Moving house on a SQL home: its rows as records in the order of their keys, and records as rows."""

from __future__ import annotations

import base64
import binascii
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, Final, cast

import orjson
from sqlalchemy import Column, ColumnElement, Connection, RowMapping, Table, and_, false, select, true, tuple_

from reflexio_store.errors import InvalidInputError
from reflexio_store.models import Evidence, Learning
from reflexio_store.moving import (
    RECORD_KINDS,
    JobRecord,
    Record,
    RecordKind,
    RecordPage,
    Stored,
    Support,
    record_kind,
)
from reflexio_store.records import TurnRecord

from .compaction import COMPACT, Compaction
from .database import retried
from .kinds import NOT_GIVEN, Kind, kind_named
from .learning_rows import insert_rows, named, remove_rows, values_of
from .moved_turns import name_of, turns_here, turns_in
from .part import among
from .plain_rows import PLAIN_ROWS, PlainRows, put_plain
from .requests import Turns
from .rows import storable
from .sharing import put_support, supports_of
from .tables import AGENT_PLAYBOOK, EVIDENCE, JOB, REQUEST
from .unread import ask_for_unread, leave_sessions_unread

_LEARNED: Final[tuple[RecordKind, ...]] = ("profile", "user_playbook", "agent_playbook")
_TABLES: Final[dict[RecordKind, Table]] = {
    "request": REQUEST,
    **{kind: kind_named(kind).table for kind in _LEARNED},
    "support": AGENT_PLAYBOOK,
    "job": JOB,
    **{kind: plain.table for kind, plain in PLAIN_ROWS.items()},
}
_ONLY: Final[dict[RecordKind, ColumnElement[bool]]] = {
    "support": AGENT_PLAYBOOK.c.needs > 0,
    "job": JOB.c.kind != COMPACT,
}
_JOB_FIELDS: Final = ("user_id", "kind", "key", "due_us", "attempts", "last_error")
_NOT_HELD: Final = {"generation": 1, "token": "", "lease_until_us": 0}

Name = tuple[Any, Any]
Placed = tuple[dict[str, Any], Sequence[Evidence]]


class Records(Turns, Compaction):
    """The part of a home that moves all it keeps; see :class:`~reflexio_store.moving.Moving`."""

    def read_records(
        self, kind: RecordKind, *, user_id: str | None = None, cursor: str | None = None, limit: int = 500
    ) -> RecordPage:
        """Everything of one kind in the order of its keys, one page of it; see the contract."""
        table = _TABLES[kind]
        key = _key_of(table)
        which = [_ONLY.get(kind, true())]
        if user_id is not None:
            which.append(_held_on(table, user_id))
        if cursor is not None:
            which.append(tuple_(*key) > tuple_(*_place(cursor, len(key))))
        statement = select(table).where(*which).order_by(*key).limit(limit)
        with self._database.read() as connection:
            rows = connection.execute(statement).mappings().all()
            records = _records(connection, kind, rows)
        if len(rows) < limit and len(records) == len(rows):
            return RecordPage(records)
        return RecordPage(records, _cursor(rows[len(records) - 1], key))

    def put_records(self, records: Sequence[Record]) -> Stored:
        """Store records as they are; each kind of them in a transaction of its own."""
        by_kind: dict[RecordKind, list[Any]] = defaultdict(list)
        for record in records:
            by_kind[record_kind(record)].append(record)
        return sum((self._put(by_kind[kind], kind) for kind in RECORD_KINDS if kind in by_kind), start=Stored())

    def losses(self) -> list[str]:
        """None: a SQL home keeps every record whole. (Indexes and vectors are no records: each makes its own.)"""
        return []

    def _put(self, records: Sequence[Any], kind: RecordKind) -> Stored:
        if kind == "request":
            return self._put_turns(records)
        if kind == "support":
            return self._put_support(records)
        if kind == "job":
            return self._put_jobs(records)
        if kind in PLAIN_ROWS:
            return self._put_plain(PLAIN_ROWS[kind], records)
        return self._put_learnings(kind_named(kind), records)

    def _put_turns(self, turns: Sequence[TurnRecord]) -> Stored:
        new = self.add_turns(turns, learn_after=None, restore=True)
        if new == len(turns):
            return Stored(new=new)
        with self._database.read() as connection:
            here = turns_here(connection, turns)
            others = [storable(turn) for turn in turns if here.get(name_of(turn)) != turn]
            here = turns_here(connection, others)
        differ = sum(here.get(name_of(turn)) != turn for turn in others)
        return Stored(new=new, same=len(turns) - new - differ, differ=differ)

    @retried
    def _put_plain(self, kind: PlainRows, records: Sequence[Any]) -> Stored:
        with self._database.write() as connection:
            return put_plain(connection, self._database.dialect, kind, records)

    @retried
    def _put_support(self, supports: Sequence[Support]) -> Stored:
        with self._database.write() as connection:
            return put_support(connection, self._database.dialect, supports)

    @retried
    def _put_jobs(self, jobs: Sequence[JobRecord]) -> Stored:
        dialect = self._database.dialect
        with self._database.write() as connection:
            dialect.hold(connection, {job.user_id for job in jobs})
            absent = dialect.insert(JOB).on_conflict_do_nothing().returning(*_key_of(JOB))
            new = {tuple(name) for name in connection.execute(absent, [_job_row(job) for job in jobs])}
            leave_sessions_unread(connection, dialect, [job for job in jobs if job.rereads])
            known = [job for job in jobs if (job.user_id, job.kind, job.key) not in new]
            ask_for_unread(connection, [job for job in known if job.state == "ready"])
        return Stored(new=len(new), same=len(jobs) - len(new))

    @retried
    def _put_learnings(self, kind: Kind, learnings: Sequence[Learning]) -> Stored:
        placed: dict[Name, Placed] = {}
        for learning in learnings:
            row = kind.row(learning)
            row[kind.key] = row[kind.key] or kind.new_key()
            evidence = sorted(set(getattr(learning, "evidence", ())), key=_place_of)
            placed[row[kind.owner], row[kind.key]] = row, evidence
        with self._database.write() as connection:
            self._database.dialect.hold(connection, {kind.holder(owner) for owner, _ in placed})
            here = _learnings_here(connection, kind, placed)
            changed = {key for key, value in here.items() if value != placed[key]}
            self._remove(connection, kind, changed)
            stored = [value for key, value in placed.items() if key in changed or key not in here]
            insert_rows(connection, self._database.dialect, kind, [row for row, _ in stored], noted=False)
            self._add_evidence(connection, kind, stored)
        if changed:
            self._compact_later()
        new = len(placed) - len(here)
        return Stored(new=new, replaced=len(changed), same=len(learnings) - new - len(changed))

    def _remove(self, connection: Connection, kind: Kind, keys: Iterable[Name]) -> None:
        by_owner: dict[str, list[str]] = defaultdict(list)
        for owner, key in keys:
            by_owner[owner].append(str(key))
        for owner, ids in by_owner.items():
            owned = and_(kind.column(kind.owner) == owner, named(kind, ids))
            remove_rows(connection, self._database.dialect, kind, owned)

    def _add_evidence(self, connection: Connection, kind: Kind, stored: Iterable[Placed]) -> None:
        rows = [
            {"user_id": row["user_id"], "kind": kind.name, "learning_id": str(row[kind.key]), **item.model_dump()}
            for row, evidence in stored
            for item in evidence
        ]
        if rows:
            connection.execute(self._database.dialect.insert(EVIDENCE).on_conflict_do_nothing(), rows)


def _held_on(table: Table, user_id: str) -> ColumnElement[bool]:
    """What of a table is held on one user. Agent playbooks are nobody's."""
    return table.c.user_id == user_id if "user_id" in table.c else false()


def _records(connection: Connection, kind: RecordKind, rows: Sequence[RowMapping]) -> list[Record]:
    """The records that rows are; of large requests only the first."""
    if kind == "request":
        return list(turns_in(connection, rows))
    if kind == "support":
        return list(supports_of(connection, rows))
    if kind == "job":
        return [_job(row) for row in rows]
    if kind in PLAIN_ROWS:
        return list(map(PLAIN_ROWS[kind].value, rows))
    return cast("list[Record]", values_of(connection, kind_named(kind), rows))


def _learnings_here(connection: Connection, kind: Kind, keys: Iterable[Name]) -> dict[Name, Placed]:
    owner, key = kind.column(kind.owner), kind.column(kind.key)
    here: dict[Name, Placed] = {}
    for some in among(owner, key, keys):
        rows = connection.execute(select(kind.table).where(some)).mappings().all()
        for row, value in zip(rows, values_of(connection, kind, rows), strict=True):
            given = {name: item for name, item in row.items() if name not in NOT_GIVEN}
            here[row[kind.owner], row[kind.key]] = given, list(getattr(value, "evidence", ()))
    return here


def _job(row: RowMapping) -> JobRecord:
    state = "ready" if row["state"] == "running" else row["state"]
    fields = {name: row[name] for name in _JOB_FIELDS}
    return JobRecord(**fields, state=state, payload=row["payload"] or {}, result=row["result"] or {})


def _job_row(job: JobRecord) -> dict[str, Any]:
    fields = {name: getattr(job, name) for name in _JOB_FIELDS}
    return {**fields, "state": job.state, "payload": job.payload or None, "result": job.result or None, **_NOT_HELD}


def _place_of(item: Evidence) -> tuple[str, int]:
    return item.request_id, item.interaction_index


def _key_of(table: Table) -> list[Column[Any]]:
    return list(table.primary_key.columns)


def _cursor(row: RowMapping, key: Sequence[Column[Any]]) -> str:
    return base64.urlsafe_b64encode(orjson.dumps([row[column.name] for column in key])).decode()


def _place(cursor: str, length: int) -> list[Any]:
    try:
        values = orjson.loads(base64.urlsafe_b64decode(cursor))
        if not isinstance(values, list) or len(values) != length:
            raise ValueError("of another kind")
    except (ValueError, binascii.Error) as error:
        problem = ("cursor", "is not a next_cursor of this kind of record; leave it out to begin anew")
        raise InvalidInputError("The records were not read", [problem]) from error
    return values
