"""The connections of a home: a writer behind a lock, readers beside it, and the one place that wraps errors."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import wraps
from typing import Concatenate, ParamSpec, TypeVar

from sqlalchemy import Connection

from reflexio_store.errors import ReflexioError, StoreError, StoreUnavailableError
from reflexio_store.forking import protect

from .dialects import ConflictError, Dialect, Engines

P = ParamSpec("P")
S = TypeVar("S")
R = TypeVar("R")

_TRIES = 6
_FIRST_PAUSE = 0.005  # seconds, doubled at each try
_CLOSE_WAITS = 10.0  # seconds for calls of other threads to end
_FORK_WAITS = 2.0  # the same before a fork, which is not ours to hold up for longer
_INHERITED: list[Engines] = []  # a forked child must not even finalise its parent's connections


def retried(method: Callable[Concatenate[S, P], R]) -> Callable[Concatenate[S, P], R]:
    """Let a method whose work is one transaction begin anew where the database broke it off in favour of another."""

    @wraps(method)
    def again(self: S, /, *args: P.args, **kwargs: P.kwargs) -> R:
        for tried in range(_TRIES - 1):
            try:
                return method(self, *args, **kwargs)
            except ConflictError:
                time.sleep(_FIRST_PAUSE * 2**tried * random.random())  # noqa: S311
        return method(self, *args, **kwargs)

    return again


class _Reading(threading.local):
    """The transaction that a thread is reading in."""

    connection: Connection | None = None


class Database:
    """An open database. Thread-safe; a forked child gets connections of its own."""

    def __init__(self, dialect: Dialect) -> None:
        self.dialect = dialect
        self._closed = False
        self._reset_locks()
        with self._at_the_seam():
            self._engines = dialect.connect()
        protect(self, last=True)

    def _reset_locks(self) -> None:
        self._writing = threading.Lock()
        self._reading = _Reading()
        self._gate = threading.Condition(threading.Lock())
        self._inside = 0
        self._forking = False

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that sees one state of the database and changes nothing.

        Inside of another of the same thread it is that one: what is read there sees the same state.
        """
        mine = self._reading
        if mine.connection is not None:
            yield mine.connection
            return
        turn = self._writing if self._engines.single else nullcontext()
        with self._entered(), turn, self._engines.reader.begin() as connection:
            mine.connection = connection
            try:
                yield connection
            finally:
                mine.connection = None

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that may write, rolled back if anything is raised; see :func:`retried`.

        One at a time in this process, unless the database keeps its writers apart itself. Not inside of a read of the
        same thread, which holds the only connection of a database in memory.
        """
        if self._reading.connection is not None:
            raise StoreError("Nothing can be written to a store while the same thread reads it: end reading() first")
        with self._entered():
            turn = nullcontext() if self._engines.many_writers else self._writing
            with turn, self._engines.writer.begin() as connection:
                yield connection

    def scrub(self) -> None:
        """After a delete: make away with what files beside the tables still hold of it."""
        with self._entered(), self._writing:
            self.dialect.scrub(self._engines)

    @contextmanager
    def upgrade(self) -> Iterator[Connection]:
        """A transaction that may change the schema, alone among all processes."""
        with self._entered(), self._writing, self.dialect.upgrading(self._engines) as connection:
            yield connection

    @contextmanager
    def _entered(self) -> Iterator[None]:
        with self._gate:
            self._gate.wait_for(lambda: not self._forking)
            if self._closed:
                raise StoreUnavailableError(f"The store {self.dialect.url} is closed. Open it again to use it.")
            self._inside += 1
        try:
            with self._at_the_seam():
                yield
        finally:
            with self._gate:
                self._inside -= 1
                self._gate.notify_all()

    @contextmanager
    def _at_the_seam(self) -> Iterator[None]:
        try:
            yield
        except ReflexioError:
            raise
        except self.dialect.errors as error:
            raise self.dialect.explain(error) from error

    def close(self) -> None:
        """Let running calls end, then release every connection. Closing twice is fine."""
        with self._gate:
            if self._closed:
                return
            self._closed = True
            self._gate.wait_for(lambda: self._inside == 0, timeout=_CLOSE_WAITS)
        try:
            with self._at_the_seam():
                self.dialect.before_close(self._engines)
        except StoreUnavailableError:
            return  # a lock held elsewhere keeps the tidying from us; whoever holds it will do it
        finally:
            self._engines.reader.dispose()
            self._engines.writer.dispose()

    def before_fork(self) -> None:
        """Let running calls end, so that no lock inside the driver is held by a thread that the child has not."""
        with self._gate:
            self._forking = True
            self._gate.wait_for(lambda: self._inside == 0, timeout=_FORK_WAITS)

    def after_fork(self, *, child: bool) -> None:
        """In the parent the threads go on; a child leaves the parent's connections alone and opens its own."""
        if not child:
            with self._gate:
                self._forking = False
                self._gate.notify_all()
            return
        self._reset_locks()
        if not self._closed and not self._engines.single:
            _INHERITED.append(self._engines)
            self._engines = self.dialect.connect()
