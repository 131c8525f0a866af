"""WordPiece, as BERT's uncased models read text (Devlin et al. 2018; the ``BertTokenizer`` of their vocabulary)."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import Final

_LONGEST = 100  # characters of a word; a longer one is unknown
_IDEOGRAPHS: Final = re.compile("([\u4e00-\u9fff\u3400-\u4dbf\uf900-\ufaff\U00020000-\U0002fa1f])")
_INVISIBLE: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufffd]")


class WordPiece:
    """Cuts text into the pieces of a vocabulary.

    Args:
        vocabulary: The pieces, in the order of their numbers; a continuing piece begins with ``##``.
    """

    def __init__(self, vocabulary: Sequence[str]) -> None:
        self._numbers = {piece: number for number, piece in enumerate(vocabulary)}
        self._unknown = self._numbers["[UNK]"]
        self._first, self._last = self._numbers["[CLS]"], self._numbers["[SEP]"]
        self._known: dict[str, tuple[int, ...]] = {}

    def encode(self, text: str, most: int) -> list[int]:
        """The numbers of the pieces, with the marks of begin and end: at most ``most`` of them."""
        numbers: list[int] = []
        for word in _words(text[: most * 40]):
            if len(numbers) >= most - 2:
                break
            numbers += self._pieces(word)
        return [self._first, *numbers[: most - 2], self._last]

    def _pieces(self, word: str) -> tuple[int, ...]:
        known = self._known.get(word)
        if known is None:
            known = self._cut(word)
            if len(self._known) < 50_000:
                self._known[word] = known
        return known

    def _cut(self, word: str) -> tuple[int, ...]:
        """The longest piece that fits, again and again; a word that cannot be cut is unknown."""
        if len(word) > _LONGEST:
            return (self._unknown,)
        numbers: list[int] = []
        start = 0
        while start < len(word):
            mark = "##" if start else ""
            end = len(word)
            while end > start and mark + word[start:end] not in self._numbers:
                end -= 1
            if end == start:
                return (self._unknown,)
            numbers.append(self._numbers[mark + word[start:end]])
            start = end
        return tuple(numbers)


def _words(text: str) -> list[str]:
    text = _IDEOGRAPHS.sub(r" \1 ", _INVISIBLE.sub("", text)).lower()
    if not text.isascii():
        text = "".join(char for char in unicodedata.normalize("NFD", text) if unicodedata.category(char) != "Mn")
    found: list[str] = []
    for chunk in text.split():
        if chunk.isalnum():
            found.append(chunk)
        else:
            found += _parts(chunk)
    return found


def _parts(chunk: str) -> list[str]:
    """A word and the signs around and within it."""
    parts = [""]
    for char in chunk:
        if _is_sign(char):
            parts += [char, ""]
        else:
            parts[-1] += char
    return [part for part in parts if part]


def _is_sign(char: str) -> bool:
    return not char.isalnum() if char.isascii() else unicodedata.category(char).startswith("P")
