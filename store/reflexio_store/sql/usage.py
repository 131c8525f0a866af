"""What models took, summed by user, day, extractor and model."""

from __future__ import annotations

import dataclasses

from sqlalchemy import Connection, and_, delete, func, select

from reflexio_store.contract import Usage

from .database import retried
from .dialects import Dialect
from .erasure import gone
from .part import Part
from .tables import USAGE

_c = USAGE.c
_SUMS = ("calls", "prompt_tokens", "completion_tokens", "cost_micros")


class UsageRecords(Part):
    """The part of a home that keeps account of models."""

    @retried
    def add_usage(self, usage: Usage) -> None:
        """Add to what a model took on a day; what it took for a user who was deleted meanwhile, it took for nobody."""
        with self._database.write() as connection:
            self._database.dialect.hold(connection, [usage.user_id])
            if gone(connection, [usage.user_id]):
                usage = dataclasses.replace(usage, user_id="")
            _add(connection, self._database.dialect, usage)

    def get_usage(self, *, since: str, user_id: str | None = None) -> list[Usage]:
        """What models took from the day ``since`` on, newest day first."""
        statement = select(USAGE).where(_c.day >= since).order_by(_c.day.desc(), _c.user_id, _c.extractor, _c.model)
        if user_id is not None:
            statement = statement.where(_c.user_id == user_id)
        with self._database.read() as connection:
            return [Usage(**row) for row in connection.execute(statement).mappings()]

    def spent(self, day: str, *, user_id: str | None = None) -> tuple[int, int]:
        """Tokens and millionths of cost of one day, of everybody or of one user."""
        which = _c.day == day if user_id is None else and_(_c.day == day, _c.user_id == user_id)
        tokens = func.coalesce(func.sum(_c.prompt_tokens + _c.completion_tokens), 0)
        statement = select(tokens, func.coalesce(func.sum(_c.cost_micros), 0)).where(which)
        with self._database.read() as connection:
            found = connection.execute(statement).one()
        return int(found[0]), int(found[1])


def forget_user(connection: Connection, dialect: Dialect, user_id: str) -> None:
    """Let what was spent on a user have been spent on nobody: the sums stay true, and do not name them."""
    spent = connection.execute(select(USAGE).where(_c.user_id == user_id)).mappings().all()
    for row in spent if user_id else ():
        _add(connection, dialect, dataclasses.replace(Usage(**row), user_id=""))
        connection.execute(delete(USAGE).where(_c.user_id == user_id))


def _add(connection: Connection, dialect: Dialect, usage: Usage) -> None:
    statement = dialect.insert(USAGE)
    statement = statement.on_conflict_do_update(
        index_elements=[_c.user_id, _c.day, _c.extractor, _c.model],
        set_={name: _c[name] + statement.excluded[name] for name in _SUMS},
    )
    connection.execute(statement, [dataclasses.asdict(usage)])
