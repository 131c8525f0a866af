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


def fits(query: str, texts: Sequence[str]) -> list[Fit]:
    """How each text fits; the rarity of a word is its rarity among the texts."""
    words = query_words(query)
    held = [set(index_words(text)) for text in texts]
    found = [[word for word in words if word in text] for text in held]
    often = {word: sum(word in text for text in held) for word in words}
    documents = len(texts) + _BACKGROUND
    rarity = {word: math.log(1 + (documents - count + 0.5) / (count + 0.5)) for word, count in often.items()}
    total = sum(rarity.values()) or 1.0
    return [
        Fit(
            coverage=min(1.0, sum(rarity[word] for word in matched) / total),
            share=min(1.0, worth(matched) / max(count_words(text), 1)),
            weight=sum(rarity[word] for word in matched),
        )
        for matched, text in zip(found, texts, strict=True)
    ]
