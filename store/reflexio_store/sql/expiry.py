"""The end of what is true for a time only: expired profiles are never shown, and are deleted soon after."""

from __future__ import annotations

from sqlalchemy import Connection, and_, func, select

from reflexio_store.models import NEVER_EXPIRES

from .asking import ask_by
from .compaction import Compaction
from .database import retried
from .dialects import Dialect
from .history import note
from .jobs import PURGE
from .kinds import PROFILES
from .learning_rows import remove_rows
from .part import SECOND_US
from .tables import PROFILE

_p = PROFILE.c


class Expiry(Compaction):
    """The part of a home that lets profiles end."""

    @retried
    def purge_expired(self) -> int:
        """Delete the profiles whose time to live is over; how many. Nothing that they had superseded comes back."""
        dialect = self._database.dialect
        with self._dropping() as connection:
            over = _p.expiration_timestamp <= self._now_seconds()
            dialect.hold(connection, connection.execute(select(_p.user_id).where(over).distinct()).scalars())
            rows = connection.execute(select(PROFILE).where(over)).mappings().all()
            count = remove_rows(connection, dialect, PROFILES, over)
            note(connection, PROFILES, "expired", rows, words=False)
            ask_to_purge(connection, dialect, next_end(connection))
            return count


def ask_to_purge(connection: Connection, dialect: Dialect, expires: int | None) -> None:
    """Ask that what expires at a time (epoch seconds) be deleted soon after."""
    if expires is not None and expires < NEVER_EXPIRES:
        ask_by(connection, dialect, PURGE, "", due_us=(expires + 1) * SECOND_US)


def next_end(connection: Connection) -> int | None:
    """When the next profile expires."""
    ends = select(func.min(_p.expiration_timestamp)).where(and_(_p.expiration_timestamp < NEVER_EXPIRES))
    found = connection.execute(ends).scalar()
    return None if found is None else int(found)
