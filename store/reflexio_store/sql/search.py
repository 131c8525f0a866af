"""Searching learnings: within one scope, by words and by meaning, by the statistics of that scope alone.

The index says which documents of the scope hold each word. Rarity and score are computed here, from the documents of
the scope: what other users have stored changes neither the order nor a number.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from sqlalchemy import Connection, RowMapping

from reflexio_store.contract import Answers, Floors, Meaning, Scored
from reflexio_store.models import Learning, LearningKind, LearningQuery, SearchMode

from .documents import Stored, read_documents
from .kinds import Kind, kind_named
from .learning_rows import matching, rows_named, values_of
from .part import Part, chunks
from .ranking import Matches, Question, look_up
from .vectors import Cosines, VectorCache
from .words import query_words, worth

_TOP, _MOST = 10, 100
_LEAST: Final = 10  # candidates that are looked at, beside two for each that is asked for
_PORTION: Final = 500  # candidates that are looked at together where there are many
_FURTHER: Final = 10_000  # candidates that are looked at where filters leave too few of the first
_HEAD_WEIGHT, _BODY_WEIGHT = 2.0, 1.0
_COSINE_WEIGHT: Final = 2.0
"""Beside the best score by words as 1: measured on LoCoMo (1,986 questions), where ranks added up did worse."""


@dataclass(frozen=True, slots=True)
class _Asked:
    """One kind's part of a search."""

    kind: Kind
    query: LearningQuery
    owner: str | None
    question: Question
    limit: int
    floors: Floors | None = None

    @property
    def portion(self) -> int:
        """How many candidates are looked at first."""
        return _LEAST + 2 * self.limit


class _Candidate(NamedTuple):
    document: Stored
    score: float
    coverage: float
    share: float
    cosine: float | None

    @property
    def name(self) -> tuple[str, str]:
        """Whose it is, and its key."""
        return self.document.owner, self.document.key


class LearningSearch(Part):
    """The part of a home that finds learnings."""

    _cache: VectorCache

    def search_learnings(self, kind: LearningKind, query: LearningQuery) -> list[Scored[Learning]]:
        """Learnings of one kind that match ``query.query``, best first (``top_k`` 10 when not given, at most 100).

        Words are literal, and any of them may match; a word in a trigger weighs twice. For profiles and user
        playbooks a ``user_id`` is required: without one the answer is empty.
        """
        return self.search({kind: query})[kind]

    def search(
        self,
        queries: Mapping[LearningKind, LearningQuery],
        *,
        meaning: Meaning | None = None,
        mode: SearchMode = "hybrid",
        floors: Callable[[int], Floors] | None = None,
    ) -> Answers:
        """Several kinds in one read of one state; see the contract."""
        meaning = None if mode == "fts" else meaning
        by_words = mode != "vector"
        words = {text: query_words(text or "") for text in {query.query for query in queries.values()}}
        asked = [
            made
            for kind, query in queries.items()
            if (made := _asked(kind_named(kind), query, words[query.query], meaning))
        ]
        found = Answers((kind, []) for kind in queries)
        if not asked or (meaning is None and not by_words):
            return found
        text = self._database.dialect.text
        with self._database.read() as connection:
            matches = look_up(connection, text, "learning", [item.question for item in asked])
            near = [self._near(connection, item, meaning) for item in asked]
            found.among = sum(
                match.documents or (len(cosines.rows) if cosines else 0)
                for match, cosines in zip(matches, near, strict=True)
            )
            asked = [replace(item, floors=floors(found.among)) for item in asked] if floors else asked
            rows = [
                _first(item, match if by_words else None, cosines)
                for item, match, cosines in zip(asked, matches, near, strict=True)
            ]
            documents = read_documents(connection, [row for part in rows for row in part])
            for item, match, cosines, part in zip(asked, matches, near, rows, strict=True):
                first = [documents[row] for row in part if row in documents]
                best, stand = self._best(connection, item, match, cosines, first)
                unseen = by_words and (not match.complete or len(match.rows) > item.portion)
                if stand < item.limit and unseen:
                    best = self._further(connection, item, cosines)
                found[item.kind.name] = best
        return found

    def _near(self, connection: Connection, asked: _Asked, meaning: Meaning | None) -> Cosines | None:
        return self._cache.cosines(connection, asked.kind.name, asked.owner, meaning) if meaning else None

    def _further(self, connection: Connection, asked: _Asked, cosines: Cosines | None) -> list[Scored[Learning]]:
        """Filters have left too few: look at many more, a portion at a time, and put what these gave in one order."""
        [match] = look_up(connection, self._database.dialect.text, "learning", [asked.question], _FURTHER)
        rows = list(dict.fromkeys([*(cosines.best(_FURTHER) if cosines else ()), *match.rows[:_FURTHER]]))
        found: list[Scored[Learning]] = []
        standing = 0
        for part in chunks(rows, _PORTION):
            documents = read_documents(connection, part)
            best, stand = self._best(connection, asked, match, cosines, documents.values())
            found += best
            standing += stand
            if standing >= asked.limit:
                break
        most = _most(found)
        return sorted(found, key=lambda item: -_worth(item, most))[: asked.limit]

    def _best(
        self,
        connection: Connection,
        asked: _Asked,
        match: Matches,
        cosines: Cosines | None,
        documents: Collection[Stored],
    ) -> tuple[list[Scored[Learning]], int]:
        """The best of some documents; and how many of them the real columns did not refuse: isolation never rests on
        the index. What reaches no floor is not even looked up."""
        kind, looked = asked.kind, 0
        best: list[_Candidate] = []
        rows: dict[tuple[str, str], RowMapping] = {}
        for part in chunks(_ranked(asked, match, cosines, documents), asked.limit):
            rows |= self._rows(connection, asked, part)
            best += [item for item in part if item.name in rows]
            looked += len(part)
            if len(best) >= asked.limit:
                break
        refused, best = looked - len(best), best[: asked.limit]
        learnings = values_of(connection, kind, [rows[item.name] for item in best])
        return [
            Scored(learning, item.score, item.coverage, item.share, item.cosine)
            for item, learning in zip(best, learnings, strict=True)
        ], len(documents) - refused

    def _rows(
        self, connection: Connection, asked: _Asked, candidates: Sequence[_Candidate]
    ) -> dict[tuple[str, str], RowMapping]:
        """The rows of those candidates that the query's conditions hold for, by owner and key."""
        kind = asked.kind
        conditions = matching(kind, asked.query, self._database.dialect, self._now_seconds())
        statement = rows_named(kind.name, conditions.usual)
        if conditions.rare:
            statement = statement.where(*conditions.rare)
        keys = [kind.key_of(item.document.key) for item in candidates if item.document.kind == kind.name]
        found = connection.execute(statement, {"keys": keys, **conditions.values}).mappings().all()
        return {(row[kind.owner], str(row[kind.key])): row for row in found}


def _asked(kind: Kind, query: LearningQuery, words: Sequence[str], meaning: Meaning | None) -> _Asked | None:
    """What is to be looked for; None where there is nothing, or nobody to look for it for."""
    owner = query.user_id if kind.personal else query.agent_version
    statuses = [None] if query.status_filter is None else list(dict.fromkeys(query.status_filter))
    if not (words or meaning) or not statuses or (kind.personal and not owner):
        return None
    scopes = [kind.scope(owner, status) for status in statuses]
    return _Asked(kind, query, owner, Question(words, scopes), min(query.top_k or _TOP, _MOST))


def _reaches(floors: Floors, has_trigger: bool, coverage: float, share: float, cosine: float | None) -> bool:
    """Whether a document is worth being found."""
    return (
        coverage >= floors.coverage
        or share >= (floors.trigger_share if has_trigger else floors.share)
        or (floors.cosine is not None and cosine is not None and cosine >= floors.cosine)
    )


def _share(document: Stored, trigger: Sequence[str], matched: Mapping[str, float]) -> float:
    """The share of its trigger's words that the question names; of all its words, where it has no trigger, and of those
    the common ones count less: that somebody wants or uses something says little of what."""
    if not trigger:
        return min(1.0, worth(matched) / max(document.size, 1))
    return sum([word in matched for word in trigger]) / len(trigger) if matched else 0.0


def _first(asked: _Asked, match: Matches | None, cosines: Cosines | None) -> list[int]:
    """The candidates that are looked at first: the likeliest by words, and the nearest by meaning."""
    by_words = match.rows[: asked.portion] if match else ()
    return list(dict.fromkeys([*(cosines.best(asked.portion) if cosines else ()), *by_words]))


def _weights(match: Matches, documents: Collection[Stored]) -> list[dict[str, float]]:
    """The words that each document holds, and the weights of the fields that they stand in."""
    insides = [(word, f" {word} ") for word in match.weights]
    held: dict[int, list[tuple[str, str]]] = {document.row: [] for document in documents}
    if match.complete:
        for word, inside in insides:
            for row in held.keys() & match.holders.get(word, ()):
                held[row].append((word, inside))
    weights = []
    for document in documents:
        head, body, matched = document.head, document.body, {}
        # what was found by its meaning may stand outside of the scopes that were looked up
        for word, inside in held[document.row] or insides:
            weight = _HEAD_WEIGHT * (inside in head) + _BODY_WEIGHT * (inside in body)
            if weight:
                matched[word] = weight
        weights.append(matched)
    return weights


def _ranked(asked: _Asked, match: Matches, cosines: Cosines | None, documents: Collection[Stored]) -> list[_Candidate]:
    """The documents that reach a floor, the best first."""
    floors = asked.floors
    near = cosines.of([document.row for document in documents]) if cosines else {}
    found = []
    for document, matched in zip(documents, _weights(match, documents), strict=True):
        trigger, cosine = document.head.split(), near.get(document.row)
        coverage, share = match.coverage(matched), _share(document, trigger, matched)
        if floors is None or _reaches(floors, bool(trigger), coverage, share, cosine):
            found.append(_Candidate(document, match.bm25(matched, document.size), coverage, share, cosine))
    most = _most(found)
    return sorted(found, key=lambda item: (-_worth(item, most), *item.name))


def _most(found: Sequence[_Candidate | Scored[Learning]]) -> float:
    """The best score by words."""
    return max((item.score for item in found), default=0.0) or 1.0


def _worth(item: _Candidate | Scored[Learning], most: float) -> float:
    """What something is worth by words and by meaning, where the best score by words is ``most``."""
    return item.score / most + _COSINE_WEIGHT * (item.cosine or 0.0)
