"""Users who want nothing learned of them and nothing recalled for them."""

from __future__ import annotations

from typing import Final

from sqlalchemy import Connection, bindparam, delete, exists, select

from .compaction import Compaction
from .database import retried
from .sharing import reconcile
from .tables import OPT_OUT

_c = OPT_OUT.c


class Opting(Compaction):
    """The part of a home that knows who opted out."""

    @retried
    def opt_out(self, user_id: str) -> bool:
        """Learn nothing more of a user; False if it was so already. What was learned stays, until it is deleted."""
        dialect = self._database.dialect
        row = {"user_id": user_id, "at_us": self._clock()}
        with self._database.write() as connection:
            dialect.hold(connection, [user_id])
            statement = dialect.insert(OPT_OUT).on_conflict_do_nothing().returning(_c.user_id)
            new = connection.execute(statement, [row]).first() is not None
            lost = reconcile(connection, dialect, user_id, now_us=self._clock())
        if lost.retired:
            self._compact_later()
        return new

    @retried
    def opt_in(self, user_id: str) -> bool:
        """Learn of a user again; False if nothing stood against it."""
        with self._database.write() as connection:
            return connection.execute(delete(OPT_OUT).where(_c.user_id == user_id)).rowcount > 0

    def opted_out(self, user_id: str) -> bool:
        """Whether a user opted out."""
        with self._database.read() as connection:
            return has_opted_out(connection, user_id)


def has_opted_out(connection: Connection, user_id: str) -> bool:
    """Whether a user opted out."""
    return bool(connection.execute(_OPTED_OUT, {"user_id": user_id}).scalar())


_OPTED_OUT: Final = select(exists().where(_c.user_id == bindparam("user_id")))
