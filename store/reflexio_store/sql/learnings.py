"""Adding, listing, changing and deleting learnings by hand."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from pydantic import ValidationError
from sqlalchemy import Connection, RowMapping, select, true

from reflexio_store.errors import InvalidInputError
from reflexio_store.models import AgentPlaybook, Evidence, Learning, LearningKind, LearningQuery, problems_of

from .compaction import Compaction
from .database import retried
from .dismissals import dismiss
from .expiry import ask_to_purge
from .history import forget_history
from .kinds import KINDS, PROFILES, USER_PLAYBOOKS, Kind, kind_named, kind_of
from .learning_rows import (
    add_evidence,
    insert_rows,
    matching,
    named,
    newest_rows,
    remove_evidence,
    remove_rows,
    rewrite_row,
    values_of,
)
from .part import chunks
from .sharing import playbooks_changed, reconcile
from .succession import forget_rows, merged_into

_ALL: Final = 2**63 - 1
_FIXED: Final = frozenset({"user_id", "profile_id", "user_playbook_id", "agent_playbook_id"})
_LIFETIME: Final = frozenset({"content", "profile_time_to_live", "last_modified_timestamp"})


@dataclass(frozen=True, slots=True)
class _Placed:
    """A learning with the row it becomes; ``known`` says that its id was given."""

    kind: Kind
    row: dict[str, Any]
    evidence: Sequence[Evidence]
    known: bool

    @property
    def id(self) -> str:
        return str(self.row[self.kind.key])

    @property
    def owner(self) -> str:
        return str(self.row[self.kind.owner])

    @property
    def user_id(self) -> str | None:
        return str(self.row["user_id"]) if self.kind.personal else None


class LearningRecords(Compaction):
    """The part of a home that keeps learnings."""

    @retried
    def add_learnings(self, learnings: Sequence[Learning]) -> list[str]:
        """Store learnings of any kind in one transaction and return their ids (as text), in order.

        An empty id is made; a known one (of the same user) is replaced. Evidence is kept as given.
        """
        placed = [_placed(learning) for learning in learnings]
        with self._database.write() as connection:
            for personal in (True, False):  # users before agent versions, as everybody does
                holders = {item.kind.holder(item.owner) for item in placed if item.kind.personal is personal}
                self._database.dialect.hold(connection, holders)
            for kind in KINDS.values():
                self._store(connection, kind, [item for item in placed if item.kind is kind])
            self._let_follow(connection, placed)
        if any(item.known for item in placed):
            self._compact_later()
        return [item.id for item in placed]

    def _let_follow(self, connection: Connection, placed: Sequence[_Placed]) -> None:
        """Let agent playbooks follow the user playbooks that were put down, and profiles end at their time."""
        dialect, now_us = self._database.dialect, self._clock()
        ends = [item.row["expiration_timestamp"] for item in placed if item.kind is PROFILES]
        ask_to_purge(connection, dialect, min(ends, default=None))
        versions: dict[str, set[str]] = defaultdict(set)
        for item in placed:
            if item.kind is USER_PLAYBOOKS:
                versions[item.row["user_id"]].add(item.row["agent_version"])
        for user_id, names in versions.items():
            playbooks_changed(connection, dialect, user_id, names, now_us=now_us)

    def _store(self, connection: Connection, kind: Kind, placed: Sequence[_Placed]) -> None:
        dialect = self._database.dialect
        known: dict[str | None, list[str]] = defaultdict(list)
        for item in placed:
            if item.known:
                known[item.user_id].append(item.id)
        for user_id, ids in known.items():
            remove_rows(connection, dialect, kind, named(kind, ids, user_id))
        last = {(item.user_id, item.id): item for item in placed}
        insert_rows(connection, dialect, kind, [item.row for item in last.values()])
        for item in last.values():
            if item.evidence and item.user_id is not None:
                add_evidence(connection, dialect, kind, item.user_id, item.id, item.evidence)

    def get_learnings(self, kind: LearningKind, query: LearningQuery) -> list[Learning]:
        """Learnings of one kind, newest first (all of them where ``top_k`` is None); ``query.query`` is ignored."""
        which = kind_named(kind)
        conditions = matching(which, query, self._database.dialect, self._now_seconds())
        statement = newest_rows(which.name, conditions.usual)
        if conditions.rare:
            statement = statement.where(*conditions.rare)
        given = {**conditions.values, "most": _ALL if query.top_k is None else min(query.top_k, _ALL)}
        with self._database.read() as connection:
            return values_of(connection, which, connection.execute(statement, given).mappings().all())

    @retried
    def update_learning(
        self, kind: LearningKind, learning_id: str, fields: dict[str, Any], *, user_id: str | None = None
    ) -> bool:
        """Change some fields of a learning; False if there is none of that id.

        A profile whose content changes counts as modified now, and its time to live begins anew. What it said before
        is not learned again from the messages that it rested on.

        Raises:
            InvalidInputError: A field is unknown, fixed or unusable; or several users have that id and none is named.
        """
        which = kind_named(kind)
        _check(which, fields)
        dialect = self._database.dialect
        with self._dropping() as connection:
            old = self._held(connection, which, learning_id, user_id)
            if old is None:
                return False
            new = self._changed(which, values_of(connection, which, [old])[0], fields)
            row = {**which.row(new), which.key: old[which.key]}
            if row["sameness"] != old["sameness"] and not isinstance(new, AgentPlaybook):
                dismiss(connection, dialect, which, named(which, [learning_id], old["user_id"]))
                forget_history(connection, old["user_id"], which, [learning_id])  # what a person mends is not kept
            rewrite_row(connection, dialect, which, old, row)
            if "evidence" in fields and not isinstance(new, AgentPlaybook):
                remove_evidence(connection, which, old["user_id"], [learning_id])
                add_evidence(connection, dialect, which, old["user_id"], learning_id, new.evidence)
            if which is USER_PLAYBOOKS:
                playbooks_changed(connection, dialect, old["user_id"], {row["agent_version"]}, now_us=self._clock())
            return True

    def _held(self, connection: Connection, kind: Kind, learning_id: str, user_id: str | None) -> RowMapping | None:
        """The row of a learning, read while its owner is held."""
        old = _only(connection, kind, learning_id, user_id)
        if old is None:
            return None
        self._database.dialect.hold(connection, [kind.holder(old[kind.owner])])
        return _only(connection, kind, learning_id, user_id)

    def _changed(self, kind: Kind, old: Learning, fields: dict[str, Any]) -> Learning:
        values = {**old.model_dump(), **fields}
        if kind.name == "profile":
            if "content" in fields and "last_modified_timestamp" not in fields:
                values["last_modified_timestamp"] = self._now_seconds()
            lives_anew = fields.keys() & _LIFETIME and "expiration_timestamp" not in fields
            if lives_anew and ("profile_time_to_live" in fields or values["profile_time_to_live"] != "infinity"):
                values["expiration_timestamp"] = None  # the model derives it
        try:
            return kind.model.model_validate(values)
        except ValidationError as error:
            raise InvalidInputError("The learning was not changed", problems_of(error)) from error

    @retried
    def delete_learnings(self, kind: LearningKind, ids: Sequence[str] | None, *, user_id: str | None = None) -> int:
        """Delete learnings by id (all of the kind, or of the user, where ``ids`` is None); how many were there.

        They are not learned again from the messages that they rested on, and what they had superseded is current.
        """
        which = kind_named(kind)
        owned = which.column("user_id") == user_id if which.personal and user_id is not None else true()
        conditions = [owned] if ids is None else [named(which, part, user_id) for part in chunks(ids)]
        dialect = self._database.dialect
        with self._dropping() as connection:
            owners = [select(which.column(which.owner)).where(condition).distinct() for condition in conditions]
            found = {owner for some in owners for owner in connection.execute(some).scalars()}
            dialect.hold(connection, map(which.holder, found))
            conditions += [
                named(which, ids, owner)
                for condition in tuple(conditions)
                for owner, merged in merged_into(connection, which, condition).items()
                for ids in chunks(merged)
            ]
            for condition in conditions:
                dismiss(connection, dialect, which, condition)
            count = sum(forget_rows(connection, dialect, which, condition) for condition in conditions)
            if which is USER_PLAYBOOKS:
                reconcile(connection, dialect, user_id, now_us=self._clock())
            return count


def _placed(learning: Learning) -> _Placed:
    kind = kind_of(learning)
    row = kind.row(learning)
    known = bool(row[kind.key])
    if not known:
        row[kind.key] = kind.new_key()
    return _Placed(kind, row, getattr(learning, "evidence", ()), known)


def _check(kind: Kind, fields: dict[str, Any]) -> None:
    problems = [(name, "cannot be changed") for name in sorted(fields.keys() & _FIXED)]
    problems += [(name, f"is no field of a {kind.name}") for name in sorted(fields.keys() - kind.model.model_fields)]
    if problems:
        raise InvalidInputError("The learning was not changed", problems)


def _only(connection: Connection, kind: Kind, learning_id: str, user_id: str | None) -> RowMapping | None:
    found = connection.execute(select(kind.table).where(named(kind, [learning_id], user_id))).mappings().all()
    if len(found) > 1:
        problem = ("user_id", f"is needed: {len(found)} users have a {kind.name} of the id {learning_id!r}")
        raise InvalidInputError("The learning was not changed", [problem])
    return found[0] if found else None
