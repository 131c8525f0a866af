"""What was deleted stays deleted: a turn that still waits in some spool when it is deleted is not stored afterwards.

Only digests are kept, for 90 days. A turn is refused if it, its session, its user or all turns were deleted after it
was said. What was at work for a user meanwhile writes nothing under their name (:func:`gone`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from sqlalchemy import Connection, delete, exists, false, or_, select

from reflexio_store.erasing import KEPT_US, digest_of, digests_of, is_erased
from reflexio_store.records import TurnRecord

from .dialects import Dialect
from .part import chunks
from .tables import ERASED, SESSION

_c = ERASED.c
_LOOKED: Final = exists(select(_c.digest).where(false()).with_for_update(read=True, key_share=True))
"""Nothing: no row is locked, only the table is marked as looked into, to the end of the transaction."""
_ANY: Final = select(or_(exists().select_from(ERASED), _LOOKED))


def note(connection: Connection, dialect: Dialect, digests: Iterable[str], *, now_us: int) -> None:
    """Note that what has these digests is deleted."""
    connection.execute(delete(ERASED).where(_c.at_us < now_us - KEPT_US))
    statement = dialect.insert(ERASED)
    statement = statement.on_conflict_do_update(index_elements=[_c.digest], set_={"at_us": statement.excluded.at_us})
    connection.execute(statement, [{"digest": digest, "at_us": now_us} for digest in sorted(set(digests))])


def wait_for_storing(connection: Connection, dialect: Dialect) -> None:
    """Wait until those have ended who began to store turns before a note was committed, and so have not seen it."""
    dialect.wait_for_users(connection, ERASED)


def not_erased(connection: Connection, turns: Sequence[TurnRecord]) -> list[TurnRecord]:
    """The turns of which nothing was deleted since they were said."""
    if not connection.execute(_ANY).scalar():
        return list(turns)
    names = {id(turn): digests_of(turn) for turn in turns}
    wanted = sorted({digest for digests in names.values() for digest in digests})
    found: dict[str, int] = {}
    for part in chunks(wanted):
        rows = connection.execute(select(_c.digest, _c.at_us).where(_c.digest.in_(part)))
        found |= {row.digest: row.at_us for row in rows}
    return [turn for turn in turns if not is_erased(turn, names[id(turn)], found)]


def gone(connection: Connection, user_ids: Iterable[str]) -> set[str]:
    """Those of some users who were deleted, and have said nothing since.

    Whoever goes by the answer holds the users, or else the row to be written, at which the delete of a user looks last.
    """
    names = {digest_of("user", user_id): user_id for user_id in user_ids if user_id}
    found: set[str] = set()
    for part in chunks(sorted(names)):
        noted = connection.execute(select(_c.digest).where(_c.digest.in_(part))).scalars()
        found |= {names[digest] for digest in noted}
    for part in chunks(sorted(found)):
        back = select(SESSION.c.user_id).where(SESSION.c.user_id.in_(part)).distinct()
        found -= set(connection.execute(back).scalars())
    return found
