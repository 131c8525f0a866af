"""Records that are one row of a table each: between homes they are copied as they are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final, cast

from sqlalchemy import Connection, RowMapping, Table, case, or_
from sqlalchemy.sql.dml import ReturningInsert

from reflexio_store.models import SessionOutcome
from reflexio_store.moving import Dismissal, Erasure, Event, OptOut, RecordKind, Stored
from reflexio_store.terms import Usage

from .dialects import Dialect
from .tables import DISMISSED, ERASED, HISTORY, OPT_OUT, OUTCOME, USAGE
from .uses import outcome_row, outcome_value

PlainRecord = Erasure | Event | Dismissal | OptOut | SessionOutcome | Usage


@dataclass(frozen=True, slots=True)
class PlainRows:
    """The rows of one kind of record: their table, the way there and back, and the columns of which the larger value
    counts where a row is there already (none: it stays)."""

    table: Table
    row: Callable[[Any], dict[str, Any]]
    value: Callable[[RowMapping], PlainRecord]
    larger: tuple[str, ...] = ()


def _rows_of(table: Table, made: type[Erasure | Event | Dismissal | OptOut | Usage], *larger: str) -> PlainRows:
    names = [item.name for item in fields(made)]
    return PlainRows(
        table,
        lambda record: {name: getattr(record, name) for name in names},
        lambda row: made(**{name: row[name] for name in names}),
        larger,
    )


PLAIN_ROWS: Final[dict[RecordKind, PlainRows]] = {
    "erasure": _rows_of(ERASED, Erasure, "at_us"),
    "event": _rows_of(HISTORY, Event),
    "dismissal": _rows_of(DISMISSED, Dismissal),
    "opt_out": _rows_of(OPT_OUT, OptOut),
    "outcome": PlainRows(OUTCOME, outcome_row, outcome_value),
    "usage": _rows_of(USAGE, Usage, "calls", "prompt_tokens", "completion_tokens", "cost_micros"),
}


def put_plain(connection: Connection, dialect: Dialect, kind: PlainRows, records: Sequence[PlainRecord]) -> Stored:
    """Store records that are not there, and raise what is there to them where the larger value counts."""
    key = list(kind.table.primary_key.columns)
    rows = _one_of_each(kind, [column.name for column in key], map(kind.row, records))
    if "user_id" in kind.table.c:
        dialect.hold(connection, {row["user_id"] for row in rows})
    absent = dialect.insert(kind.table).on_conflict_do_nothing().returning(*key)
    new = {tuple(name) for name in connection.execute(absent, rows)}
    known = [row for row in rows if tuple(row[column.name] for column in key) not in new]
    raised = len(connection.execute(_raising(dialect, kind), known).all()) if kind.larger and known else 0
    return Stored(new=len(new), replaced=raised, same=len(records) - len(new) - raised)


def _one_of_each(kind: PlainRows, key: Sequence[str], rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows, each name once."""
    named: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in rows:
        first = named.setdefault(tuple(row[name] for name in key), row)
        first |= {name: max(first[name], row[name]) for name in kind.larger}
    return list(named.values())


def _raising(dialect: Dialect, kind: PlainRows) -> ReturningInsert[Any]:
    """Lets the larger values count of rows that are there, and answers with those that were raised."""
    statement = dialect.insert(kind.table)
    key, old, new = list(kind.table.primary_key.columns), kind.table.c, statement.excluded
    larger = statement.on_conflict_do_update(
        index_elements=key,
        set_={name: case((new[name] > old[name], new[name]), else_=old[name]) for name in kind.larger},
        where=or_(*(new[name] > old[name] for name in kind.larger)),
    )
    return cast("ReturningInsert[Any]", larger.returning(*key))
