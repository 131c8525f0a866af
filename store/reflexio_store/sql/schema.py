"""The schema's version, and the upgrade that is safe when many processes start at once.

Alembic keeps the version in a table of our own, and is imported only when there is something to upgrade. Its
module-level proxies (``alembic.op``, ``alembic.context``) are not used, so that a host running its own migrations at
the same time, or around ours, is not disturbed.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import Connection, inspect, select, text

from reflexio_store.errors import SchemaTooNewError

from .database import Database, retried
from .dialects import VERSION_TABLE, Dialect
from .expiry import ask_to_purge, next_end
from .indexing import index_again
from .part import system_clock
from .sharing import ask_to_aggregate
from .tables import USER_PLAYBOOK

if TYPE_CHECKING:
    from alembic.runtime.migration import MigrationContext, MigrationStep

REVISIONS: Final = ("0001", "0002", "0003", "0004", "0005", "0006")
"""Every revision that this release knows, oldest first; the last is the head."""
_INDEXED_ANEW: Final = "0006"
"""The last revision after which the full text is made anew, because words or tables of it have changed."""
_ASKED_BY_JOBS: Final = "0004"
"""The first revision whose releases asked for the end of profiles, and for what users agree on, by jobs."""

_upgrading = threading.Lock()  # alembic is not safe among threads


@retried
def ensure_schema(database: Database) -> None:
    """Make or upgrade the tables where needed.

    Raises:
        SchemaTooNewError: The database was written by a newer release; nothing was changed.
    """
    with database.read() as connection:
        found = version_of(connection)
    if _is_current(database, found):
        return
    with _upgrading, database.upgrade() as connection:
        before = version_of(connection)
        if not _is_current(database, before):
            _upgrade(connection)
            if before is None or before < _INDEXED_ANEW:
                index_again(connection, database.dialect)
            if before is not None and before < _ASKED_BY_JOBS:
                _ask_for_all(connection, database.dialect)


def _ask_for_all(connection: Connection, dialect: Dialect) -> None:
    """Ask for the work that earlier releases did not know of."""
    ask_to_purge(connection, dialect, next_end(connection))
    versions = connection.execute(select(USER_PLAYBOOK.c.agent_version).distinct()).scalars().all()
    ask_to_aggregate(connection, dialect, versions, now_us=system_clock())


def version_of(connection: Connection) -> str | None:
    """The revision that the tables are at; None where there are none yet."""
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    found = connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar()  # noqa: S608
    return None if found is None else str(found)


def _is_current(database: Database, found: str | None) -> bool:
    if found is not None and found not in REVISIONS:
        raise SchemaTooNewError(
            f"{database.dialect.url} has schema {found}, and this release of reflexio-middleware knows schemas up to "
            f"{REVISIONS[-1]}: a newer release wrote it. Upgrade reflexio-middleware; nothing was changed."
        )
    return found == REVISIONS[-1]


def _upgrade(connection: Connection) -> None:
    from alembic.operations import Operations
    from alembic.runtime.migration import MigrationContext, MigrationStep
    from alembic.script import ScriptDirectory

    scripts = ScriptDirectory(str(Path(__file__).parent / "migrations"))

    def steps(current: Any, _: MigrationContext) -> Iterable[MigrationStep]:
        base = current[0] if current else "base"
        found = list(scripts.iterate_revisions(REVISIONS[-1], base))
        return [MigrationStep.upgrade_from_script(scripts.revision_map, script) for script in reversed(found)]

    context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE, "fn": steps})
    context.run_migrations(operations=Operations(context))
