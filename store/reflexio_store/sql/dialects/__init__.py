"""The seam between the shared queries and one kind of database: what differs between databases is behind it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol

from sqlalchemy import Column, ColumnElement, Connection, Engine, Table

from reflexio_store.contract import Finding
from reflexio_store.errors import ReflexioError, StoreUnavailableError

Row = tuple[Any, ...]
"""A row in the order of its table's columns, as the driver takes it; JSON as text."""
TextIndexName = Literal["learning", "interaction"]
VERSION_TABLE: Final = "reflexio_alembic_version"
"""Where alembic keeps the version of our schema, apart from that of a host."""
INDEXES: Final[tuple[TextIndexName, ...]] = ("learning", "interaction")


class TextIndex(Protocol):
    """An inverted index: which documents, by number, hold a term. What a document is, is none of its business.

    Terms are made by :func:`reflexio_store.sql.words.terms_of`: letters and digits, to be taken literally.
    """

    keeps_dropped: bool
    """Whether the words of dropped documents stay in its pages until it is compacted."""

    def put(self, connection: Connection, index: TextIndexName, entries: Sequence[tuple[int, Sequence[str]]]) -> None:
        """Add documents, each with its different terms; their numbers are not in the index yet."""
        ...

    def drop(self, connection: Connection, index: TextIndexName, entries: Sequence[tuple[int, Sequence[str]]]) -> None:
        """Remove documents, each named with the very terms it was put with."""
        ...

    def clear(self, connection: Connection, index: TextIndexName) -> None:
        """Remove all documents."""
        ...

    def compact(self, connection: Connection, index: TextIndexName, *, pages: int) -> bool:
        """Do a piece of what lets nothing that was dropped remain in the pages of the index; whether all is done.

        ``pages`` bounds the piece, and so the time that the transaction takes.
        """
        ...

    def counts(self, connection: Connection, index: TextIndexName, terms: Sequence[str]) -> list[int]:
        """How many documents hold each term."""
        ...

    def rows(self, connection: Connection, index: TextIndexName, terms: Sequence[str], most: int) -> list[list[int]]:
        """The documents that hold each term: the ``most`` with the highest numbers, in any order."""
        ...


@dataclass(frozen=True, slots=True)
class Engines:
    """How a home reaches its database. ``single`` says that both are one connection, used by one thread at a time;
    ``many_writers`` that the database itself keeps its writers apart, so that this process need not."""

    writer: Engine
    reader: Engine
    single: bool = False
    many_writers: bool = False


def on_conflict(table: Table, changes: str) -> str:
    """What becomes of a row whose key is there already: the change of that one, or nothing."""
    if not changes:
        return "ON CONFLICT DO NOTHING"
    return f"ON CONFLICT ({', '.join(column.name for column in table.primary_key)}) DO UPDATE SET {changes}"


class ConflictError(StoreUnavailableError):
    """The database broke off a transaction in favour of another one; the same again is likely to succeed."""


class Dialect(Protocol):
    """One kind of database."""

    @property
    def name(self) -> str:
        """``sqlite`` or ``postgresql``."""
        ...

    @property
    def url(self) -> str:
        """Where the database is, without any password."""
        ...

    @property
    def text(self) -> TextIndex:
        """Its full-text index."""
        ...

    @property
    def errors(self) -> tuple[type[Exception], ...]:
        """The driver's own errors, which :meth:`explain` turns into ours."""
        ...

    def connect(self) -> Engines:
        """New engines; called once, and again in a forked child."""
        ...

    def upgrading(self, engines: Engines) -> AbstractContextManager[Connection]:
        """A transaction in which no other process can change the schema."""
        ...

    def insert(self, table: Table) -> Any:
        """An INSERT that knows ``on_conflict_do_nothing`` and ``on_conflict_do_update``."""
        ...

    def insert_new(self, connection: Connection, table: Table, rows: Sequence[Row]) -> list[tuple[str, str]]:
        """Store the rows whose key is not there yet; the (user_id, request_id) of those, in the order given."""
        ...

    def insert_all(self, connection: Connection, table: Table, rows: Iterable[Row]) -> None:
        """Store rows that are known to be new."""
        ...

    def upsert(self, connection: Connection, table: Table, rows: Sequence[Row], changes: str, *values: Any) -> None:
        """Store rows, and change those whose key is there already: ``changes`` is the SET clause in SQL, in which
        ``excluded`` is the row given, and each ``?`` the next of ``values``."""
        ...

    def hold(self, connection: Connection, owners: Iterable[str]) -> None:
        """Keep other transactions from what is learned of some users (or agent versions) until this one ends.

        Whoever changes learnings, deletes turns or indexes them holds their user; storing turns needs no hold.
        """
        ...

    def forget_hold(self, connection: Connection, owner: str) -> None:
        """Let nothing remain of the hold on someone of whom everything is deleted."""
        ...

    def wait_for_users(self, connection: Connection, table: Table) -> None:
        """Wait until every transaction has ended that has changed or locked rows of a table so far, or looked for some
        to lock. Who only reads it is not waited for."""
        ...

    def is_private(self) -> ColumnElement[bool]:
        """Whether a request is not to be shared from, in the words of the index ``ix_reflexio_request_private``."""
        ...

    def __hash__(self) -> int: ...

    def has_tag(self, tags: Column[Any], name: str) -> ColumnElement[bool]:
        """Whether a JSON list holds the text that is given for ``name`` to the statement."""
        ...

    def explain(self, error: Exception) -> ReflexioError:
        """The error that says what is wrong, where, and how to mend it."""
        ...

    def findings(self, connection: Connection) -> Iterator[Finding]:
        """What a health check finds that only this database can tell."""
        ...

    def scrub(self, engines: Engines) -> None:
        """After a delete: make away with what files beside the tables still hold of it, as far as that is ours."""
        ...

    def before_close(self, engines: Engines) -> None:
        """A last act of tidying, as far as it can be had without waiting."""
        ...
