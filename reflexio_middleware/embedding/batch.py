"""Embedding texts together, so that a text which its embedder refuses does not keep the others from their vectors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from reflexio_middleware.embedding import Embedder

_HARMLESS: Final = "hello"
_ENDLESS: Final = 1e15  # whose square still is a number of 32 bits
_NOT_THE_TEXT: Final = (401, 402, 403, 404, 429, 503)
"""HTTP statuses that say nothing of a text: asking again, in parts, would only add to the trouble."""


@dataclass(slots=True)
class Batch:
    """What became of texts, by their places: ``vectors``, and why others were ``refused``."""

    vectors: dict[int, Sequence[float]] = field(default_factory=dict)
    refused: dict[int, Exception] = field(default_factory=dict)


def embed_batch(embedder: Embedder, texts: Sequence[str]) -> Batch:
    """A vector for each text, but for those that the embedder refuses alone while it answers for others.

    Texts go in one call. Where that fails, and the embedder answers for a harmless word, halves are tried, and halves
    of these that fail; it must still answer then, or it broke meanwhile, and what it refused says nothing of the texts.

    Raises:
        Exception: What the embedder raised, where the reason is no text.
    """
    done = Batch()
    try:
        _take(embedder, texts, range(len(texts)), done)
    except Exception as error:
        if status_of(error) in _NOT_THE_TEXT or not _answers(embedder):
            raise
        _divide(embedder, texts, range(len(texts)), done)
        if done.refused and not _answers(embedder):
            raise
    return done


def _answers(embedder: Embedder) -> bool:
    try:
        return bool(_ask(embedder, [_HARMLESS]))
    except Exception:  # noqa: BLE001 - the first failure is what is told
        return False


def _divide(embedder: Embedder, texts: Sequence[str], places: range, done: Batch) -> None:
    """Try the halves of what failed; one text alone has been tried twice then."""
    halves = [places[: len(places) // 2], places[len(places) // 2 :]] if len(places) > 1 else [places]
    for half in halves:
        try:
            _take(embedder, texts, half, done)
        except Exception as error:
            if status_of(error) in _NOT_THE_TEXT:
                raise
            if len(half) > 1:
                _divide(embedder, texts, half, done)
            else:
                done.refused[half[0]] = error


def _take(embedder: Embedder, texts: Sequence[str], places: range, done: Batch) -> None:
    done.vectors.update(zip(places, _ask(embedder, [texts[place] for place in places]), strict=True))


def _ask(embedder: Embedder, texts: Sequence[str]) -> Sequence[Sequence[float]]:
    return checked(embedder.embed([text or " " for text in texts], "document"), len(texts))


def checked(vectors: Sequence[Sequence[float]], wanted: int) -> Sequence[Sequence[float]]:
    """The vectors that an embedder gave, where they can be used.

    Raises:
        ValueError: They are not as many as wanted, of several sizes, empty, or not of finite numbers.
        TypeError: They are no vectors.
    """
    if len(vectors) != wanted or len({len(vector) for vector in vectors}) != 1:
        raise ValueError(f"{len(vectors)} vectors came for {wanted} texts, or of several sizes")
    for vector in vectors:
        if not len(vector) or not all(abs(value) < _ENDLESS for value in vector):
            raise ValueError("a vector came that is empty, or not of finite numbers")
    return vectors


def status_of(error: Exception) -> int | None:
    """The HTTP status of an error, where it has one (as those of httpx and openai do)."""
    return getattr(getattr(error, "response", None), "status_code", None)
