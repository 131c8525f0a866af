"""SQLite: a file in WAL mode with one writer per process, or a database in memory."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from sqlite3 import SQLITE_BUSY
from typing import Any, Final

import orjson
from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Engine,
    Pool,
    QueuePool,
    StaticPool,
    String,
    Table,
    and_,
    bindparam,
    create_engine,
    event,
    exists,
    func,
    literal_column,
    select,
    type_coerce,
)
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.exc import SQLAlchemyError

from reflexio_store.contract import Finding
from reflexio_store.errors import ReflexioError, StoreUnavailableError
from reflexio_store.json_text import dumps
from reflexio_store.lockfile import LockFile

from . import INDEXES, Engines, Row, on_conflict
from .sqlite_driver import MEND, driver, has_wal_fault, warn_of_wal_fault
from .sqlite_errors import explain
from .sqlite_text import SqliteText
from .sqlite_url import SqlitePlace

_READERS, _MORE_READERS = 4, 28
_LOOK_AGAIN: Final = (0.0005, 0.004)  # seconds between looking whether one may write: first, and at most
_ERRORS: Final = (SQLAlchemyError, driver.Error, OSError, OverflowError, UnicodeError)
_NO_TAGS: Final[ColumnElement[Any]] = literal_column("'[]'")  # as the index of those that have tags says it
_NO_WAITING: Final = "PRAGMA busy_timeout = 0"  # of a writer, see _begin_writing; in WAL mode nothing else has to wait
_SCRUB_WAITS_MS: Final = 500  # for a reader of another process to let go of the write-ahead log


class SqliteDialect:
    """See :class:`~reflexio_store.sql.dialects.Dialect`."""

    def __init__(self, place: SqlitePlace) -> None:
        self.name = "sqlite"
        self.errors: tuple[type[Exception], ...] = _ERRORS
        self._place = place
        self.text = SqliteText()

    @property
    def url(self) -> str:
        """Where the database is."""
        return self._place.url

    def connect(self) -> Engines:
        """New engines: one connection that writes, a few that read; or one for both, in memory."""
        if self._place.path is None:
            engine = self._engine(_begin, self._open, poolclass=StaticPool)
            return Engines(engine, engine, single=True)
        warn_of_wal_fault()
        self._place.path.parent.mkdir(parents=True, exist_ok=True)
        if not self._place.path.exists():
            self._place.path.touch(mode=0o600)  # it will hold users' words
        writer = self._engine(self._begin_writing, self._open_writer, poolclass=QueuePool, pool_size=1, max_overflow=0)
        reader = self._engine(
            _begin, self._open_reader, poolclass=QueuePool, pool_size=_READERS, max_overflow=_MORE_READERS
        )
        return Engines(writer, reader)

    def _engine(
        self, begin: Callable[[Connection], None], creator: Callable[[], driver.Connection], **options: Any
    ) -> Engine:
        pool: type[Pool] = options.pop("poolclass")
        engine = create_engine(
            "sqlite://",
            module=driver,
            creator=creator,
            poolclass=pool,
            json_serializer=dumps,
            json_deserializer=orjson.loads,
            hide_parameters=True,  # an error message must not repeat a user's words
            **options,
        )
        event.listen(engine, "begin", begin)
        return engine

    def _begin_writing(self, connection: Connection) -> None:
        """Begin to write, waiting for whoever writes now.

        SQLite's own waiting looks ever more seldom, up to ten times a second, and so may miss every moment in which
        nobody writes; this looks every few milliseconds.
        """
        raw: driver.Connection = connection.connection.driver_connection  # type: ignore[assignment]
        deadline = time.monotonic() + self._place.timeout
        wait = _LOOK_AGAIN[0]
        while True:
            try:
                raw.execute("BEGIN IMMEDIATE")
                break
            except driver.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != SQLITE_BUSY or time.monotonic() >= deadline:
                    raise
            time.sleep(wait)
            wait = min(2 * wait, _LOOK_AGAIN[1])
        if not self._is_in_place(connection):
            raw.execute("ROLLBACK")
            raise StoreUnavailableError(
                f"The file {self._place.path} was removed or replaced while it was open: what is stored in it now "
                "would be lost. Captured turns wait in the spool; end this process, and start it again."
            )

    def _is_in_place(self, connection: Connection) -> bool:
        """Whether the open file is still the one under its name. SQLite itself does not look, in WAL mode."""
        try:
            found = os.stat(self._place.path or "")
        except FileNotFoundError:
            return False
        file = found.st_dev, found.st_ino
        return bool(connection.info.setdefault("file", file) == file)  # first asked when it is open

    def _open(self) -> driver.Connection:
        connection = driver.connect(
            ":memory:" if self._place.path is None else self._place.path,
            timeout=self._place.timeout,
            isolation_level=None,
            check_same_thread=False,
        )
        try:
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute("PRAGMA secure_delete = ON")
            connection.execute(f"PRAGMA synchronous = {self._place.synchronous}")
            connection.execute("PRAGMA journal_size_limit = 67108864")
        except BaseException:
            connection.close()
            raise
        return connection

    def _open_writer(self) -> driver.Connection:
        connection = self._open()
        connection.execute(_NO_WAITING)
        return connection

    def _open_reader(self) -> driver.Connection:
        connection = self._open()
        connection.execute("PRAGMA query_only = ON")
        return connection

    @contextmanager
    def upgrading(self, engines: Engines) -> Iterator[Connection]:
        """A transaction in which no other process can change the schema, with foreign keys unenforced.

        SQLite's own waiting is not enough when many processes start at once: switching to WAL may fail although a
        timeout is set. So a lock file beside the database is taken first.
        """
        if self._place.path is None:
            with engines.writer.begin() as connection:
                yield connection
            return
        lock = LockFile(self._place.path.with_name(f"{self._place.path.name}.upgrade.lock"))
        if not lock.acquire(self._place.timeout):
            raise StoreUnavailableError(
                f"Another process has been upgrading {self._place.path} for more than {self._place.timeout:g} s; "
                "wait for it, or stop it."
            )
        try:
            engine = self._engine(self._begin_writing, self._open_for_upgrade, poolclass=StaticPool)
            try:
                with engine.begin() as connection:
                    yield connection
            finally:
                engine.dispose()
        finally:
            lock.release(remove=True)

    def _open_for_upgrade(self) -> driver.Connection:
        connection = self._open()
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA foreign_keys = OFF")  # ignored inside a transaction, hence here
        except BaseException:
            connection.close()
            raise
        return connection

    def insert(self, table: Table) -> Any:
        """An INSERT that knows ``on_conflict_do_nothing`` and ``on_conflict_do_update``."""
        return insert(table)

    def insert_new(self, connection: Connection, table: Table, rows: Sequence[Row]) -> list[tuple[str, str]]:
        """Store the rows whose key is not there yet; the (user_id, request_id) of those, in the order given.

        What is added gets a higher row number than all before it: that tells the new from the known where some are
        known, and costs nothing where none is.
        """
        last = connection.exec_driver_sql(f"SELECT max(rowid) FROM {table.name}").scalar() or 0  # noqa: S608
        if connection.exec_driver_sql(_insertion(table), list(rows)).rowcount == len(rows):
            return [row[:2] for row in rows]
        added = f"SELECT user_id, request_id FROM {table.name} WHERE rowid > ? ORDER BY rowid"  # noqa: S608
        return [(user_id, request_id) for user_id, request_id in connection.exec_driver_sql(added, (last,))]

    def insert_all(self, connection: Connection, table: Table, rows: Iterable[Row]) -> None:
        """Store rows that are known to be new."""
        if given := list(rows):
            connection.exec_driver_sql(_insertion(table), given)

    def upsert(self, connection: Connection, table: Table, rows: Sequence[Row], changes: str, *values: Any) -> None:
        """Store rows, and change those whose key is there already."""
        connection.exec_driver_sql(_insertion(table, changes), [(*row, *values) for row in rows])

    def hold(self, connection: Connection, owners: Iterable[str]) -> None:
        """Nothing: SQLite has one writer at a time."""

    def forget_hold(self, connection: Connection, owner: str) -> None:
        """Nothing, likewise."""

    def wait_for_users(self, connection: Connection, table: Table) -> None:
        """Nothing, likewise."""

    def is_private(self) -> ColumnElement[bool]:
        """Whether a request is not to be shared from."""
        return literal_column("json_extract(reflexio_request.options, '$.skip_aggregation') = 1")

    def has_tag(self, tags: Column[Any], name: str) -> ColumnElement[bool]:
        """Whether a JSON list holds the text that is given for ``name``."""
        items = func.json_each(tags).table_valued("value")
        holds = exists(select(1).select_from(items).where(items.c.value == bindparam(name)))
        return and_(type_coerce(tags, String) != _NO_TAGS, holds)

    def explain(self, error: Exception) -> ReflexioError:
        """The error that says what is wrong, where, and how to mend it."""
        return explain(error, self._place)

    def findings(self, connection: Connection) -> Iterator[Finding]:
        """Integrity, foreign keys, and the fault of the linked SQLite in WAL mode."""
        for index in INDEXES:  # FTS5 checks itself by what it knows of its pages, and looks what is new when it is read
            self.text.counts(connection, index, ["any"])
        problems = [str(row[0]) for row in connection.exec_driver_sql("PRAGMA quick_check(10)")]
        if problems == ["ok"]:
            yield Finding("ok", "integrity", "every page and index is sound")
        else:
            yield Finding("error", "integrity", f"{'; '.join(problems)}. Restore a backup.")
        orphans = len(connection.exec_driver_sql("PRAGMA foreign_key_check").all())
        if orphans:
            yield Finding("error", "foreign keys", f"{orphans} rows belong to a request that is not there")
        else:
            yield Finding("ok", "foreign keys", "every interaction belongs to a request")
        if self._place.path is not None and has_wal_fault():
            fault = "has the WAL-reset fault (rare: several processes writing at once may damage the file)"
            yield Finding("warning", "sqlite", f"SQLite {driver.sqlite_version} {fault}. Mend it with: {MEND}")
        else:
            yield Finding("ok", "sqlite", f"SQLite {driver.sqlite_version}")

    def scrub(self, engines: Engines) -> None:
        """Empty the write-ahead log, which still holds pages as they were before a delete.

        A reader of another process may hold it up; then it is emptied with the next delete, or when the last
        connection closes.
        """
        if self._place.path is None:
            return
        with engines.writer.connect() as connection:
            driver = connection.connection.driver_connection
            if driver is not None:
                driver.execute(f"PRAGMA busy_timeout = {_SCRUB_WAITS_MS}")
                try:
                    driver.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
                finally:
                    driver.execute(_NO_WAITING)

    def before_close(self, engines: Engines) -> None:
        """Bring what is in the write-ahead log into the file, without waiting for anyone."""
        if self._place.path is not None:
            with engines.writer.connect() as connection:
                driver = connection.connection.driver_connection
                if driver is not None:
                    driver.execute("PRAGMA wal_checkpoint(PASSIVE)")


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN")


@cache
def _insertion(table: Table, changes: str = "") -> str:
    names = [column.name for column in table.columns]
    marks = ", ".join("?" * len(names))
    return f"INSERT INTO {table.name} ({', '.join(names)}) VALUES ({marks}) {on_conflict(table, changes)}"  # noqa: S608
