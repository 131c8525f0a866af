"""How well texts fit a query, by words: a server hands back ranked lists without scores."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from reflexio_store.sql.words import count_words, index_words, query_words, worth

_BACKGROUND: Final = 100
"""Texts imagined beside the given ones, holding no word, as in the SQL homes: rarity among a few cannot be told."""


@dataclass(frozen=True, slots=True)
class Fit:
    """``coverage`` and ``share`` as in :class:`~reflexio_store.contract.Scored`; ``weight`` of the words found."""

    coverage: float
    share: float
    weight: float


def fits(query: str, texts: Sequence[tuple[str, str]]) -> list[Fit]:
    """How each text fits, given as its trigger (``""``: it has none) and what it says; the rarity of a word is its
    rarity among the texts."""
    words = query_words(query)
    triggers = [set(index_words(trigger)) for trigger, _ in texts]
    held = [trigger | set(index_words(said)) for trigger, (_, said) in zip(triggers, texts, strict=True)]
    often = {word: sum(word in text for text in held) for word in words}
    documents = len(texts) + _BACKGROUND
    rarity = {word: math.log(1 + (documents - count + 0.5) / (count + 0.5)) for word, count in often.items()}
    total = sum(rarity.values()) or 1.0
    found = []
    for (_, said), trigger, text in zip(texts, triggers, held, strict=True):
        matched = [word for word in words if word in text]
        weight = sum(rarity[word] for word in matched)
        named = (
            len(trigger.intersection(words)) / len(trigger) if trigger else worth(matched) / max(count_words(said), 1)
        )
        found.append(Fit(coverage=min(1.0, weight / total), share=min(1.0, named), weight=weight))
    return found
