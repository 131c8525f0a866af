"""BM25 within a scope: which documents to look at, and what each is worth for a query.

A word counts once for each field it stands in, with the weight of the field (BM25F, Robertson and Zaragoza 2009, with
the frequency within a field cut to one: short texts hardly repeat a word). Rare words choose the candidates; frequent
ones only score them, so that the cost of a search does not grow with the scope.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection

from .dialects import TextIndex, TextIndexName
from .documents import Statistics, statistics
from .words import COMMON_WORTH, common_words, terms_of

POSTINGS: Final = 2_000
"""How many candidates of a query are looked at, for all words whose documents are not more than that."""
_K1, _B = 1.2, 0.75
_BACKGROUND: Final = 100
"""Documents that a scope is imagined to have besides its own, holding no word: in a scope of one or two learnings,
rarity could not be told otherwise, and a single unknown word would outweigh all that match."""


@dataclass(frozen=True, slots=True)
class Question:
    """Words to look for in some scopes."""

    words: Sequence[str]
    scopes: Sequence[str]


@dataclass(frozen=True, slots=True)
class Matches:
    """What the index says of a question.

    ``weights`` are the words' (by rarity) and ``attainable`` their sum; ``mean`` is the usual length of a document;
    ``documents`` are how many the scopes hold, 0 where none holds a word; ``rows`` are the candidates, the likeliest
    first. ``complete`` says that every document with any of the words is among them; ``holders`` are the documents of
    each word that chose them.
    """

    weights: Mapping[str, float]
    attainable: float
    mean: float
    documents: int
    rows: Sequence[int]
    complete: bool
    holders: Mapping[str, Sequence[int]]

    def coverage(self, words: Iterable[str]) -> float:
        """The share (0 to 1) of the weight that some of the words have."""
        return min(1.0, sum([self.weights[word] for word in words]) / self.attainable) if self.weights else 0.0

    def bm25(self, matched: Mapping[str, float], size: float, *, length: float = _B) -> float:
        """The score of a document of so many words; ``matched`` has the summed weights of the fields of each word, and
        ``length`` (0 to 1) says how much longer ones are held against."""
        norm = _K1 * (1 - length + length * size / self.mean)
        weights, score = self.weights, 0.0
        for word, often in matched.items():
            score += weights[word] * often * (_K1 + 1) / (often + norm)
        return score


def look_up(
    connection: Connection, text: TextIndex, index: TextIndexName, questions: Sequence[Question], most: int = POSTINGS
) -> list[Matches]:
    """Candidates for each question, in two statements for all of them: no document is read that is not wanted."""
    terms = dict.fromkeys(term for question in questions for term in terms_of(question.scopes, question.words))
    counts = dict(zip(terms, text.counts(connection, index, list(terms)), strict=True))
    if not any(counts.values()):
        return [Matches({}, 0.0, 1.0, 0, (), True, {}) for _ in questions]
    found = [_found(question, counts) for question in questions]
    chosen = [_choosing(counted, most) for counted in found]
    wanted = [
        term
        for question, words in zip(questions, chosen, strict=True)
        for term in terms_of(question.scopes, words)
        if counts[term]
    ]
    rows = dict(zip(wanted, text.rows(connection, index, wanted, most), strict=True))
    held = statistics(connection, list({scope for question in questions for scope in question.scopes}))
    common = common_words() if index == "learning" else frozenset()
    return [
        _matches(question, counted, words, held, rows, most, common)
        for question, counted, words in zip(questions, found, chosen, strict=True)
    ]


def _found(question: Question, counts: Mapping[str, int]) -> dict[str, int]:
    """How many documents hold each word."""
    return {word: sum([counts[scope + word] for scope in question.scopes]) for word in question.words}


def _choosing(found: Mapping[str, int], most: int) -> list[str]:
    """The rarest words that are there, as many as the budget allows, and at least one."""
    words = sorted((word for word, count in found.items() if count), key=found.__getitem__)
    spent, taken = 0, 0
    while taken < len(words) and (not taken or spent + found[words[taken]] <= most):
        spent += found[words[taken]]
        taken += 1
    return words[:taken]


def _matches(
    question: Question,
    found: Mapping[str, int],
    chosen: Sequence[str],
    held: Mapping[str, Statistics],
    rows: Mapping[str, Sequence[int]],
    most: int,
    common: frozenset[str],
) -> Matches:
    scopes = [held[scope] for scope in question.scopes if scope in held]
    documents = sum([scope.documents for scope in scopes])
    mean = max(1.0, sum([scope.words for scope in scopes]) / documents) if documents else 1.0
    rare = {word: _rarity(count, documents) for word, count in found.items()}
    weights = {word: rarity * (COMMON_WORTH if word in common else 1.0) for word, rarity in rare.items()}
    holders = {
        word: [row for term in terms_of(question.scopes, [word]) for row in rows.get(term, ())] for word in chosen
    }
    roughly: defaultdict[int, float] = defaultdict(float)
    for word, held_by in holders.items():
        weight = weights[word]
        for row in held_by:
            roughly[row] += weight
    likeliest = sorted(roughly, reverse=True)
    likeliest.sort(key=roughly.__getitem__, reverse=True)  # of those that are equal the newer one stays first
    whole = len(chosen) == sum(map(bool, found.values()))
    complete = whole and all(found[word] <= most for word in chosen)
    return Matches(weights, sum(weights.values()), mean, documents, likeliest, complete, holders)


def _rarity(found: int, documents: int) -> float:
    """The weight of a word by its rarity in the scope; a word that nobody uses is the rarest."""
    return math.log(1 + (documents + _BACKGROUND - found + 0.5) / (found + 0.5))
