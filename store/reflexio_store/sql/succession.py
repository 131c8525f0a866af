"""Which of several learnings is current, in whatever order they were learned.

Of the values of one slot, and of what contradicts each other, the one told last. Of what says the same in other words
the one learned first, so that what is recalled keeps its wording; the others are merged into it: they keep their own
evidence, and take its place when its own is gone.

When a learning was told is when its newest message was; what has no message in the record goes by its own stamp, and
so does what was changed by hand since.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from sqlalchemy import ColumnElement, Connection, RowMapping, and_, select

from reflexio_store.models import ProfileTimeToLive, Status

from .dialects import Dialect
from .kinds import PROFILES, Kind
from .kinship import kin_of
from .learning_rows import evidence_of, named, remove_rows, rewrite_row
from .part import SECOND_US, among, chunks
from .tables import EVIDENCE, REQUEST

SLOT: Final = "slot:"
"""A tag that begins so names a fact that has one value, such as ``slot:name``: a new value supersedes the old one."""
Moment = tuple[int, int, int]
"""Epoch seconds; then, to tell apart what is within one second, the newest request's microseconds and the message."""

_e, _r = EVIDENCE.c, REQUEST.c


class _Standing(NamedTuple):
    """Whether a learning is current, and if not, which one took its place."""

    status: str | None
    superseded_by: str | None


_CURRENT: Final = _Standing(None, None)


def told_at(connection: Connection, kind: Kind, user_id: str, stamps: Mapping[str, int]) -> dict[str, Moment]:
    """When learnings of one user were told, by id; ``stamps`` are their own (epoch seconds)."""
    newest: dict[str, tuple[int, int]] = {}
    for part in chunks(list(stamps)):
        of_them = and_(_e.user_id == user_id, _e.kind == kind.name, _e.learning_id.in_(part))
        stored = and_(_r.user_id == _e.user_id, _r.request_id == _e.request_id)
        found = select(_e.learning_id, _r.created_at_us, _e.interaction_index).where(of_them, stored)
        for name, at_us, index in connection.execute(found):
            newest[name] = max(newest.get(name, (-1, -1)), (at_us, index))
    told = {name: newest.get(name, (-1, -1)) for name in stamps}
    return {name: (max(stamps[name], told[name][0] // SECOND_US), *told[name]) for name in stamps}


def settle(connection: Connection, dialect: Dialect, kind: Kind, row: RowMapping | dict[str, Any]) -> bool:
    """Let a current row, stored with its evidence, find its place among the others; True if it is merged into one."""
    kin = kin_of(connection, kind, row)
    for other in (*kin["same"], *kin["wider"]):
        merge(connection, dialect, kind, row, other)
        return True
    for other in kin["narrower"]:
        merge(connection, dialect, kind, other, row)
    rivals = _rivals(connection, dialect, kind, row)
    rivals |= {str(other[kind.key]): other for other in kin["opposed"]}
    if rivals:
        _let_newest_stand(connection, dialect, kind, row, rivals)
    return False


def _let_newest_stand(
    connection: Connection,
    dialect: Dialect,
    kind: Kind,
    row: RowMapping | dict[str, Any],
    rivals: Mapping[str, RowMapping],
) -> None:
    name = str(row[kind.key])
    stamps = {key: rival[kind.stamp] for key, rival in rivals.items()} | {name: row[kind.stamp]}
    told = told_at(connection, kind, row["user_id"], stamps)
    newest = max(rivals, key=lambda key: told[key])
    if told[newest] > told[name]:
        rewrite_row(connection, dialect, kind, row, {**row, **_superseded(newest)})
        return
    for rival in rivals.values():
        rewrite_row(connection, dialect, kind, rival, {**rival, **_superseded(name)})


def merge(
    connection: Connection,
    dialect: Dialect,
    kind: Kind,
    row: RowMapping | dict[str, Any],
    into: RowMapping | dict[str, Any],
) -> None:
    """Let a row be another way to say what the row ``into`` says, and confirm that."""
    merged = {"status": str(Status.MERGED), "superseded_by": str(into[kind.key])}
    if row["status"] != merged["status"] or row["superseded_by"] != merged["superseded_by"]:
        rewrite_row(connection, dialect, kind, row, {**row, **merged})
    name = str(row[kind.key])
    told = told_at(connection, kind, row["user_id"], {name: row[kind.stamp]})[name][0]
    if kind is PROFILES and told > into[kind.stamp]:
        rewrite_row(connection, dialect, kind, into, confirmed(into, told))


def confirmed(row: RowMapping | dict[str, Any], told: int) -> dict[str, Any]:
    """A profile as it is when it was told (again) at a time (epoch seconds): its time to live begins anew."""
    lives = ProfileTimeToLive(row["profile_time_to_live"]).seconds
    expires = row["expiration_timestamp"] if lives is None else told + lives
    return {**row, "last_modified_timestamp": told, "expiration_timestamp": expires}


def merged_into(connection: Connection, kind: Kind, which: ColumnElement[bool]) -> dict[str, list[str]]:
    """The ids of rows that say what some rows say in other words, by user; also those merged into such a one before."""
    found: dict[str, list[str]] = defaultdict(list)
    if not kind.personal:
        return found
    names = select(kind.column("user_id"), kind.column(kind.key))
    heirs = {(user_id, str(key)) for user_id, key in connection.execute(names.where(which))}
    known = set(heirs)
    while heirs:  # what is merged may be the heir of others
        others = names.where(kind.column("status") == str(Status.MERGED))
        some = among(kind.column("user_id"), kind.column("superseded_by"), sorted(heirs))
        merged = [connection.execute(others.where(condition)).all() for condition in some]
        heirs = {(user_id, str(key)) for rows in merged for user_id, key in rows} - known
        known |= heirs
        for user_id, name in sorted(heirs):
            found[user_id].append(name)
    return found


def forget_rows(connection: Connection, dialect: Dialect, kind: Kind, which: ColumnElement[bool]) -> int:
    """Delete rows, and restore what they had superseded; how many there were."""
    if not kind.personal:
        return remove_rows(connection, dialect, kind, which)
    columns = kind.column("user_id"), kind.column(kind.key), kind.column("status"), kind.column("superseded_by")
    heirs: dict[str, dict[str, _Standing]] = defaultdict(dict)
    for user_id, key, *standing in connection.execute(select(*columns).where(which)):
        heirs[user_id][str(key)] = _Standing(*standing)
    count = remove_rows(connection, dialect, kind, which)
    for user_id, gone in heirs.items():
        _restore(connection, dialect, kind, user_id, gone)
    return count


def _restore(connection: Connection, dialect: Dialect, kind: Kind, user_id: str, gone: Mapping[str, _Standing]) -> None:
    """Let what was superseded by rows that are gone follow their heirs, or be current where there is none."""
    restored: list[str] = []
    for row in _orphans(connection, kind, user_id, list(gone)):
        standing = _left(_Standing(row["status"], row["superseded_by"]), gone)
        rewrite_row(connection, dialect, kind, row, {**row, **standing._asdict()})
        if standing == _CURRENT:
            restored.append(str(row[kind.key]))
    for name in restored:
        row = connection.execute(select(kind.table).where(named(kind, [name], user_id))).mappings().one()
        if row["status"] is None:  # not yet superseded by another one that was restored
            settle(connection, dialect, kind, row)


def _orphans(connection: Connection, kind: Kind, user_id: str, gone: Sequence[str]) -> list[RowMapping]:
    found: list[RowMapping] = []
    for part in chunks(gone):
        theirs = and_(kind.column("user_id") == user_id, kind.column("superseded_by").in_(part))
        superseded = kind.column("status").in_([str(Status.SUPERSEDED), str(Status.MERGED)])
        found += connection.execute(select(kind.table).where(theirs, superseded)).mappings().all()
    founded = evidence_of(connection, kind, user_id, [str(row[kind.key]) for row in found])
    return [row for row in found if str(row[kind.key]) in founded]


def _left(standing: _Standing, gone: Mapping[str, _Standing]) -> _Standing:
    """What a standing is without those that are gone: under the first that is not of those that superseded one another
    (as other words for it, if each was so for the next), or current where there is none."""
    passed: set[str] = set()
    status, name = standing
    while name is not None and name in gone and name not in passed:
        passed.add(name)
        merged = status == gone[name].status == str(Status.MERGED)
        status, name = str(Status.MERGED if merged else Status.SUPERSEDED), gone[name].superseded_by
    return _CURRENT if name is None or name in passed else _Standing(status, name)


def _rivals(
    connection: Connection, dialect: Dialect, kind: Kind, row: RowMapping | dict[str, Any]
) -> dict[str, RowMapping]:
    """The other current rows that hold a slot of this one."""
    found: dict[str, RowMapping] = {}
    for tag in (tag for tag in row["tags"] or () if tag.startswith(SLOT)):
        others = [
            kind.column("user_id") == row["user_id"],
            kind.column("status").is_(None),
            kind.column(kind.key) != row[kind.key],
            dialect.has_tag(kind.column("tags"), "slot"),
        ]
        if "agent_version" in row:
            others.append(kind.column("agent_version") == row["agent_version"])
        rows = connection.execute(select(kind.table).where(*others), {"slot": tag}).mappings()
        found |= {str(rival[kind.key]): rival for rival in rows}
    return found


def _superseded(by: str) -> dict[str, Any]:
    return {"status": str(Status.SUPERSEDED), "superseded_by": by}
