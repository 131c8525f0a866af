"""Words that decide what may be shared: everyday ones, which tell nothing of anybody, and opposites.

They stand in ``patterns/sharing.toml``, to be read and extended.
"""

from __future__ import annotations

import re
import tomllib
from functools import cache, lru_cache
from importlib.resources import files
from typing import Any, Final

from reflexio_store.agreement import stems
from reflexio_store.sql.words import common_words

_WORD: Final = re.compile(r"\w+")


@cache
def everyday() -> frozenset[str]:
    """Stems of words that tell nothing about whoever uses them."""
    return stems(_read()["everyday"]) | common_words()


def opposed(one: str, other: str) -> bool:
    """Whether one text has a word whose opposite is in the other ("first" and "last")."""
    mine, theirs = forms(one), forms(other)
    return any(
        (mine & this and theirs & that and not (mine & that or theirs & this))
        or (mine & that and theirs & this and not (mine & this or theirs & that))
        for this, that in _opposites()
    )


@cache
def _opposites() -> tuple[tuple[frozenset[str], frozenset[str]], ...]:
    return tuple((forms(this), forms(that)) for this, that in _read()["opposites"])


@lru_cache(maxsize=50_000)
def forms(text: str) -> frozenset[str]:
    """The words of a text by their stems; those that stand in nearly every text ("on", "more") as they are."""
    words = _WORD.findall(text.casefold())
    return frozenset(form for word in words for form in (stems(word) or {word}))


@cache
def _read() -> dict[str, Any]:
    return tomllib.loads(files("reflexio_middleware.learning").joinpath("patterns", "sharing.toml").read_text("utf-8"))
