"""Finding messages within their conversations: by their own words, and by what was said just before and after.

A message is found by its own words, by those of the messages beside it in its session (a third) and of the ones beyond
(a sixth), and by the words of its day. An answer is found by the question before it, nearly as by its own words. Of
what matches alike, what was said by somebody whom the question names goes first, and what only asks goes last. What is
said around a message is looked up when somebody searches, so that nothing of it is stored twice, or outlives a delete.

Weights were measured on LoCoMo (one half of its conversations; recall at 5 of a message alone 0.56, with the words of
its neighbours and its day 0.67, with the second neighbours and the best of its session 0.71, with answers to questions
and who speaks 0.75). Around them the figures are flat.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache, lru_cache
from typing import Any, Final, Literal, NamedTuple

from sqlalchemy import ColumnElement, Connection, Label, and_, select, tuple_

from .dialects import TextIndex
from .documents import COLUMNS, INTERACTION_KIND, Stored, stored
from .indexing import interaction_scope
from .part import SECOND_US, chunks
from .ranking import POSTINGS, Matches, Question, look_up
from .tables import DOCUMENT, INTERACTION, REQUEST
from .vectors import Cosines
from .words import ASKS, index_words

_POOL: Final = 200  # messages whose surroundings are looked at
_FURTHER: Final = 10_000
_NEAREST: Final = 50  # messages by meaning that are added to them
_AROUND: Final = ((0, 1.0), (-1, 0.3), (1, 0.3), (-2, 0.15), (2, 0.15))  # itself, the one before, and so on
_ASKED: Final = 0.8  # the message before, where it asks
_NAMED: Final = 0.15  # for what is said by somebody whom the question names, beside the best score by words as 1
_ASKING: Final = -0.1  # for what asks
_LENGTH: Final = 0.4
_DAY: Final = 0.3
_DAY_SIZE: Final = 4  # words of a day
_SESSION: Final = 0.2
_COSINE: Final = 1.5
_DAY_SECONDS, _MOST_DAYS = 86_400, 700_000
_d, _i, _r = DOCUMENT.c, INTERACTION.c, REQUEST.c


@dataclass(slots=True)
class _Run:
    """Requests of one session that follow each other without a gap."""

    session_id: str
    requests: list[str] = field(default_factory=list)


class _Scored(NamedTuple):
    """A message with its scores: by words, by meaning, and by the manner in which it is said."""

    session_id: str
    document: Stored
    words: float
    meant: float
    manner: float


def best_messages(
    connection: Connection,
    text: TextIndex,
    user_id: str,
    words: Sequence[str],
    *,
    conditions: Sequence[ColumnElement[bool]] = (),
    cosines: Cosines | None = None,
) -> list[tuple[str, int]]:
    """``(request_id, seq)`` of the messages of a user that match, best first.

    ``conditions`` hold for what the candidates are chosen by; whoever reads the messages applies them again.
    """
    near = cosines.best(_NEAREST) if cosines else []
    question = Question(words, [interaction_scope(user_id)])
    [match] = look_up(connection, text, "interaction", [question], _FURTHER if conditions else POSTINGS)
    rows = list(dict.fromkeys([*near, *match.rows]))
    pool = _names(connection, user_id, rows if conditions else rows[: _POOL + len(near)], conditions)
    runs = _runs(connection, user_id, pool[: _POOL + len(near)])
    names = {name for run in runs for name in run.requests}
    documents = _documents(connection, user_id, names)
    days = _days(connection, user_id, names) if _may_name_a_day(match.weights) else {}
    return _in_order([item for run in runs for item in _scores(match, run, documents, days, cosines)])


def _names(
    connection: Connection, user_id: str, rows: Sequence[int], conditions: Sequence[ColumnElement[bool]]
) -> list[str]:
    """The requests of documents, in order."""
    names: dict[int, str] = {}
    for part in chunks(rows):
        statement = select(_d.row, _d.key).where(_d.owner == user_id, _d.row.in_(part))
        if conditions:
            same = and_(_i.user_id == _d.owner, _i.request_id == _d.key, _i.seq == _d.seq)
            statement = statement.join(INTERACTION, same).where(*conditions)
        names |= {found.row: found.key for found in connection.execute(statement)}
    return list(dict.fromkeys(names[row] for row in rows if row in names))


def _runs(connection: Connection, user_id: str, request_ids: Sequence[str]) -> list[_Run]:
    """Each request with the ones before and after it in its session."""
    found: list[Any] = []
    for part in chunks(request_ids):
        columns = (
            _r.session_id,
            _r.created_at_us,
            _r.request_id,
            _beside("before"),
            _beside("after"),
        )
        rows = connection.execute(select(*columns).where(_r.user_id == user_id, _r.request_id.in_(part)))
        found.extend(rows.all())
    runs: list[_Run] = []
    for row in sorted(found, key=lambda row: (row.session_id, row.created_at_us, row.request_id)):
        session_id, request_id, before, after = row.session_id, row.request_id, row.before, row.after
        run = runs[-1] if runs and runs[-1].session_id == session_id else None
        if run is None or not {request_id, before} & {run.requests[-1]}:
            run = _Run(session_id, [before] if before else [])
            runs.append(run)
        run.requests += [name for name in (request_id, after) if name and name not in run.requests[-1:]]
    return runs


def _beside(which: Literal["before", "after"]) -> Label[str]:
    """The request before, or after, a request in its session."""
    other = REQUEST.alias(which)
    mine, its = tuple_(_r.created_at_us, _r.request_id), tuple_(other.c.created_at_us, other.c.request_id)
    near = its < mine if which == "before" else its > mine
    order = [other.c.created_at_us, other.c.request_id]
    theirs = and_(other.c.user_id == _r.user_id, other.c.session_id == _r.session_id, near)
    nearest = select(other.c.request_id).where(theirs)
    nearest = nearest.order_by(*([column.desc() for column in order] if which == "before" else order)).limit(1)
    return nearest.correlate(REQUEST).scalar_subquery().label(which)


def _documents(connection: Connection, user_id: str, request_ids: Iterable[str]) -> dict[str, list[Stored]]:
    """The messages of requests, in order."""
    found: dict[str, list[Stored]] = defaultdict(list)
    for part in chunks(sorted(request_ids)):
        theirs = and_(_d.owner == user_id, _d.kind == INTERACTION_KIND, _d.key.in_(part))
        for row in connection.execute(select(*COLUMNS).where(theirs).order_by(_d.key, _d.seq)):
            document = stored(row)
            found[document.key].append(document)
    return found


def _days(connection: Connection, user_id: str, request_ids: Iterable[str]) -> dict[str, frozenset[str]]:
    """The words of the day of each request."""
    found: dict[str, frozenset[str]] = {}
    for part in chunks(sorted(request_ids)):
        moments = select(_r.request_id, _r.created_at_us).where(_r.user_id == user_id, _r.request_id.in_(part))
        for request_id, moment in connection.execute(moments):
            found[request_id] = _day_words(moment // SECOND_US // _DAY_SECONDS)
    return found


def _scores(
    match: Matches,
    run: _Run,
    documents: Mapping[str, Sequence[Stored]],
    days: Mapping[str, frozenset[str]],
    cosines: Cosines | None,
) -> Iterable[_Scored]:
    """The scores of each message of a run."""
    said = [document for name in run.requests for document in documents.get(name, ())]
    spelled = [(word, f" {word} ") for word in match.weights]
    wanted = [[word for word, inside in spelled if inside in document.body] for document in said]
    manners = [document.head.split() for document in said]
    asks = [ASKS in manner for manner in manners]
    near = cosines.of([document.row for document in said]) if cosines else {}
    for at, document in enumerate(said):
        around = _around(at, asks)
        matched: dict[str, float] = defaultdict(float)
        for other, weight in around:
            for word in wanted[other]:
                matched[word] += weight
        day = days.get(document.key, frozenset())
        for word in match.weights if day else ():  # in their order, so that sums are the same everywhere
            if word in day:
                matched[word] += _DAY
        size = _DAY_SIZE + sum([other.size for other in said[max(0, at - 1) : at + 2]])
        named = any(word in match.weights for word in manners[at])
        yield _Scored(
            run.session_id,
            document,
            match.bm25(matched, size / 3, length=_LENGTH),
            _mean([(near.get(said[other].row, 0.0), weight) for other, weight in around]) if near else 0.0,
            _NAMED * named + _ASKING * asks[at],
        )


def _mean(weighed: Sequence[tuple[float, float]]) -> float:
    return sum([value * weight for value, weight in weighed]) / sum([weight for _, weight in weighed])


def _around(at: int, asks: Sequence[bool]) -> list[tuple[int, float]]:
    """The places of the messages that one is found by, itself among them, and what their words weigh."""
    most = len(asks)
    found = [(other, weight) for distance, weight in _AROUND if 0 <= (other := at + distance) < most]
    if at and asks[at - 1]:
        found[1] = at - 1, _ASKED
    return found


def _in_order(scored: Sequence[_Scored]) -> list[tuple[str, int]]:
    best: dict[str, float] = defaultdict(float)
    for item in scored:
        best[item.session_id] = max(best[item.session_id], item.words)
    most = max(best.values(), default=0.0) * (1 + _SESSION) or 1.0
    ranked: dict[tuple[str, int], tuple[float, int]] = {}
    for session_id, document, score, meant, manner in scored:
        if score > 0 or meant:
            total = (score + _SESSION * best[session_id]) / most + _COSINE * meant + manner
            name = document.key, document.seq
            ranked[name] = max(ranked.get(name, (total, document.row)), (total, document.row))
    return sorted(ranked, key=lambda name: ranked[name], reverse=True)


@lru_cache(maxsize=4096)
def _day_words(days: int) -> frozenset[str]:
    """The words by which somebody may name a day (in UTC, counted from 1970): ``monday 8 may 2023``."""
    if abs(days) > _MOST_DAYS:
        return frozenset()
    said = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=days)).strftime("%A %d %B %Y")
    return frozenset(index_words(said.replace(" 0", " ")))


def _may_name_a_day(words: Iterable[str]) -> bool:
    return any(word.isdecimal() or word in _day_names() for word in words)


@cache
def _day_names() -> frozenset[str]:
    """The words of all days of a year."""
    return frozenset().union(*map(_day_words, range(366)))
