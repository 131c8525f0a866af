"""From text to the words that are indexed and searched: the same on both sides, and the same for every database.

A word is folded (case, accents of European scripts) and literal: no operator or quote survives. Scripts written
without spaces become single characters and pairs of neighbours. Words outside the European scripts are spelled as
numbers, so that no tokenizer's own Unicode tables decide whether they can be found. English words are reduced to
their stems here, not by a database, so that every database finds the same.
"""

from __future__ import annotations

import base64
import hashlib
import re
import threading
import unicodedata
from collections.abc import Iterable
from functools import cache, lru_cache
from pathlib import Path
from typing import Final

from snowballstemmer import stemmer

MAX_QUERY_WORDS: Final = 40
"""How many different words of a query are looked up; the rest add cost and hardly any meaning."""
MAX_INDEXED_WORDS: Final = 20_000
"""How many words of one text are indexed."""
COMMON_WORTH: Final = 0.5
"""How much a word that is common in the language counts in a learning, beside its rarity in the scope: learnings are
too few to tell. (Messages are many; for them it was measured to harm.)"""

_MAX_LENGTH = 64
_EUROPEAN = 0x0528  # letters below: Latin, Greek, Cyrillic, as they were in the Unicode of every tokenizer in use
_SPACELESS = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf"
    "\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff"
)
_RUN = re.compile(rf"([{_SPACELESS}]+)|((?:(?![{_SPACELESS}])[^\W_])+)")
_ACCENT = re.compile("[\u0300-\u036f]")
_stemmers = threading.local()  # a stemmer holds the word it works on
_CLITIC = re.compile(r"['\u2019](?=(?:s|t|re|ve|ll|d|m)\b)")

ASKS: Final = "u0000063"
"""The word that stands for the question mark at the end of a text; no text has it as a word."""
_SPEAKER = re.compile(r"\s*([^\W\d_][\w.'\u2019-]*(?: [\w.'\u2019-]+){0,2}):\s")
_QUESTION = re.compile("[?\u037e\u061f\uff1f]\\W*$")
_LABEL_LENGTH, _END_LENGTH = 64, 16
_ROLES = frozenset(  # that name nobody
    ["user", "assistant", "system", "developer", "tool", "function", "human", "ai", "agent", "bot"]
)

STOP_WORDS: Final = frozenset(Path(__file__).with_name("stop_words.txt").read_text(encoding="ascii").split())
"""English words that say nothing about what a text is about; negations are not among them."""

_IRREGULAR: Final = {
    form: word
    for word, *forms in map(
        str.split, Path(__file__).with_name("irregular_words.txt").read_text(encoding="ascii").splitlines()
    )
    for form in forms
}
"""English words by their irregular forms, where these are not words of their own: ``went`` is ``go``."""


@cache
def common_words() -> frozenset[str]:
    """Stems of English words that say little about what a text is about, though more than stop words: the statistics
    of a memory of ten learnings cannot know that."""
    said = Path(__file__).with_name("common_words.txt").read_text(encoding="ascii")
    return frozenset(_stem(word) for word in said.split())


def worth(words: Iterable[str]) -> float:
    """How much some stems tell: each counts one, those that are common in the language :data:`COMMON_WORTH`."""
    common = common_words()
    return sum([COMMON_WORTH if word in common else 1.0 for word in words])


def index_words(text: str) -> list[str]:
    """The words under which a text is found, in order, without stop words."""
    return _words(text, with_single_characters=True)[:MAX_INDEXED_WORDS]


def manner_words(role: str, text: str) -> list[str]:
    """How a message is said: the words of who says it, where its role is a name or it begins as ``Ada: ...``; and
    :data:`ASKS`."""
    label = _SPEAKER.match(text[:_LABEL_LENGTH])
    speaker = label[1] if label else "" if role.casefold() in _ROLES else role
    asks = _QUESTION.search(text.rstrip()[-_END_LENGTH:])
    return [*index_words(speaker[:_LABEL_LENGTH]), *([ASKS] if asks else ())]


def query_words(text: str) -> list[str]:
    """The different words of a query, in order, without stop words; empty if there is nothing to look for."""
    return different_words(text)[:MAX_QUERY_WORDS]


def different_words(text: str) -> list[str]:
    """All the words of a query that would say what the text says, in order, without stop words."""
    return list(dict.fromkeys(_words(text, with_single_characters=False)))


def count_words(text: str) -> int:
    """How many different words a query would have that says all that the text says."""
    return len(different_words(text))


def scope_token(*parts: str) -> str:
    """Eight letters that stand for a scope, such as one kind of learning of one user; see :func:`terms_of`.

    A digest may collide: whoever searches by it compares the real columns afterwards.
    """
    digest = hashlib.blake2b("\x1f".join(parts).encode("utf-8", "surrogatepass"), digest_size=5).digest()
    return base64.b32encode(digest).decode("ascii").lower()


def terms_of(scopes: Iterable[str], words: Iterable[str]) -> list[str]:
    """What stands in the index for each word in each scope: the scope is a part of the word, so that what another
    user has stored is not even looked at, and the index itself counts a word within its scope."""
    said = list(words)
    return [scope + word for scope in scopes for word in said]


def _words(text: str, *, with_single_characters: bool) -> list[str]:
    found: list[str] = []
    for spaceless, word in _RUN.findall(_folded(text)):
        if spaceless:
            found += _pieces(spaceless, with_single_characters=with_single_characters)
        elif word not in STOP_WORDS:
            found.append(_stem(word[:_MAX_LENGTH]) if _is_european(word) else _spelled(word))
    return found


@lru_cache(maxsize=50_000)
def _stem(word: str) -> str:
    """The stem of an English word (Snowball's English algorithm); other words stay as they are."""
    word = _IRREGULAR.get(word, word)
    if not (word.isascii() and word.isalpha()):
        return word
    if not hasattr(_stemmers, "english"):
        _stemmers.english = stemmer("english")
    return str(_stemmers.english.stemWord(word))


def _folded(text: str) -> str:
    text = _CLITIC.sub("", text.casefold())
    if text.isascii():
        return text
    return unicodedata.normalize("NFKC", _ACCENT.sub("", unicodedata.normalize("NFKD", text))).casefold()


def _is_european(word: str) -> bool:
    return word.isascii() or all(ord(character) < _EUROPEAN for character in word)


def _spelled(characters: str) -> str:
    return "u" + "".join(f"{ord(character):07d}" for character in characters[:_MAX_LENGTH])


def _pieces(run: str, *, with_single_characters: bool) -> list[str]:
    pairs = [_spelled(run[at : at + 2]) for at in range(len(run) - 1)]
    if with_single_characters or not pairs:
        return [_spelled(character) for character in run] + pairs
    return pairs
