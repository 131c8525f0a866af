"""Moving house on a SQL home: its rows as records in the order of their keys, and records as rows."""

from __future__ import annotations

import base64
import binascii
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import fields
from itertools import takewhile
from math import inf
from typing import Any, Final, cast

import orjson
from sqlalchemy import Column, ColumnElement, Connection, RowMapping, Table, and_, false, select, tuple_

from reflexio_store.errors import InvalidInputError
from reflexio_store.models import Evidence, Learning
from reflexio_store.moving import (
    Dismissal,
    JobRecord,
    OptOut,
    Record,
    RecordKind,
    RecordPage,
    Stored,
    Support,
    record_kind,
)
from reflexio_store.records import InteractionRecord, TurnRecord

from .database import retried
from .kinds import NOT_GIVEN, Kind, kind_named
from .learning_rows import insert_rows, named, remove_rows, values_of
from .part import among
from .requests import Turns
from .rows import storable
from .sharing import put_support, supports_of
from .tables import (
    AGENT_PLAYBOOK,
    DISMISSED,
    EVIDENCE,
    INTERACTION,
    JOB,
    OPT_OUT,
    OUTCOME,
    PROFILE,
    REQUEST,
    USER_PLAYBOOK,
)
from .unread import leave_unread
from .uses import outcome_row, outcome_value

_TABLES: Final[dict[RecordKind, Table]] = {
    "request": REQUEST,
    "profile": PROFILE,
    "user_playbook": USER_PLAYBOOK,
    "agent_playbook": AGENT_PLAYBOOK,
    "support": AGENT_PLAYBOOK,
    "dismissal": DISMISSED,
    "opt_out": OPT_OUT,
    "outcome": OUTCOME,
    "job": JOB,
}
_PAGE_CHARACTERS: Final = 8_000_000  # of messages: a page of requests that hold more than this is cut short
_ROWS_AT_ONCE: Final = 100  # held in memory on their way from a server
_LISTS: Final = ("tools_used", "citations", "retrieved_learnings")
_REQUEST_FIELDS: Final = sorted({item.name for item in fields(TurnRecord)} - {"interactions", "metadata", "options"})
_MESSAGE_COLUMNS: Final = [
    *(INTERACTION.c[name] for name in ("user_id", "request_id", "seq")),
    *(INTERACTION.c[item.name] for item in fields(InteractionRecord) if item.name != "place"),
]
_JOB_FIELDS: Final = ("user_id", "kind", "key", "due_us", "attempts", "last_error")
_NOT_HELD: Final = {"generation": 1, "token": "", "lease_until_us": 0}

Name = tuple[Any, Any]
Placed = tuple[dict[str, Any], Sequence[Evidence]]


class Records(Turns):
    """The part of a home that moves all it keeps; see :class:`~reflexio_store.moving.Moving`."""

    def read_records(
        self, kind: RecordKind, *, user_id: str | None = None, cursor: str | None = None, limit: int = 500
    ) -> RecordPage:
        """Everything of one kind in the order of its keys, one page of it; see the contract."""
        table = _TABLES[kind]
        key = _key_of(table)
        which = [] if user_id is None else [_held_on(table, user_id)]
        if kind == "support":
            which.append(AGENT_PLAYBOOK.c.needs > 0)
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
        return sum((self._put(by_kind[kind], kind) for kind in _TABLES if kind in by_kind), start=Stored())

    def losses(self) -> list[str]:
        """None: a SQL home keeps every record whole. (What it does not give as a record is derived, or its own: search
        indexes and vectors, the history of learnings, the account of models, digests of what was deleted.)"""
        return []

    def _put(self, records: Sequence[Any], kind: RecordKind) -> Stored:
        if kind == "request":
            return self._put_turns(records)
        if kind == "dismissal":
            return self._put_absent(DISMISSED, [_plain_row(record) for record in records])
        if kind == "opt_out":
            return self._put_absent(OPT_OUT, [_plain_row(record) for record in records])
        if kind == "support":
            return self._put_support(records)
        if kind == "outcome":
            return self._put_absent(OUTCOME, [outcome_row(record) for record in records])
        if kind == "job":
            return self._put_jobs(records)
        return self._put_learnings(kind_named(kind), records)

    def _put_turns(self, turns: Sequence[TurnRecord]) -> Stored:
        new = self.add_turns(turns, learn_after=None, restore=True)
        if new == len(turns):
            return Stored(new=new)
        with self._database.read() as connection:
            here = _turns_here(connection, turns)
            others = [storable(turn) for turn in turns if here.get(_name(turn)) != turn]
            here = _turns_here(connection, others)
        differ = sum(here.get(_name(turn)) != turn for turn in others)
        return Stored(new=new, same=len(turns) - new - differ, differ=differ)

    @retried
    def _put_absent(self, table: Table, rows: Sequence[dict[str, Any]]) -> Stored:
        with self._database.write() as connection:
            return self._inserted(connection, table, rows)

    @retried
    def _put_support(self, supports: Sequence[Support]) -> Stored:
        with self._database.write() as connection:
            return put_support(connection, self._database.dialect, supports)

    @retried
    def _put_jobs(self, jobs: Sequence[JobRecord]) -> Stored:
        with self._database.write() as connection:
            stored = self._inserted(connection, JOB, [_job_row(job) for job in jobs])
            leave_unread(connection, self._database.dialect, jobs)
            return stored

    def _inserted(self, connection: Connection, table: Table, rows: Sequence[dict[str, Any]]) -> Stored:
        self._database.dialect.hold(connection, {row["user_id"] for row in rows})
        statement = self._database.dialect.insert(table).on_conflict_do_nothing().returning(table.c.user_id)
        new = len(connection.execute(statement, rows).all())
        return Stored(new=new, same=len(rows) - new)

    @retried
    def _put_learnings(self, kind: Kind, learnings: Sequence[Learning]) -> Stored:
        placed: dict[Name, Placed] = {}
        for learning in learnings:
            row = kind.row(learning)
            row[kind.key] = row[kind.key] or kind.new_key()
            evidence = sorted(set(getattr(learning, "evidence", ())), key=_place_of)
            placed[row[kind.owner], row[kind.key]] = row, evidence
        with self._database.write() as connection:
            self._database.dialect.hold(connection, {owner for owner, _ in placed})
            here = _learnings_here(connection, kind, placed)
            changed = {key for key, value in here.items() if value != placed[key]}
            self._remove(connection, kind, changed)
            stored = [value for key, value in placed.items() if key in changed or key not in here]
            insert_rows(connection, self._database.dialect, kind, [row for row, _ in stored])
            self._add_evidence(connection, kind, stored)
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
        return list(_turns(connection, rows))
    if kind == "support":
        return list(supports_of(connection, rows))
    if kind == "dismissal":
        return [Dismissal(**row) for row in rows]
    if kind == "opt_out":
        return [OptOut(**row) for row in rows]
    if kind == "outcome":
        return [outcome_value(row) for row in rows]
    if kind == "job":
        return [_job(row) for row in rows]
    return cast("list[Record]", values_of(connection, kind_named(kind), rows))


def _turns(connection: Connection, rows: Sequence[RowMapping]) -> list[TurnRecord]:
    if not rows:
        return []
    span = tuple_(*_MESSAGE_COLUMNS[:2])
    which = and_(span >= tuple_(*_name_in(rows[0])), span <= tuple_(*_name_in(rows[-1])))
    messages, beyond = _messages(connection, which, _PAGE_CHARACTERS)
    whole = takewhile(lambda row: _name_in(row) != beyond, rows)
    return [_turn(row, messages[_name_in(row)]) for row in whole]


def _messages(
    connection: Connection, which: ColumnElement[bool], most: float = inf
) -> tuple[dict[Name, list[InteractionRecord]], Name | None]:
    """The messages of requests, in order; where they hold more than ``most`` characters, those of the first requests,
    and the name of the one to go on with."""
    messages: dict[Name, list[InteractionRecord]] = defaultdict(list)
    size = 0
    statement = select(*_MESSAGE_COLUMNS).where(which).order_by(*_key_of(INTERACTION))
    rows: Iterable[Any] = connection.execute(statement.execution_options(yield_per=_ROWS_AT_ONCE))
    for row in rows:
        name = row[0], row[1]
        if size > most and name not in messages:
            return messages, name
        item = InteractionRecord(*row[3:])
        for listed in _LISTS:
            if getattr(item, listed) is None:
                setattr(item, listed, [])
        if row[2] != len(messages[name]):
            item.place = row[2]
        messages[name].append(item)
        size += len(item.content) + len(item.shadow_content) + len(item.expert_content) + len(item.image_encoding)
    return messages, None


def _turn(row: RowMapping, messages: list[InteractionRecord]) -> TurnRecord:
    """The turn that a request's row and its messages are."""
    values = {name: row[name] for name in _REQUEST_FIELDS}
    return TurnRecord(**values, interactions=messages, metadata=row["details"] or {}, options=row["options"] or {})


def _turns_here(connection: Connection, turns: Sequence[TurnRecord]) -> dict[Name, TurnRecord]:
    """The turns that are stored under the names of these."""
    here: dict[Name, TurnRecord] = {}
    names = [_name(turn) for turn in turns]
    messages: dict[Name, list[InteractionRecord]] = {}
    for some in among(INTERACTION.c.user_id, INTERACTION.c.request_id, names):
        messages |= _messages(connection, some)[0]
    for some in among(REQUEST.c.user_id, REQUEST.c.request_id, names):
        requests = connection.execute(select(REQUEST).where(some)).mappings()
        here |= {_name_in(row): _turn(row, messages.get(_name_in(row), [])) for row in requests}
    return here


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


def _plain_row(item: Dismissal | OptOut) -> dict[str, Any]:
    return {name: getattr(item, name) for name in item.__dataclass_fields__}


def _place_of(item: Evidence) -> tuple[str, int]:
    return item.request_id, item.interaction_index


def _name(turn: TurnRecord) -> Name:
    return turn.user_id, turn.request_id


def _name_in(row: RowMapping) -> Name:
    return row["user_id"], row["request_id"]


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
