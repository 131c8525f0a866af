"""How a home is: counts, and a health check."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from sqlalchemy import ColumnElement, Connection, Table, exists, false, func, select

from reflexio_store.contract import Finding

from .documents import INTERACTION_KIND
from .jobs import JobQueue
from .kinds import KINDS
from .schema import REVISIONS, version_of
from .tables import (
    AGENT_PLAYBOOK,
    DISMISSED,
    DOCUMENT,
    ERASED,
    HISTORY,
    INTERACTION,
    JOB,
    OPT_OUT,
    OUTCOME,
    PROFILE,
    REQUEST,
    SESSION,
    USAGE,
    USER_PLAYBOOK,
    VECTOR,
)

_COUNTED: Final = {
    "sessions": SESSION,
    "requests": REQUEST,
    "interactions": INTERACTION,
    "profiles": PROFILE,
    "user_playbooks": USER_PLAYBOOK,
    "agent_playbooks": AGENT_PLAYBOOK,
    "events": HISTORY,
    "dismissals": DISMISSED,
    "opt_outs": OPT_OUT,
    "outcomes": OUTCOME,
    "usages": USAGE,
    "erasures": ERASED,
}


class Health(JobQueue):
    """The part of a home that tells how it is."""

    def counts(self) -> dict[str, int]:
        """Rows by what they are; see the contract."""
        with self._database.read() as connection:
            counts = {name: _count(connection, table) for name, table in _COUNTED.items()}
            counts["supports"] = _count(connection, AGENT_PLAYBOOK, AGENT_PLAYBOOK.c.needs > 0)
            over = PROFILE.c.expiration_timestamp <= self._now_seconds()
            counts["expired_profiles"] = _count(connection, PROFILE, over)
            counts["profiles"] -= counts["expired_profiles"]
            done = connection.execute(select(func.count()).where(JOB.c.state == "done")).scalar_one()
        return counts | self.backlog() | {"jobs_done": int(done)}

    def check(self) -> list[Finding]:
        """Look for what is wrong: integrity, schema version, known faults of the driver."""
        with self._database.read() as connection:
            return [
                *self._database.dialect.findings(connection),
                _schema(connection),
                *self._full_text(connection),
                *_refused(connection),
                _sessions(connection),
                _dead_jobs(connection),
            ]

    def _full_text(self, connection: Connection) -> Iterator[Finding]:
        learnings = sum(_count(connection, kind.table) for kind in KINDS.values())
        indexed = select(func.count()).where(DOCUMENT.c.kind != INTERACTION_KIND)
        documents = connection.execute(indexed).scalar_one()
        if documents == learnings:
            yield Finding("ok", "full text", f"{documents} learnings are indexed")
        else:
            yield Finding("error", "full text", f"{documents} documents for {learnings} learnings; add them again")
        waiting = select(func.count()).where(REQUEST.c.text_indexed == false())
        requests = connection.execute(waiting).scalar_one()
        yield Finding("ok", "full text", f"{requests} requests wait for the next search of their user")


def _refused(connection: Connection) -> Iterator[Finding]:
    """Whether there are texts that no vector was made of, because the model refused them."""
    d, v = DOCUMENT.c, VECTOR.c
    made = exists().where(v.owner == d.owner, v.kind == d.kind, v.row == d.row)
    refused = _count(connection, DOCUMENT, d.embedded > "", ~made)
    if refused:
        told = f"{refused} texts were refused by their model; they are found by their words (another model tries again)"
        yield Finding("warning", "embeddings", told)


def _count(connection: Connection, table: Table, *which: ColumnElement[bool]) -> int:
    return int(connection.execute(select(func.count()).select_from(table).where(*which)).scalar_one())


def _schema(connection: Connection) -> Finding:
    found = version_of(connection)
    if found == REVISIONS[-1]:
        return Finding("ok", "schema", f"revision {found}")
    return Finding("error", "schema", f"revision {found}, not {REVISIONS[-1]}; open the store again to upgrade it")


def _sessions(connection: Connection) -> Finding:
    """Whether the sessions table says what the requests say."""
    said = connection.execute(select(func.coalesce(func.sum(SESSION.c.n_requests), 0))).scalar_one()
    stored = _count(connection, REQUEST)
    if said == stored:
        return Finding("ok", "sessions", f"{stored} requests, all in a session that counts them")
    return Finding("error", "sessions", f"the sessions count {said} requests, but {stored} are stored")


def _dead_jobs(connection: Connection) -> Finding:
    dead = select(func.count()).where(JOB.c.state == "dead")
    count = connection.execute(dead).scalar_one()
    if not count:
        return Finding("ok", "jobs", "none is dead")
    return Finding("warning", "jobs", f"{count} are dead; mend what their last_error says, then retry the dead jobs")
