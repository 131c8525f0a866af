"""What was asked and what was answered, in the one form that both protocols of the API are read into."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from reflexio_middleware.capture.messages import Message
from reflexio_middleware.capture.snapshot import MAX_TEXT
from reflexio_middleware.capture.turn import TurnStatus

Placement = Literal["turn", "system"]


def part(value: Any, name: str) -> Any:
    """A field of a mapping or of an SDK object; None where there is none."""
    return value.get(name) if isinstance(value, Mapping) else getattr(value, name, None)


@dataclass(slots=True)
class Said:
    """An answer of the model.

    Attributes:
        messages: The answer with the tools it calls, then the results of those that the server itself ran.
        waiting: Ids of the calls whose tools the caller has to run.
        status: ``completed``, or how the answer fell short.
        error: What the server said went wrong.
        response_id: The id by which a later call may go on from here; ``""`` if there is none.
        final: Whether the server said that this is all of it.
    """

    messages: list[Message] = field(default_factory=list)
    waiting: frozenset[str] = frozenset()
    status: TurnStatus = "completed"
    error: str = ""
    response_id: str = ""
    final: bool = True


class Pieces(Protocol):
    """Gathers a streamed answer."""

    def add(self, item: Any) -> bool:
        """Take one streamed item; True once the answer is whole."""
        ...

    def said(self) -> Said:
        """What was said so far."""
        ...


class Dialect(Protocol):
    """How one of the two protocols of the API is read and written.

    ``splits_answers`` says that the calls of one answer are items of their own.
    """

    splits_answers: bool

    def conversation(self, body: Mapping[str, Any]) -> Sequence[Any]:
        """The messages (or items) of a request body, oldest first."""
        ...

    def read(self, item: Any) -> Message:
        """One of them."""
        ...

    def answer(self, result: Any) -> Said:
        """The answer that ``result`` (an SDK object, or decoded JSON) holds."""
        ...

    def pieces(self) -> Pieces:
        """For an answer that is streamed."""
        ...

    def with_block(self, body: Mapping[str, Any], block: str, placement: Placement) -> dict[str, Any]:
        """A copy of ``body`` that holds ``block``; ``body`` and what is in it stay as they are."""
        ...


class GrowingText:
    """A text that grows by pieces, to a bound."""

    __slots__ = ("_pieces", "_size")

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._size = 0

    def add(self, piece: Any) -> None:
        """Add a piece; anything but text adds nothing."""
        if isinstance(piece, str) and piece and self._size <= MAX_TEXT:
            self._pieces.append(piece)
            self._size += len(piece)

    def __str__(self) -> str:
        return "".join(self._pieces)
