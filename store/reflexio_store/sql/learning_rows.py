"""Rows of learnings, their evidence and their full text, kept in step: all writes of learnings go through here."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    RowMapping,
    Select,
    String,
    and_,
    bindparam,
    cast,
    delete,
    exists,
    false,
    func,
    insert,
    literal_column,
    or_,
    select,
    update,
)

from reflexio_store.ids import interaction_id
from reflexio_store.models import Evidence, Learning, LearningKind, LearningQuery, PlaybookStatus, Status

from .column_types import listed
from .dialects import Dialect
from .documents import drop_documents, put_documents
from .history import forget_history, note, note_change
from .kinds import KINDS, PROFILES, Kind
from .part import among, chunks, seconds_from
from .rows import trusted
from .tables import EVIDENCE, SUPPORT

_e, _s = EVIDENCE.c, SUPPORT.c
_EQUAL = ("user_id", "agent_version", "playbook_name", "source", "profile_time_to_live")


def insert_rows(
    connection: Connection, dialect: Dialect, kind: Kind, rows: Sequence[dict[str, Any]], *, noted: bool = True
) -> None:
    """Store new rows and their full text; ``noted`` in their history, unless that comes along with them."""
    if rows:
        connection.execute(insert(kind.table), list(rows))
        if kind.personal and noted:
            note(connection, kind, "added", [row for row in rows if row["status"] is None])
        put_documents(connection, dialect, [kind.document(row) for row in rows])


def rewrite_row(
    connection: Connection, dialect: Dialect, kind: Kind, old: RowMapping | dict[str, Any], new: dict[str, Any]
) -> None:
    """Put new values in the place of a row; ``new`` is the whole row."""
    connection.execute(update(kind.table).where(_same_row(kind, old)).values(new))
    note_change(connection, kind, old, new)
    before, after = kind.document(old), kind.document(new)
    if after != before:
        words_go = not {*before.head, *before.body} <= {*after.head, *after.body}
        drop_documents(connection, dialect, [before.key], for_good=words_go)
        put_documents(connection, dialect, [after])


def remove_rows(connection: Connection, dialect: Dialect, kind: Kind, which: ColumnElement[bool]) -> int:
    """Delete rows with their evidence, history and full text; how many there were."""
    owner, key = kind.column(kind.owner), kind.column(kind.key)
    found = connection.execute(select(owner, key).where(which)).mappings().all()
    if not found:
        return 0
    drop_documents(connection, dialect, [kind.document_key(row) for row in found])
    if kind.personal:
        by_user: dict[str, list[str]] = defaultdict(list)
        for row in found:
            by_user[row[kind.owner]].append(str(row[kind.key]))
        for user_id, ids in by_user.items():
            remove_evidence(connection, kind, user_id, ids)
            forget_history(connection, user_id, kind, ids)
    else:
        for row in found:
            this = and_(_s.agent_version == row[kind.owner], _s.agent_playbook_id == row[kind.key])
            connection.execute(delete(SUPPORT).where(this))
    return connection.execute(delete(kind.table).where(which)).rowcount


def remove_evidence(connection: Connection, kind: Kind, user_id: str, learning_ids: Sequence[str]) -> None:
    """Forget what learnings of one user rest on."""
    for part in chunks(learning_ids):
        of_them = and_(_e.user_id == user_id, _e.kind == kind.name, _e.learning_id.in_(part))
        connection.execute(delete(EVIDENCE).where(of_them))


def add_evidence(
    connection: Connection, dialect: Dialect, kind: Kind, user_id: str, learning_id: str, evidence: Iterable[Evidence]
) -> list[Evidence]:
    """Note evidence of a learning and return what of it was new."""
    known = set(evidence_of(connection, kind, user_id, [learning_id])[learning_id])
    new = [item for item in dict.fromkeys(evidence) if item not in known]
    if new:
        names = {"user_id": user_id, "kind": kind.name, "learning_id": learning_id}
        rows = [{**names, "request_id": item.request_id, "interaction_index": item.interaction_index} for item in new]
        connection.execute(dialect.insert(EVIDENCE).on_conflict_do_nothing(), rows)
    return new


def evidence_of(
    connection: Connection, kind: Kind, user_id: str, learning_ids: Sequence[str]
) -> dict[str, list[Evidence]]:
    """The evidence of learnings of one user, by learning, in order."""
    found: dict[str, list[Evidence]] = defaultdict(list)
    given = {"user_id": user_id, "kind": kind.name, "ids": learning_ids}
    for learning_id, request_id, index in connection.execute(_EVIDENCE_OF, given).all():
        found[learning_id].append(_message(request_id, index))
    return found


_EVIDENCE_OF: Final = (
    select(_e.learning_id, _e.request_id, _e.interaction_index)
    .where(_e.user_id == bindparam("user_id"), _e.kind == bindparam("kind"))
    .where(listed(_e.learning_id, "ids"))
    .order_by(_e.request_id, _e.interaction_index)
)


def interaction_ids(evidence: Iterable[Evidence]) -> list[int]:
    """The ids of the interactions that evidence names."""
    return [interaction_id(item.request_id, item.interaction_index) for item in evidence]


def values_of(connection: Connection, kind: Kind, rows: Sequence[RowMapping]) -> list[Learning]:
    """The learnings that rows hold, with their evidence, in order; however many users they are of."""
    if not kind.personal:
        support = _support(connection, rows)
        return [kind.value(row, support=support.get((row[kind.owner], row[kind.key]), 0)) for row in rows]
    keys = [(row[kind.owner], str(row[kind.key])) for row in rows]
    found = _evidence(connection, kind, keys)
    return [kind.value(row, evidence=found.get(key, [])) for row, key in zip(rows, keys, strict=True)]


def _evidence(
    connection: Connection, kind: Kind, keys: Sequence[tuple[str, str]]
) -> dict[tuple[str, str], list[Evidence]]:
    """The evidence of learnings, by user and id, in order."""
    if not keys:
        return {}
    users = {user_id for user_id, _ in keys}
    if len(users) == 1:  # the usual case, for which a statement stands ready
        (user,) = users
        of_one = evidence_of(connection, kind, user, [learning_id for _, learning_id in keys])
        return {(user, learning_id): items for learning_id, items in of_one.items()}
    found: dict[tuple[str, str], list[Evidence]] = defaultdict(list)
    places = select(_e.user_id, _e.learning_id, _e.request_id, _e.interaction_index).where(_e.kind == kind.name)
    for of_some in among(_e.user_id, _e.learning_id, keys):
        statement = places.where(of_some).order_by(_e.request_id, _e.interaction_index)
        for user_id, learning_id, request_id, index in connection.execute(statement).all():
            found[user_id, learning_id].append(_message(request_id, index))
    return found


def _message(request_id: str, index: int) -> Evidence:
    return trusted(Evidence, request_id=request_id, interaction_index=index)


def _support(connection: Connection, rows: Sequence[RowMapping]) -> dict[tuple[str, int], int]:
    """How many users support agent playbooks, by version and id."""
    by_version: dict[str, list[int]] = defaultdict(list)
    for row in rows:
        by_version[row["agent_version"]].append(row["agent_playbook_id"])
    found: dict[tuple[str, int], int] = {}
    for version, keys in by_version.items():
        counted = connection.execute(_SUPPORT_OF, {"version": version, "keys": keys}).all()
        found |= {(version, key): count for key, count in counted}
    return found


_SUPPORT_OF: Final = (
    select(_s.agent_playbook_id, func.count(_s.user_id.distinct()))
    .where(_s.agent_version == bindparam("version"), listed(_s.agent_playbook_id, "keys"))
    .group_by(_s.agent_playbook_id)
)


def named(kind: Kind, ids: Iterable[str], user_id: str | None = None) -> ColumnElement[bool]:
    """The rows with any of some ids (as text), of one user where one is given."""
    keys = [key for key in map(kind.key_of, ids) if key is not None]
    which = kind.column(kind.key).in_(keys)
    return and_(which, kind.column("user_id") == user_id) if kind.personal and user_id is not None else which


@dataclass(frozen=True, slots=True)
class Conditions:
    """What must hold of a row: ``usual`` are made once for each shape of query, and take their ``values`` by name."""

    usual: tuple[ColumnElement[bool], ...]
    rare: tuple[ColumnElement[bool], ...]
    values: dict[str, Any]


def matching(kind: Kind, query: LearningQuery, dialect: Dialect, now_seconds: int) -> Conditions:
    """The conditions of a query; filters on what a kind does not have are left out."""
    given = {name: getattr(query, name) for name in _EQUAL if name in kind.table.c}
    values: dict[str, Any] = {f"is_{name}": str(value) for name, value in given.items() if value is not None}
    of_one = kind.personal and query.user_id is not None
    usual = [_equal(kind.name, name, of_one) for name, value in given.items() if value is not None]
    usual.append(_status_in(kind.name, (None,) if query.status_filter is None else tuple(query.status_filter)))
    if query.playbook_status_filter is not None and "playbook_status" in kind.table.c:
        usual.append(_approval_in(tuple(query.playbook_status_filter)))
    if kind is PROFILES:
        usual.append(_LIVES)
        values["now"] = now_seconds
    for number, tag in enumerate(query.tags or ()):
        usual.append(_tagged(kind.name, dialect, f"tag_{number}"))
        values[f"tag_{number}"] = tag
    return Conditions(tuple(usual), tuple(_rare(kind, query)), values)


@lru_cache(maxsize=256)
def rows_named(kind_name: LearningKind, usual: tuple[ColumnElement[bool], ...]) -> Select[Any]:
    """The rows of some keys (``keys``) for which the usual conditions hold."""
    kind = KINDS[kind_name]
    return select(kind.table).where(listed(kind.column(kind.key), "keys"), *usual)


@lru_cache(maxsize=256)
def newest_rows(kind_name: LearningKind, usual: tuple[ColumnElement[bool], ...]) -> Select[Any]:
    """The rows for which the usual conditions hold, the newest first."""
    kind = KINDS[kind_name]
    order = (kind.column(kind.stamp).desc(), kind.column(kind.key).desc())
    return select(kind.table).where(*usual).order_by(*order).limit(bindparam("most", type_=BigInteger()))


def _rare(kind: Kind, query: LearningQuery) -> Iterator[ColumnElement[bool]]:
    if query.ids is not None:
        yield named(kind, query.ids)
    if query.source_request_id is not None:
        yield _rests_on(kind, query.source_request_id)
    if (start := seconds_from(query.start_time)) is not None:
        yield kind.column(kind.stamp) >= start
    if (end := seconds_from(query.end_time)) is not None:
        yield kind.column(kind.stamp) < end


@cache
def _equal(kind_name: LearningKind, name: str, of_one: bool) -> ColumnElement[bool]:
    """A column's value is the given one. Of one user's rows there are few: no other index shall be walked for them,
    as SQLite does with that of versions, where it knows no numbers."""
    column: ColumnElement[Any] = KINDS[kind_name].column(name)
    compared = column.concat(_NOTHING) if of_one and name == "agent_version" else column
    return compared == bindparam(f"is_{name}")


_NOTHING: Final[ColumnElement[str]] = literal_column("''")


@lru_cache(maxsize=256)
def _status_in(kind_name: LearningKind, wanted: tuple[Status | None, ...]) -> ColumnElement[bool]:
    column = KINDS[kind_name].column("status")
    named = [str(status) for status in wanted if status is not None]
    current = [column.is_(None)] if None in wanted else []
    return or_(*current, *([column.in_(named)] if named or not current else []))


@lru_cache(maxsize=64)
def _tagged(kind_name: LearningKind, dialect: Dialect, name: str) -> ColumnElement[bool]:
    return dialect.has_tag(KINDS[kind_name].column("tags"), name)


@lru_cache(maxsize=64)
def _approval_in(wanted: tuple[PlaybookStatus, ...]) -> ColumnElement[bool]:
    return KINDS["agent_playbook"].column("playbook_status").in_([str(status) for status in wanted])


_LIVES: Final = PROFILES.column("expiration_timestamp") > bindparam("now")


def _rests_on(kind: Kind, request_id: str) -> ColumnElement[bool]:
    if not kind.personal:
        return false()
    same = and_(
        _e.user_id == kind.column("user_id"),
        _e.kind == kind.name,
        _e.learning_id == cast(kind.column(kind.key), String),
    )
    return exists(select(1).select_from(EVIDENCE).where(same, _e.request_id == request_id))


def _same_row(kind: Kind, row: RowMapping | dict[str, Any]) -> ColumnElement[bool]:
    return and_(kind.column(kind.owner) == row[kind.owner], kind.column(kind.key) == row[kind.key])
