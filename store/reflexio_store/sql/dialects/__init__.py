"""The seam between the shared queries and one kind of database: what differs between databases is behind it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from sqlalchemy import Column, ColumnElement, Connection, Engine, Table

from reflexio_store.contract import Finding
from reflexio_store.errors import ReflexioError, StoreUnavailableError

Row = tuple[Any, ...]
"""A row in the order of its table's columns, as the driver takes it; JSON as text."""
TextIndexName = Literal["learning", "interaction"]


@dataclass(frozen=True, slots=True)
class DocumentKey:
    """Which row a document stands for. ``owner`` is its user_id (its agent_version, for an agent playbook)."""

    kind: str
    owner: str
    key: str
    seq: int = 0


@dataclass(frozen=True, slots=True)
class Document:
    """What the full-text index holds of one row: its words, and the scopes in which they may be found.

    ``size`` is the number of different words, as a query would count them.
    """

    key: DocumentKey
    scopes: tuple[str, ...]
    head: Sequence[str]
    body: Sequence[str]
    size: int


@dataclass(frozen=True, slots=True)
class Hits:
    """The documents (by row number of the index) of some scopes whose head, and whose body, hold one word."""

    head: frozenset[int]
    body: frozenset[int]


class TextIndex(Protocol):
    """Full text within scopes. Words come from :mod:`reflexio_store.sql.words` and are taken literally."""

    def put(self, connection: Connection, index: TextIndexName, documents: Iterable[Document]) -> None:
        """Add documents that are not in the index yet."""
        ...

    def drop(self, connection: Connection, index: TextIndexName, keys: Iterable[DocumentKey]) -> None:
        """Remove all documents with the same kind, owner and key (whatever their ``seq``)."""
        ...

    def compact(self, connection: Connection, index: TextIndexName, *, pages: int) -> bool:
        """Do a piece of what lets nothing that was dropped remain in the pages of the index; whether all is done.

        ``pages`` bounds the piece, and so the time that the transaction takes.
        """
        ...

    def count(self, connection: Connection, index: TextIndexName) -> int:
        """How many documents there are."""
        ...

    def size(self, connection: Connection, index: TextIndexName, scopes: Sequence[str]) -> int:
        """How many documents are in any of the scopes."""
        ...

    def hits(
        self, connection: Connection, index: TextIndexName, scopes: Sequence[str], words: Sequence[str]
    ) -> list[Hits]:
        """For each word, where it occurs within the scopes."""
        ...

    def documents(
        self, connection: Connection, index: TextIndexName, rows: Sequence[int]
    ) -> dict[int, tuple[DocumentKey, int]]:
        """Key and size of documents, by row number of the index."""
        ...

    def best_interactions(
        self,
        connection: Connection,
        user_id: str,
        scopes: Sequence[str],
        words: Sequence[str],
        *,
        window: tuple[int | None, int | None],
        limit: int,
    ) -> list[tuple[str, int]]:
        """``(request_id, seq)`` of the interactions that match best in all scopes; ``window`` in epoch seconds."""
        ...


@dataclass(frozen=True, slots=True)
class Engines:
    """How a home reaches its database. ``single`` says that both are one connection, used by one thread at a time;
    ``many_writers`` that the database itself keeps its writers apart, so that this process need not."""

    writer: Engine
    reader: Engine
    single: bool = False
    many_writers: bool = False


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

    def insert_all(self, connection: Connection, table: Table, rows: Sequence[Row]) -> None:
        """Store rows that are known to be new."""
        ...

    def hold(self, connection: Connection, owners: Iterable[str]) -> None:
        """Keep other transactions from what is learned of some users (or agent versions) until this one ends.

        Whoever changes learnings, deletes turns or indexes them holds their user; storing turns needs no hold.
        """
        ...

    def forget_hold(self, connection: Connection, owner: str) -> None:
        """Let nothing remain of the name of someone who is held, and of whom everything is deleted."""
        ...

    def has_tag(self, tags: Column[Any], tag: str) -> ColumnElement[bool]:
        """Whether a JSON list holds a text."""
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
