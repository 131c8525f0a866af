"""Searching learnings: within one scope, by words, by the statistics of that scope alone.

The full-text index says which documents of the scope hold each word (it stems them). Rarity and score are computed
here, from the documents of the scope: what other users have stored changes neither the order nor a number.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import ColumnElement, Connection, select

from reflexio_store.contract import Scored
from reflexio_store.models import Learning, LearningKind, LearningQuery, Status

from .dialects import DocumentKey, Hits
from .kinds import Kind, kind_named
from .learning_rows import matching, values_of
from .part import Part, chunks
from .words import query_words

_TOP, _MOST = 10, 100
_PORTION: Final = 200  # documents whose length and exact score are looked at together
_HEAD_WEIGHT, _BODY_WEIGHT = 2.0, 1.0
_K1, _B = 1.2, 0.75
_BACKGROUND: Final = 100
"""Documents that a scope is imagined to have besides its own, holding no word: in a scope of one or two learnings,
rarity could not be told otherwise, and a single unknown word would outweigh all that match."""


@dataclass(frozen=True, slots=True)
class _Candidate:
    key: DocumentKey
    score: float
    coverage: float
    share: float


class LearningSearch(Part):
    """The part of a home that finds learnings."""

    def search_learnings(self, kind: LearningKind, query: LearningQuery) -> list[Scored[Learning]]:
        """Learnings of one kind that match ``query.query``, best first (``top_k`` 10 when not given, at most 100).

        Words are literal, and any of them may match; a word in a trigger weighs twice. For profiles and user
        playbooks a ``user_id`` is required: without one the answer is empty.
        """
        which = kind_named(kind)
        words = query_words(query.query or "")
        owner = query.user_id if which.personal else query.agent_version
        if not words or (which.personal and not owner):
            return []
        scopes = [which.scope(owner, status) for status in dict.fromkeys(_statuses(query))]
        if not scopes:
            return []
        limit = min(query.top_k or _TOP, _MOST)
        conditions = matching(which, query, self._database.dialect, self._now_seconds())
        found: list[Scored[Learning]] = []
        with self._database.read() as connection:
            for candidates in self._candidates(connection, scopes, words):
                for part in chunks(candidates, 2 * limit):
                    found += _confirmed(connection, which, conditions, part, limit - len(found))
                    if len(found) == limit:
                        return found
        return found

    def _candidates(
        self, connection: Connection, scopes: Sequence[str], words: Sequence[str]
    ) -> Iterator[list[_Candidate]]:
        """What matches, a portion at a time: the likeliest portion first, and each in the order of its scores."""
        text = self._database.dialect.text
        hits = text.hits(connection, "learning", scopes, words)
        if not any(hit.head or hit.body for hit in hits):
            return
        weights = _rarities(hits, text.size(connection, "learning", scopes))
        total = sum(weights)
        matched: dict[int, list[tuple[float, float]]] = defaultdict(list)
        for weight, hit in zip(weights, hits, strict=True):
            for row in hit.head | hit.body:
                matched[row].append((weight, _HEAD_WEIGHT * (row in hit.head) + _BODY_WEIGHT * (row in hit.body)))
        roughly = {row: sum(weight * often for weight, often in pairs) for row, pairs in matched.items()}
        for portion in chunks(sorted(matched, key=lambda row: (-roughly[row], -row)), _PORTION):
            documents = text.documents(connection, "learning", portion)
            mean = sum(size for _, size in documents.values()) / max(len(documents), 1) or 1.0
            found = [
                _Candidate(
                    key,
                    _bm25(matched[row], size / mean),
                    coverage=sum(weight for weight, _ in matched[row]) / total,
                    share=min(1.0, len(matched[row]) / max(size, 1)),
                )
                for row, (key, size) in documents.items()
            ]
            yield sorted(found, key=lambda item: (-item.score, item.key.owner, item.key.key))


def _confirmed(
    connection: Connection,
    kind: Kind,
    conditions: Sequence[ColumnElement[bool]],
    candidates: Sequence[_Candidate],
    limit: int,
) -> list[Scored[Learning]]:
    """The candidates that the real columns confirm: isolation never rests on the index."""
    keys = [kind.key_of(item.key.key) for item in candidates if item.key.kind == kind.name]
    statement = select(kind.table).where(kind.column(kind.key).in_(keys), *conditions)
    rows = {(row[kind.owner], str(row[kind.key])): row for row in connection.execute(statement).mappings()}
    best = [item for item in candidates if (item.key.owner, item.key.key) in rows][:limit]
    learnings = values_of(connection, kind, [rows[item.key.owner, item.key.key] for item in best])
    return [
        Scored(learning, item.score, item.coverage, item.share) for item, learning in zip(best, learnings, strict=True)
    ]


def _statuses(query: LearningQuery) -> Iterator[Status | None]:
    yield from [None] if query.status_filter is None else query.status_filter


def _rarities(hits: Sequence[Hits], size: int) -> list[float]:
    """The weight of each word by its rarity in the scope; a word that nobody uses is the rarest."""
    documents = size + _BACKGROUND
    found = [len(hit.head | hit.body) for hit in hits]
    return [math.log(1 + (documents - often + 0.5) / (often + 0.5)) for often in found]


def _bm25(matched: Sequence[tuple[float, float]], relative_length: float) -> float:
    """BM25 with weighted fields; a word counts once for each field, however often it stands there."""
    norm = _K1 * (1 - _B + _B * relative_length)
    return sum(weight * often * (_K1 + 1) / (often + norm) for weight, often in matched)
