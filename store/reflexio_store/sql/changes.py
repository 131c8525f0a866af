"""Applying what an extractor proposes: itemised changes, each resting on evidence that is still there."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from sqlalchemy import Connection, RowMapping, and_, select

from reflexio_store.contract import Applied, Change
from reflexio_store.json_text import storable_json
from reflexio_store.models import Evidence, ProfileTimeToLive, Status, UserPlaybook, UserProfile

from .database import retried
from .dismissals import is_dismissed
from .kinds import PROFILES, Kind, kind_named
from .learning_rows import add_evidence, evidence_of, insert_rows, interaction_ids, named, rewrite_row
from .part import Part, chunks
from .succession import settle, told_at
from .tables import INTERACTION

_KEPT: Final = frozenset(
    {"user_id", "profile_id", "user_playbook_id", "created_at", "last_modified_timestamp", "evidence", "status"}
)
_ORIGIN: Final = frozenset({"generated_from_request_id", "request_id", "source_interaction_ids", "source_span"})


class Changes(Part):
    """The part of a home that applies changes."""

    @retried
    def apply(self, user_id: str, changes: Sequence[Change], *, status: Status | None = None) -> Applied:
        """Apply an extractor's changes in one transaction; the same changes twice change nothing more.

        An ``add`` that says what a current learning says already only adds to the evidence of that. One that says
        what was superseded before, or deleted or reworded by hand, on no new evidence, is not revived. Of the values
        of a slot the one told last is current, in whatever order they are learned. What is put beside the current
        ones (``status``) is settled with them when it becomes current.
        """
        with self._database.write() as connection:
            self._database.dialect.hold(connection, [user_id])
            stored = _stored_messages(connection, user_id, changes)
            applied = Applied()
            for change in changes:
                applied += self._apply_one(connection, user_id, change, stored, status)
            return applied

    def _apply_one(
        self, connection: Connection, user_id: str, change: Change, stored: set[Evidence], status: Status | None
    ) -> Applied:
        kind = kind_named(change.kind)
        evidence = [item for item in dict.fromkeys(_given(change)) if item in stored]
        rests_on_nothing = not evidence and (change.action != "retire" or _given(change))
        if not user_id or rests_on_nothing or not kind.personal:
            return Applied(dropped=1)
        if change.action == "retire":
            return self._retire(connection, kind, user_id, change.learning_id, status)
        if not isinstance(change.learning, kind.model):
            return Applied(dropped=1)
        if change.action == "add":
            return self._add(connection, kind, user_id, change.learning, evidence, status)
        return self._update(connection, kind, user_id, change.learning, evidence, status)

    def _add(
        self,
        connection: Connection,
        kind: Kind,
        user_id: str,
        learning: UserProfile | UserPlaybook,
        evidence: Sequence[Evidence],
        status: Status | None,
    ) -> Applied:
        row = _with_origin(kind, kind.row(learning.model_copy(update={"user_id": user_id})), evidence)
        row |= {kind.key: kind.new_key(), "status": status and str(status), "superseded_by": None}
        same = and_(kind.column("user_id") == user_id, kind.column("sameness") == row["sameness"])
        known = connection.execute(select(kind.table).where(same)).mappings().all()
        for old in known:
            if old["status"] == status:
                return self._confirm(connection, kind, old, evidence)
        repeated = status is None and _said_before(connection, kind, user_id, known, evidence)
        if repeated or is_dismissed(connection, kind, user_id, row["sameness"], evidence):
            return Applied()
        dialect = self._database.dialect
        name = str(row[kind.key])
        add_evidence(connection, dialect, kind, user_id, name, evidence)
        if kind.stamp not in learning.model_fields_set:  # the model's own is the time of this run
            row[kind.stamp] = told_at(connection, kind, user_id, {name: 0})[name][0]
        insert_rows(connection, dialect, kind, [row])
        if status is None:
            settle(connection, dialect, kind, row)
        return _count(kind, "added")

    def _confirm(self, connection: Connection, kind: Kind, old: RowMapping, evidence: Sequence[Evidence]) -> Applied:
        dialect = self._database.dialect
        new = add_evidence(connection, dialect, kind, old["user_id"], str(old[kind.key]), evidence)
        if not new:
            return Applied()
        rewrite_row(
            connection, dialect, kind, old, self._refreshed(connection, kind, _with_origin(kind, dict(old), new))
        )
        return _count(kind, "updated")

    def _update(
        self,
        connection: Connection,
        kind: Kind,
        user_id: str,
        learning: UserProfile | UserPlaybook,
        evidence: Sequence[Evidence],
        status: Status | None,
    ) -> Applied:
        old = _named_row(connection, kind, user_id, str(getattr(learning, kind.key)))
        if old is None or old["status"] != status:
            return Applied(dropped=1)
        dialect = self._database.dialect
        new = add_evidence(connection, dialect, kind, user_id, str(old[kind.key]), evidence)
        row = _with_origin(kind, {**old, **_wanted(learning)}, new)
        row["sameness"] = kind.sameness(row)
        if row == dict(old):
            return Applied()
        row = self._refreshed(connection, kind, row)
        rewrite_row(connection, dialect, kind, old, row)
        if status is None:
            settle(connection, dialect, kind, row)
        return _count(kind, "updated")

    def _retire(
        self, connection: Connection, kind: Kind, user_id: str, learning_id: str, status: Status | None
    ) -> Applied:
        old = _named_row(connection, kind, user_id, learning_id)
        if old is None:
            return Applied(dropped=1)
        if old["status"] != status:
            return Applied()
        rewrite_row(connection, self._database.dialect, kind, old, {**old, "status": str(Status.SUPERSEDED)})
        return Applied(retired=1)

    def _refreshed(self, connection: Connection, kind: Kind, row: dict[str, Any]) -> dict[str, Any]:
        if kind is not PROFILES:
            return row
        name = str(row[kind.key])
        told = told_at(connection, kind, row["user_id"], {name: row[kind.stamp]})[name][0]
        lives = ProfileTimeToLive(row["profile_time_to_live"]).seconds
        expires = row["expiration_timestamp"] if lives is None else told + lives
        return {**row, "last_modified_timestamp": told, "expiration_timestamp": expires}


def _given(change: Change) -> Sequence[Evidence]:
    return change.evidence or (change.learning.evidence if change.learning is not None else ())


def _stored_messages(connection: Connection, user_id: str, changes: Iterable[Change]) -> set[Evidence]:
    """The messages that are still there of those that changes rest on."""
    c = INTERACTION.c
    names = {item.request_id for change in changes for item in _given(change)}
    stored: set[Evidence] = set()
    for part in chunks(sorted(names)):
        which = and_(c.user_id == user_id, c.request_id.in_(part))
        found = connection.execute(select(c.request_id, c.seq).where(which))
        stored.update(Evidence(request_id=name, interaction_index=place) for name, place in found)
    return stored


def _named_row(connection: Connection, kind: Kind, user_id: str, learning_id: str) -> RowMapping | None:
    which = named(kind, [learning_id], user_id)
    return connection.execute(select(kind.table).where(which)).mappings().first()


def _said_before(
    connection: Connection, kind: Kind, user_id: str, known: Sequence[RowMapping], evidence: Sequence[Evidence]
) -> bool:
    """Whether a learning that is no longer current rested on all of this evidence: the change is a repetition."""
    ids = [str(row[kind.key]) for row in known]
    return any(set(evidence) <= set(found) for found in evidence_of(connection, kind, user_id, ids).values())


def _with_origin(kind: Kind, row: dict[str, Any], evidence: Sequence[Evidence]) -> dict[str, Any]:
    """The row with its request and interactions filled in from evidence."""
    if not evidence or kind.request is None:
        return row
    ids = dict.fromkeys([*(row["source_interaction_ids"] or ()), *interaction_ids(evidence)])
    origin = row[kind.request] or evidence[0].request_id
    return {**row, kind.request: origin, "source_interaction_ids": list(ids)}


def _wanted(learning: UserProfile | UserPlaybook) -> dict[str, Any]:
    """The fields that an update sets; where a learning came from is added to, not replaced."""
    given = learning.model_dump(mode="json", exclude_unset=True, exclude=set(_KEPT))
    return {name: storable_json(value) for name, value in given.items() if value or name not in _ORIGIN}


def _count(kind: Kind, what: str) -> Applied:
    return Applied(**{f"{'profiles' if kind is PROFILES else 'playbooks'}_{what}": 1})
