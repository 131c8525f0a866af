"""Meaning as vectors, optional: what embeds texts, and the thread that does so in the background."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol, runtime_checkable

TextKind = Literal["query", "document"]


@runtime_checkable
class Embedder(Protocol):
    """Turns texts into vectors. Thread-safe; it may raise anything: a search goes on with full text then."""

    @property
    def name(self) -> str:
        """What the vectors are from, such as the model's name: vectors of different names are never compared."""
        ...

    @property
    def dimension(self) -> int | None:
        """Numbers of a vector; None where only an answer tells."""
        ...

    def embed(self, texts: Sequence[str], kind: TextKind = "document") -> Sequence[Sequence[float]]:
        """A vector for each text, in order, of any length but zero."""
        ...
