"""Applying what an extractor proposes: itemised changes, each resting on evidence that is still there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from sqlalchemy import Connection, RowMapping, and_, select

from reflexio_store.contract import Applied, Change
from reflexio_store.json_text import storable_json
from reflexio_store.models import Evidence, Status, UserPlaybook, UserProfile

from .compaction import Compaction
from .database import retried
from .dialects import Dialect
from .dismissals import is_dismissed
from .expiry import ask_to_purge
from .kinds import PROFILES, Kind, kind_named
from .learning_rows import add_evidence, evidence_of, insert_rows, interaction_ids, named, remove_evidence, rewrite_row
from .opting import has_opted_out
from .part import chunks
from .sharing import playbooks_changed
from .succession import confirmed, merge, settle, told_at
from .tables import INTERACTION

MASKED: Final = "[redacted"
"""What was masked before it was stored begins so: it is no value that could be learned."""
_KEPT: Final = frozenset(
    {"user_id", "profile_id", "user_playbook_id", "created_at", "last_modified_timestamp", "evidence", "status"}
)
_ORIGIN: Final = frozenset({"generated_from_request_id", "request_id", "source_interaction_ids", "source_span"})


class Changes(Compaction):
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
            if has_opted_out(connection, user_id):
                return Applied(dropped=len(changes))
            stored = _stored_messages(connection, user_id, changes)
            applied = Applied()
            for change in changes:
                applied += self._apply_one(connection, user_id, change, stored, status)
            if applied.profiles_added or applied.profiles_updated:
                profiles = [item.learning for item in changes if isinstance(item.learning, UserProfile)]
                first = min((item.expiration_timestamp for item in profiles), default=None)
                ask_to_purge(connection, self._database.dialect, first)
            if applied.playbooks_added or applied.playbooks_updated or applied.retired:
                self._note_playbooks(connection, user_id, changes)
        if applied.profiles_updated or applied.playbooks_updated or applied.retired:
            self._compact_later()
        return applied

    def _note_playbooks(self, connection: Connection, user_id: str, changes: Sequence[Change]) -> None:
        """Let agent playbooks follow."""
        dialect, now_us = self._database.dialect, self._clock()
        learnings = [change.learning for change in changes if isinstance(change.learning, UserPlaybook)]
        playbooks_changed(connection, dialect, user_id, {item.agent_version for item in learnings}, now_us=now_us)

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
        if not isinstance(change.learning, kind.model) or MASKED in change.learning.content:
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
        for old, heir in _merged(connection, kind, known) if status is None else ():
            return self._confirm_merged(connection, kind, old, heir, evidence)
        repeated = status is None and _said_before(connection, kind, user_id, known, evidence)
        if repeated or is_dismissed(connection, kind, user_id, row["sameness"], evidence):
            return Applied()
        dialect = self._database.dialect
        name = str(row[kind.key])
        add_evidence(connection, dialect, kind, user_id, name, evidence)
        if kind.stamp not in learning.model_fields_set:  # the model's own is the time of this run
            told = told_at(connection, kind, user_id, {name: 0})[name][0]
            row = confirmed(row, told) if kind is PROFILES else {**row, kind.stamp: told}
        if row.get("expiration_timestamp", self._now_seconds() + 1) <= self._now_seconds():
            remove_evidence(connection, kind, user_id, [name])
            return Applied()  # it was true for a time that has passed
        insert_rows(connection, dialect, kind, [row])
        merged = status is None and settle(connection, dialect, kind, row)
        return _count(kind, "updated" if merged else "added")

    def _confirm_merged(
        self, connection: Connection, kind: Kind, old: RowMapping, heir: RowMapping, evidence: Sequence[Evidence]
    ) -> Applied:
        """More evidence of other words for what is current."""
        dialect = self._database.dialect
        new = add_evidence(connection, dialect, kind, old["user_id"], str(old[kind.key]), evidence)
        if not new:
            return Applied()
        merge(connection, dialect, kind, old, heir)
        return _count(kind, "updated")

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
        row = {**old, **_wanted(learning)}
        row["sameness"] = kind.sameness(row)
        if status is None and row["sameness"] != old["sameness"] and _keep_old_words(connection, dialect, kind, old):
            row |= {str(kind.request): "", "source_interaction_ids": [], "source_span": learning.source_span}
        new = add_evidence(connection, dialect, kind, user_id, str(old[kind.key]), evidence)
        row = _with_origin(kind, row, new)
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
        return confirmed(row, told)


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


def _merged(connection: Connection, kind: Kind, known: Sequence[RowMapping]) -> Iterator[tuple[RowMapping, RowMapping]]:
    """Those of the rows that were merged into one that is current, with that one."""
    for row in known:
        if row["status"] == str(Status.MERGED):
            heir = _named_row(connection, kind, row["user_id"], row["superseded_by"] or "")
            if heir is not None and heir["status"] is None:
                yield row, heir


def _keep_old_words(connection: Connection, dialect: Dialect, kind: Kind, old: RowMapping) -> bool:
    """Let what a row said before stand in a row of its own, superseded, with the evidence that it rested on: when the
    messages that changed it are deleted, it is current again. False if it rested on none."""
    name = str(old[kind.key])
    kept = {**old, kind.key: kind.new_key(), "status": str(Status.SUPERSEDED), "superseded_by": name}
    evidence = evidence_of(connection, kind, old["user_id"], [name])[name]
    if not evidence:
        return False
    insert_rows(connection, dialect, kind, [kept])
    add_evidence(connection, dialect, kind, old["user_id"], str(kept[kind.key]), evidence)
    remove_evidence(connection, kind, old["user_id"], [name])
    return True


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
