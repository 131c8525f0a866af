"""Letting what was learned anew, beside the current learnings, take their place; and taking that back.

Each user's learnings change in one transaction, so that a recall sees the old ones or the new ones.
"""

from __future__ import annotations

from typing import Literal

from sqlalchemy import ColumnElement, Connection, RowMapping, and_, select

from reflexio_store.contract import Promoted
from reflexio_store.models import Status

from .compaction import Compaction
from .database import retried
from .kinds import USER_PLAYBOOKS, Kind, kind_named
from .learning_rows import named, remove_rows, rewrite_row
from .sharing import playbooks_changed
from .succession import merged_into, settle
from .tables import SESSION


class Promotion(Compaction):
    """The part of a home that lets pending learnings become current."""

    def user_ids(self) -> list[str]:
        """Everybody who has a session, in order; not nobody (``""``)."""
        statement = select(SESSION.c.user_id).where(SESSION.c.user_id != "").distinct().order_by(SESSION.c.user_id)
        with self._database.read() as connection:
            return list(connection.execute(statement).scalars())

    def promote(
        self,
        kind: Literal["profile", "user_playbook"],
        *,
        user_id: str | None = None,
        agent_version: str | None = None,
        playbook_name: str | None = None,
        only_affected: bool = True,
    ) -> Promoted:
        """Archived learnings go, current ones are archived, pending ones become current; see the contract."""
        which = kind_named(kind)
        wanted = _wanted(which, user_id, agent_version, playbook_name)
        decisive = (Status.PENDING,) if only_affected else (Status.PENDING, None)
        total = Promoted()
        for owner in self._owners(which, wanted, decisive):
            total += self._promoted(which, wanted, owner)
        self._compact_later()
        return total

    def demote(
        self,
        kind: Literal["profile", "user_playbook"],
        *,
        user_id: str | None = None,
        agent_version: str | None = None,
        playbook_name: str | None = None,
    ) -> Promoted:
        """Archived learnings become current again, and current ones are archived; see the contract."""
        which = kind_named(kind)
        wanted = _wanted(which, user_id, agent_version, playbook_name)
        total = Promoted()
        for owner in self._owners(which, wanted, (Status.ARCHIVED,)):
            total += self._demoted(which, wanted, owner)
        self._compact_later()
        return total

    def _owners(self, kind: Kind, wanted: ColumnElement[bool], statuses: tuple[Status | None, ...]) -> list[str]:
        owner, status = kind.column("user_id"), kind.column("status")
        has = [status.is_(None) if one is None else status == str(one) for one in statuses]
        found: set[str] = set()
        with self._database.read() as connection:
            for condition in has:
                found.update(connection.execute(select(owner).where(wanted, condition).distinct()).scalars())
        return sorted(found)

    @retried
    def _promoted(self, kind: Kind, wanted: ColumnElement[bool], owner: str) -> Promoted:
        theirs = and_(wanted, kind.column("user_id") == owner)
        gone = and_(theirs, kind.column("status") == str(Status.ARCHIVED))
        with self._database.write() as connection:
            self._database.dialect.hold(connection, [owner])
            for user_id, merged in merged_into(connection, kind, gone).items():  # other words for what goes
                remove_rows(connection, self._database.dialect, kind, named(kind, merged, user_id))
            deleted = remove_rows(connection, self._database.dialect, kind, gone)
            current, pending = _of(connection, kind, theirs, None), _of(connection, kind, theirs, Status.PENDING)
            self._set(connection, kind, current, Status.ARCHIVED)
            self._set(connection, kind, pending, None)
            self._let_shared_follow(connection, kind, owner, [*current, *pending])
        return Promoted(deleted=deleted, archived=len(current), promoted=len(pending))

    @retried
    def _demoted(self, kind: Kind, wanted: ColumnElement[bool], owner: str) -> Promoted:
        theirs = and_(wanted, kind.column("user_id") == owner)
        with self._database.write() as connection:
            self._database.dialect.hold(connection, [owner])
            current, archived = _of(connection, kind, theirs, None), _of(connection, kind, theirs, Status.ARCHIVED)
            self._set(connection, kind, current, Status.ARCHIVED)
            self._set(connection, kind, archived, None)
            self._let_shared_follow(connection, kind, owner, [*current, *archived])
        return Promoted(archived=len(current), promoted=len(archived))

    def _let_shared_follow(self, connection: Connection, kind: Kind, owner: str, rows: list[RowMapping]) -> None:
        """Let agent playbooks follow user playbooks that changed their standing."""
        if kind is USER_PLAYBOOKS:
            dialect, now_us = self._database.dialect, self._clock()
            playbooks_changed(connection, dialect, owner, {row["agent_version"] for row in rows}, now_us=now_us)

    def _set(self, connection: Connection, kind: Kind, rows: list[RowMapping], status: Status | None) -> None:
        """Give rows a status; of those that become current, the one told last in each slot stays so."""
        dialect = self._database.dialect
        for row in rows:
            rewrite_row(connection, dialect, kind, row, {**row, "status": None if status is None else str(status)})
        for row in rows if status is None else ():
            this = named(kind, [str(row[kind.key])], row["user_id"])
            now = connection.execute(select(kind.table).where(this)).mappings().one()
            if now["status"] is None:
                settle(connection, dialect, kind, now)


def _wanted(
    kind: Kind, user_id: str | None, agent_version: str | None, playbook_name: str | None
) -> ColumnElement[bool]:
    given = {"user_id": user_id, "agent_version": agent_version, "playbook_name": playbook_name}
    equal = [kind.column(name) == value for name, value in given.items() if value is not None and name in kind.table.c]
    return and_(kind.column("user_id") != "", *equal)


def _of(connection: Connection, kind: Kind, theirs: ColumnElement[bool], status: Status | None) -> list[RowMapping]:
    column = kind.column("status")
    standing = column.is_(None) if status is None else column == str(status)
    return list(connection.execute(select(kind.table).where(theirs, standing)).mappings())
