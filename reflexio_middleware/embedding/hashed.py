"""Vectors without a model, for tests: the stems of a text, hashed (Weinberger et al. 2009, feature hashing).

Texts that share stems are near each other, and nothing else is: deterministic, but no understanding of meaning.
"""

from __future__ import annotations

import hashlib
import math
from typing import Final

from reflexio_store.sql.words import index_words

DIMENSION: Final = 256
"""Numbers of a vector, unless another number is asked for."""


def hashed_vector(text: str, dimension: int = DIMENSION) -> list[float]:
    """A vector of length 1 for a text; one that says nothing has all its weight on the first number."""
    made = [0.0] * dimension
    for word in index_words(text):
        number = int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest(), "big")
        made[(number >> 1) % dimension] += 1.0 if number & 1 else -1.0
    length = math.sqrt(sum(value * value for value in made))
    return [value / length for value in made] if length else [1.0, *made[1:]]
