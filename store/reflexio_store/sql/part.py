"""What the parts of a home share: its database and its clock."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from sqlalchemy import Column, ColumnElement, and_, or_

from .database import Database

T = TypeVar("T")
Clock = Callable[[], int]
"""Tells the time in epoch microseconds."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
SECOND_US = 1_000_000
_CHUNK = 500
_ALTERNATIVES = 100  # SQLite limits the depth of a condition to 1000, and the number of parameters


def system_clock() -> int:
    """The time of this machine in epoch microseconds."""
    return time.time_ns() // 1000


class Part:
    """A part of a home: some methods of the contract over a shared database."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    @contextmanager
    def reading(self) -> Iterator[None]:
        """What this thread reads inside is read by one transaction; nothing can be written inside."""
        with self._database.read():
            yield

    def _now_seconds(self) -> int:
        return self._clock() // SECOND_US


def microseconds(moment: datetime) -> int:
    """A moment in epoch microseconds, exactly."""
    return (moment - _EPOCH) // _MICROSECOND


def seconds_from(moment: datetime | None) -> int | None:
    """The first whole epoch second that is not before a moment: bounds whole seconds as the moment does."""
    return None if moment is None else -(-microseconds(moment) // SECOND_US)


def chunks(items: Sequence[T], size: int = _CHUNK) -> Iterator[Sequence[T]]:
    """Slices of bounded length, for lists of parameters."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def among(owner: Column[Any], key: Column[Any], names: Iterable[tuple[Any, Any]]) -> Iterator[ColumnElement[bool]]:
    """Conditions for the rows with any of some names (owner and key), each for a bounded part of them.

    They are alternatives of equalities, for which every database uses its index; SQLite uses none for lists of pairs.
    """
    by_owner: dict[Any, list[Any]] = defaultdict(list)
    for one, other in names:
        by_owner[one].append(other)
    parts = [(one, part) for one, others in by_owner.items() for part in chunks(others)]
    for some in chunks(parts, _ALTERNATIVES):
        yield or_(*(and_(owner == one, key.in_(part)) for one, part in some))
