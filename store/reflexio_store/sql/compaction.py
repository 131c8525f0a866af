"""Compaction: the words of what was deleted leave the pages of the full text as well, soon and in small steps.

A document that is dropped is found no more, but its words stay in the pages of the index until these are rewritten,
which takes time in proportion to the whole index. So whoever drops words notes that as a row among the jobs, which
commits with the drop. A delete does a first small piece itself (all of it, where the index is small); what replaces
words does not wait. What remains is done by a thread in steps of some milliseconds, between which others write. Should
the process end before, the next one to open the store goes on.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

from sqlalchemy import Connection, and_, delete, select

from reflexio_store.errors import ReflexioError

from .database import Database
from .dialects import Dialect, TextIndexName
from .part import Clock, Part
from .tables import JOB

COMPACT: Final = "compact"
"""The kind of the job that says that an index is to be compacted; its key is the name of the index."""

_WITHIN_A_DELETE = 16  # pages: some milliseconds
_IN_A_STEP = 64
_PAUSE = 0.02  # seconds in which others write
_GATHER = 0.5  # seconds in which more may be replaced, so that the index is rewritten once for all of it
_AT_CLOSE = 1.0


class Compaction(Part):
    """The part of a home that lets what was deleted leave its pages."""

    def __init__(self, database: Database, clock: Clock) -> None:
        super().__init__(database, clock)
        self._compactor: threading.Thread | None = None
        self._hurry = threading.Event()

    def wait_for_compaction(self, timeout: float) -> bool:
        """Wait until nothing that was deleted remains in the pages of the full text, at most ``timeout`` seconds."""
        deadline = time.monotonic() + timeout
        while self._owed():
            if time.monotonic() >= deadline:
                return False
            self._go_on_compacting()
            if self._compactor is not None:
                self._compactor.join(min(0.1, max(0.0, deadline - time.monotonic())))
        return True

    @contextmanager
    def _dropping(self) -> Iterator[Connection]:
        """A transaction that drops documents; their indexes are compacted, at once or soon."""
        with self._database.write() as connection:
            yield connection
            self._compact(connection)
        self._clean_up()

    def _clean_up(self) -> None:
        """After a delete: let what was dropped leave the files."""
        self._go_on_compacting()
        self._database.scrub()

    def _compact(self, connection: Connection) -> None:
        """Begin to compact what is owed, in the transaction that dropped documents."""
        for index in _owed(connection):
            self._compact_piece(connection, index, _WITHIN_A_DELETE)

    def _compact_later(self) -> None:
        """After words were replaced: let them leave the pages soon."""
        self._go_on_compacting(_GATHER)

    def _go_on_compacting(self, after: float = 0.0) -> None:
        """Have a thread do what is owed, if anything is and none is at it."""
        if (self._compactor is None or not self._compactor.is_alive()) and self._owed():
            args = (after,)
            thread = threading.Thread(target=self._compact_all, args=args, name="reflexio-compacting", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # the interpreter is ending: what is owed stays noted
                return
            self._compactor = thread

    def _finish_compacting(self) -> None:
        """Before closing: let the thread go on for a moment, without pausing."""
        if self._compactor is not None:
            self._hurry.set()
            with suppress(ReflexioError):  # closed before, or cannot be read: what is owed stays noted
                self._go_on_compacting()
            self._compactor.join(_AT_CLOSE)

    def _owed(self) -> list[TextIndexName]:
        with self._database.read() as connection:
            return _owed(connection)

    def _compact_all(self, after: float) -> None:
        """Do what is owed, each time after some seconds, until nothing is: more may have come meanwhile."""
        try:
            while owed := self._owed():
                self._hurry.wait(after)
                for index in owed:
                    while not self._compact_more(index):
                        self._hurry.wait(_PAUSE)
                self._database.scrub()
                after = _GATHER
        except ReflexioError:  # closed, or locked for long: what is owed stays noted
            return

    def _compact_more(self, index: TextIndexName) -> bool:
        """Whether the index is compact now."""
        with self._database.write() as connection:
            return self._compact_piece(connection, index, _IN_A_STEP)

    def _compact_piece(self, connection: Connection, index: TextIndexName, pages: int) -> bool:
        done = self._database.dialect.text.compact(connection, index, pages=pages)
        if done:
            connection.execute(delete(JOB).where(_OWED, JOB.c.key == index))
        return done


_OWED: Final = and_(JOB.c.user_id == "", JOB.c.kind == COMPACT)


def owe(connection: Connection, dialect: Dialect, index: TextIndexName) -> None:
    """Note that words were dropped from an index, in the transaction that dropped them."""
    if dialect.text.keeps_dropped:
        row = {"user_id": "", "kind": COMPACT, "key": index, "state": "ready", "due_us": time.time_ns() // 1000}
        rest = {"attempts": 0, "generation": 1, "token": "", "lease_until_us": 0, "last_error": ""}
        connection.execute(dialect.insert(JOB).values(row | rest).on_conflict_do_nothing())


def _owed(connection: Connection) -> list[TextIndexName]:
    return list(connection.execute(select(JOB.c.key).where(_OWED)).scalars())
