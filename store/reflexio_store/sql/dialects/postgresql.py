"""PostgreSQL: a pool of connections, many writers at once, and locks only where two would undo each other's work."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any, Final, cast

import orjson
from sqlalchemy import (
    JSON,
    Column,
    ColumnElement,
    Connection,
    String,
    Table,
    and_,
    bindparam,
    create_engine,
    event,
    literal_column,
    text,
    type_coerce,
)
from sqlalchemy.dialects.postgresql import JSONB, insert
from sqlalchemy.dialects.postgresql.base import PGDialect
from sqlalchemy.exc import InvalidatePoolError, SQLAlchemyError

from reflexio_store.contract import Finding
from reflexio_store.errors import MissingExtraError, ReflexioError, StoreUnavailableError
from reflexio_store.json_text import dumps_for_jsonb

try:
    import psycopg
except ImportError as error:
    raise MissingExtraError("A PostgreSQL store", "postgres") from error

from . import VERSION_TABLE, Engines, Row, on_conflict
from .postgresql_errors import explain
from .postgresql_text import PostgresqlText
from .postgresql_url import PostgresqlPlace

_ERRORS: Final = (SQLAlchemyError, psycopg.Error, OSError, OverflowError, UnicodeError)
_POOL_WAITS = 30.0  # seconds for a connection that another thread uses
_UPGRADE_WAITS = 60  # seconds for a lock, while upgrading
_OLDEST: Final = 140000
_NO_TAGS: Final[ColumnElement[Any]] = literal_column("'[]'::jsonb")  # as the index of those that have tags says it
_WORTH_COPYING: Final = 50  # rows
_SPELLING: Final = PGDialect()  # type: ignore[no-untyped-call]


class PostgresqlDialect:
    """See :class:`~reflexio_store.sql.dialects.Dialect`."""

    def __init__(self, place: PostgresqlPlace) -> None:
        self.name = "postgresql"
        self.errors: tuple[type[Exception], ...] = _ERRORS
        self._place = place
        self.text = PostgresqlText()

    @property
    def url(self) -> str:
        """Where the database is, without any password."""
        return self._place.url

    def connect(self) -> Engines:
        """New engines over one pool, which is empty at first. What is read is read from one state of the database."""
        engine = create_engine(
            "postgresql+psycopg://",
            connect_args=dict(self._place.parameters),
            pool_size=self._place.pool_size,
            max_overflow=0,
            pool_timeout=_POOL_WAITS,
            pool_use_lifo=True,  # so that connections which are seldom needed end
            json_serializer=dumps_for_jsonb,
            json_deserializer=orjson.loads,
            hide_parameters=True,  # an error message must not repeat a user's words
        )
        engine.dialect.use_insertmanyvalues_wo_returning = True  # one statement for many rows
        writer, reader = engine.execution_options(), engine.execution_options()
        event.listen(engine, "checkout", _look_whether_lost)
        event.listen(writer, "begin", _begin_writing)
        event.listen(reader, "begin", _begin_reading)
        return Engines(writer, reader, many_writers=True)

    @contextmanager
    def upgrading(self, engines: Engines) -> Iterator[Connection]:
        """A transaction in which no other process can change the schema: it holds the table of the version to its end.

        Of those that make that table at the same time all but one are told of a conflict once it is made.
        """
        with engines.writer.begin() as connection:
            _check_encoding(connection, self.url)
            connection.execute(text("SET TRANSACTION ISOLATION LEVEL READ COMMITTED"))  # to see what it waited for
            connection.execute(text(f"SET LOCAL lock_timeout = '{_UPGRADE_WAITS}s'"))
            connection.execute(text(_MAKE_VERSION))
            connection.execute(text(f"LOCK TABLE {VERSION_TABLE} IN EXCLUSIVE MODE"))
            yield connection

    def insert(self, table: Table) -> Any:
        """An INSERT that knows ``on_conflict_do_nothing`` and ``on_conflict_do_update``."""
        return insert(table)

    def insert_new(self, connection: Connection, table: Table, rows: Sequence[Row]) -> list[tuple[str, str]]:
        """Store the rows whose key is not there yet; the (user_id, request_id) of those, in the order given.

        All go in one order, so that two processes that send the same rows wait for each other, and none for both.
        Many are first copied as if none were known, which is nearly always so and takes half the time.
        """
        driver, ordered = _driver(connection), sorted(rows, key=lambda row: row[:2])
        if len(rows) >= _WORTH_COPYING:
            driver.execute("SAVEPOINT none_known")
            try:
                self.insert_all(connection, table, ordered)
                return [row[:2] for row in rows]
            except psycopg.errors.UniqueViolation:
                driver.execute("ROLLBACK TO SAVEPOINT none_known")
        new = set(driver.execute(f"{_insertion(table)} RETURNING user_id, request_id".encode(), _by_column(ordered)))
        return [row[:2] for row in rows if row[:2] in new]

    def insert_all(self, connection: Connection, table: Table, rows: Iterable[Row]) -> None:
        """Store rows that are known to be new; the server works while they are made."""
        with _driver(connection).cursor() as cursor, cursor.copy(_copying(table)) as copy:
            for row in rows:
                copy.write_row(row)

    def upsert(self, connection: Connection, table: Table, rows: Sequence[Row], changes: str, *values: Any) -> None:
        """Store rows, and change those whose key is there already."""
        _driver(connection).execute(_insertion(table, changes).encode(), (*_by_column(rows), *values))

    def hold(self, connection: Connection, owners: Iterable[str]) -> None:
        """Keep other transactions from what is learned of some users (or agent versions) until this one ends."""
        wanted = sorted(set(map(_digest, owners)))
        while wanted:
            held = set(connection.execute(_HOLD, {"owners": wanted}).scalars())
            wanted = [owner for owner in wanted if owner not in held]
            if wanted:
                connection.execute(_MAKE_HOLD, {"owners": wanted})

    def forget_hold(self, connection: Connection, owner: str) -> None:
        """Let nothing remain of the name of someone who is held, and of whom everything is deleted."""
        connection.execute(_FORGET_HOLD, {"owner": _digest(owner)})

    def wait_for_users(self, connection: Connection, table: Table) -> None:
        """Wait until every transaction has ended that has changed or locked rows of a table so far, or looked for some
        to lock. Others wait with it; who only reads the table neither waits nor is waited for."""
        connection.execute(text(f"LOCK TABLE {table.name} IN EXCLUSIVE MODE"))

    def is_private(self) -> ColumnElement[bool]:
        """Whether a request is not to be shared from."""
        return literal_column("(reflexio_request.options ->> 'skip_aggregation') = 'true'")

    def has_tag(self, tags: Column[Any], name: str) -> ColumnElement[bool]:
        """Whether a JSON list holds the text that is given for ``name``."""
        listed = type_coerce(tags, JSONB)
        return and_(listed != _NO_TAGS, listed.has_key(bindparam(name, type_=String())))

    def explain(self, error: Exception) -> ReflexioError:
        """The error that says what is wrong, where, and how to mend it."""
        return explain(error, self._place)

    def findings(self, connection: Connection) -> Iterator[Finding]:
        """The server's version and encoding, whether it can be written to, and whether it has pgvector."""
        info = _driver(connection).info
        version = info.parameter_status("server_version") or "of unknown version"
        if info.server_version >= _OLDEST:
            yield Finding("ok", "postgresql", f"PostgreSQL {version}")
        else:
            yield Finding("warning", "postgresql", f"PostgreSQL {version} is not tried any more; use 14 or newer")
        encoding = info.parameter_status("server_encoding")
        if encoding == "UTF8":
            yield Finding("ok", "encoding", "UTF8")
        else:
            yield Finding("error", "encoding", f"{encoding}, not UTF8; move to a database with ENCODING 'UTF8'")
        if connection.execute(text("SELECT pg_is_in_recovery()")).scalar():
            yield Finding("warning", "postgresql", "this server is a replica: it can be read, and not written to")
        vector = connection.execute(text(_PGVECTOR)).scalar()
        yield Finding("ok", "pgvector", f"version {vector}" if vector else "not on this server; nothing needs it")

    def scrub(self, engines: Engines) -> None:
        """Nothing: what files hold of it is the server's to overwrite."""

    def before_close(self, engines: Engines) -> None:
        """Nothing: what was committed is the server's."""


_MAKE_VERSION: Final = (  # as alembic makes it
    f"CREATE TABLE IF NOT EXISTS {VERSION_TABLE} "
    f"(version_num VARCHAR(32) NOT NULL CONSTRAINT {VERSION_TABLE}_pkc PRIMARY KEY)"
)
_HOLD: Final = text("SELECT owner FROM reflexio_hold WHERE owner = ANY(:owners) ORDER BY owner FOR UPDATE")
_MAKE_HOLD: Final = text(
    "INSERT INTO reflexio_hold (owner) SELECT unnest(CAST(:owners AS text[])) ON CONFLICT DO NOTHING"
)
_FORGET_HOLD: Final = text("DELETE FROM reflexio_hold WHERE owner = :owner")
_PGVECTOR: Final = "SELECT default_version FROM pg_available_extensions WHERE name = 'vector'"


def _digest(owner: str) -> str:
    """By what an owner is held: a row that is made again after everything of a user was deleted does not name them."""
    return hashlib.blake2b(owner.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


@cache
def _insertion(table: Table, changes: str = "") -> str:
    """The statement that takes a list for each column, and so is the same however many rows there are.

    For 1 to 1000 rows it was measured to be as fast as any other that knows of conflicts, a staging table among them.
    """
    names = ", ".join(column.name for column in table.columns)
    kinds = [(column, column.type.compile(_SPELLING)) for column in table.columns]
    arrays = ", ".join(f"%s::{'text' if _is_json(column) else kind}[]" for column, kind in kinds)
    values = ", ".join(f"{column.name}::{kind}" if _is_json(column) else column.name for column, kind in kinds)
    return (
        f"INSERT INTO {table.name} ({names}) SELECT {values} FROM unnest({arrays}) AS given ({names}) "  # noqa: S608
        + on_conflict(table, changes.replace("?", "%s"))
    )


def _by_column(rows: Sequence[Row]) -> tuple[list[Any], ...]:
    return tuple(list(column) for column in zip(*rows, strict=True))


@cache
def _copying(table: Table) -> bytes:
    return f"COPY {table.name} ({', '.join(column.name for column in table.columns)}) FROM STDIN".encode()


def _is_json(column: Column[Any]) -> bool:
    return isinstance(column.type, JSON)


def _look_whether_lost(driver: psycopg.Connection[Any], *_: object) -> None:
    """Let the pool begin anew where the server ended a connection that lay in it; without asking the server.

    Raises:
        InvalidatePoolError: It did. (What it said last is read first, and then that it ended.)
    """
    try:
        driver.pgconn.consume_input()
        driver.pgconn.consume_input()
    except psycopg.OperationalError as error:
        raise InvalidatePoolError from error


def _begin_writing(connection: Connection) -> None:
    """The driver begins with what the server is set to: what its owner made read-only stays so."""
    driver = _driver(connection)
    driver.isolation_level, driver.read_only = None, None


def _begin_reading(connection: Connection) -> None:
    driver = _driver(connection)
    driver.isolation_level, driver.read_only = psycopg.IsolationLevel.REPEATABLE_READ, True


def _driver(connection: Connection) -> psycopg.Connection[Any]:
    return cast("psycopg.Connection[Any]", connection.connection.driver_connection)


def _check_encoding(connection: Connection, url: str) -> None:
    encoding = _driver(connection).info.parameter_status("server_encoding")
    if encoding != "UTF8":
        raise StoreUnavailableError(
            f"The PostgreSQL database {url} has the encoding {encoding}, which cannot hold every text. Create one with "
            "ENCODING 'UTF8' TEMPLATE template0, and name that."
        )
