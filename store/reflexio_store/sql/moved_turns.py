"""Whole turns as they move: requests with all their messages, and with the extractors that have still to read them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import fields
from itertools import takewhile
from math import inf
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, RowMapping, and_, select, tuple_

from reflexio_store.records import InteractionRecord, TurnRecord

from .dialects import Dialect
from .part import among
from .tables import INTERACTION, REQUEST, UNLEARNED

_PAGE_CHARACTERS: Final = 8_000_000  # of messages: a page of requests that hold more than this is cut short
_ROWS_AT_ONCE: Final = 500  # held in memory on their way from a server
_BESIDE: Final = {"interactions", "metadata", "options", "unread"}
_REQUEST_FIELDS: Final = sorted({item.name for item in fields(TurnRecord)} - _BESIDE)
_MESSAGE_FIELDS: Final = [item.name for item in fields(InteractionRecord) if item.name != "place"]
_r, _i, _u = REQUEST.c, INTERACTION.c, UNLEARNED.c
_MESSAGES: Final = select(*(_i[name] for name in ("user_id", "request_id", "seq", *_MESSAGE_FIELDS))).order_by(
    _i.user_id, _i.request_id, _i.seq
)
_UNREAD: Final = select(_u.user_id, _u.request_id, _u.extractor, _u.forced).join(
    REQUEST, and_(_r.user_id == _u.user_id, _r.session_id == _u.session_id, _r.request_id == _u.request_id)
)

Name = tuple[str, str]
"""A user and a request."""


def turns_in(connection: Connection, rows: Sequence[RowMapping]) -> list[TurnRecord]:
    """The turns of requests that follow one another by name; of large ones only the first."""
    if not rows:
        return []
    first, last = tuple_(*_name_in(rows[0])), tuple_(*_name_in(rows[-1]))
    span = tuple_(_i.user_id, _i.request_id)
    messages, beyond = _messages(connection, and_(span >= first, span <= last), _PAGE_CHARACTERS)
    span = tuple_(_r.user_id, _r.request_id)
    unread = _unread(connection, and_(span >= first, span <= last))
    whole = takewhile(lambda row: _name_in(row) != beyond, rows)
    return [_turn(row, messages, unread) for row in whole]


def turns_here(connection: Connection, turns: Iterable[TurnRecord]) -> dict[Name, TurnRecord]:
    """The turns that are stored under the names of these."""
    here: dict[Name, TurnRecord] = {}
    names = [name_of(turn) for turn in turns]
    messages: dict[Name, list[InteractionRecord]] = {}
    for some in among(_i.user_id, _i.request_id, names):
        messages |= _messages(connection, some)[0]
    for some in among(_r.user_id, _r.request_id, names):
        requests = connection.execute(select(REQUEST).where(some)).mappings()
        here |= {_name_in(row): _turn(row, messages, {}) for row in requests}
    return here


def name_of(turn: TurnRecord) -> Name:
    """Its user and its id."""
    return turn.user_id, turn.request_id


def leave_turns_unread(connection: Connection, dialect: Dialect, turns: Iterable[TurnRecord]) -> None:
    """Let those extractors read new turns that had not done so where they come from."""
    rows = [
        (turn.user_id, turn.session_id, extractor, turn.request_id, len(turn.interactions), forced)
        for turn in turns
        for extractor, forced in turn.unread.items()
    ]
    if rows:
        dialect.insert_all(connection, UNLEARNED, rows)


def _messages(
    connection: Connection, which: ColumnElement[bool], most: float = inf
) -> tuple[dict[Name, list[InteractionRecord]], Name | None]:
    """The messages of requests, in order; where they hold more than ``most`` characters, those of the first requests,
    and the name of the one to go on with."""
    messages: dict[Name, list[InteractionRecord]] = {}
    name, said, size = None, [], 0
    rows: Iterable[Any] = connection.execute(_MESSAGES.where(which).execution_options(yield_per=_ROWS_AT_ONCE))
    for user_id, request_id, place, role, content, at, tools, shown, cited, *rest in rows:
        if name != (user_id, request_id):
            name = user_id, request_id
            if size > most:
                return messages, name
            said = messages[name] = []
        item = InteractionRecord(role, content, at, tools or [], shown or [], cited or [], *rest)
        if place != len(said):
            item.place = place
        said.append(item)
        size += len(item.content) + len(item.shadow_content) + len(item.expert_content) + len(item.image_encoding)
    return messages, None


def _unread(connection: Connection, which: ColumnElement[bool]) -> dict[Name, dict[str, bool]]:
    """The extractors that have still to read requests, in order, and whether at once."""
    unread: dict[Name, dict[str, bool]] = defaultdict(dict)
    for user_id, request_id, extractor, forced in connection.execute(_UNREAD.where(which).order_by(_u.extractor)):
        unread[user_id, request_id][extractor] = forced
    return unread


def _turn(
    row: RowMapping, messages: dict[Name, list[InteractionRecord]], unread: dict[Name, dict[str, bool]]
) -> TurnRecord:
    """The turn that a request's row is, with what is kept beside it."""
    values = {field: row[field] for field in _REQUEST_FIELDS}
    return TurnRecord(
        **values,
        interactions=messages.get(_name_in(row), []),
        metadata=row["details"] or {},
        options=row["options"] or {},
        unread=unread.get(_name_in(row), {}),
    )


def _name_in(row: RowMapping) -> Name:
    return row["user_id"], row["request_id"]
