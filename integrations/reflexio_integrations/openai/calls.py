"""One call to a model, from its request to the last piece of its answer, told to the turn that it belongs to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final, Protocol

from reflexio_middleware.capture.turn import Turn, current_turn, is_switched_off
from reflexio_middleware.guard import guard
from reflexio_middleware.recall.inject import holds_block

from .asked import Asked, asked, place_of, scope_of
from .chat import CHAT
from .joined import Joined, in_langchain
from .own import own_turn
from .recalling import Memory, Question
from .responses import RESPONSES
from .said import Dialect, Placement, Said

_PATHS: Final[Mapping[str, Dialect]] = {"/chat/completions": CHAT, "/responses": RESPONSES}
_RAW_HEADER: Final = "x-stainless-raw-response"


class Teller(Protocol):
    """Tells a turn what a call asked and what was answered."""

    turn: Turn

    def asked(self, new: Asked) -> None:
        """A call was made."""
        ...

    def answered(self, said: Said) -> None:
        """It was answered (as far as it was)."""
        ...

    def failed(self, error: BaseException, said: Said) -> None:
        """It ended with an exception, after ``said``."""
        ...


class Call:
    """A call. Whoever uses it guards it: what goes wrong in it is nothing to the call that it accompanies.

    Attributes:
        dialect: The protocol that it speaks.
        question: What it recalls with; None where nothing is to be recalled.
    """

    __slots__ = ("_body", "_placement", "_teller", "dialect", "question")

    def __init__(self, memory: Memory, dialect: Dialect, body: Mapping[str, Any]) -> None:
        self.dialect = dialect
        self._body = body
        self._placement: Placement = memory.placement
        new = asked(dialect, dialect.conversation(body))
        scope, named = scope_of(memory, body)
        self._teller: Teller | None = None
        if not is_switched_off():
            around = current_turn()
            self._teller = in_langchain(around) or (
                Joined(around) if around else own_turn(place_of(dialect, new, body, scope, named=named), scope)
            )
            self._teller.asked(new)
            if around is None:
                self._teller.turn.name_user(scope.user_id)
        turn = self._teller.turn if self._teller else None
        whose = turn.scope if turn else scope
        if turn is not None and not turn.begun_for and scope.user_id:
            whose = replace(whose, user_id=scope.user_id)  # not one whom another run in the turn has named
        self.question = Question(memory, new.question, whose, turn) if memory.recall else None

    def body_with(self, block: str) -> dict[str, Any]:
        """The body of the request, with what was recalled; where a block stands already, without."""
        told = {"role": "system", "content": self._body.get("instructions")}
        if holds_block([told, *self.dialect.conversation(self._body)]):
            return dict(self._body)
        return self.dialect.with_block(self._body, block, self._placement)

    def answered(self, said: Said) -> None:
        """The model has answered (as far as it did). What comes later from the same call changes nothing."""
        teller, self._teller = self._teller, None
        if teller is not None:
            teller.answered(said)

    def failed(self, error: BaseException, said: Said | None = None) -> None:
        """The call ended with an exception, after ``said``."""
        teller, self._teller = self._teller, None
        if teller is not None:
            completion = getattr(error, "completion", None)  # a parsed answer that was cut short comes in the error
            teller.failed(error, said or (self.dialect.answer(completion) if completion is not None else Said()))


def call_of(memory: Memory, options: Any) -> Call | None:
    """The call that a request of the SDK is, or None for one that is left alone."""
    with guard("reading a request"):
        dialect = _PATHS.get(str(options.url).partition("?")[0])
        body = options.json_data
        if dialect is None or str(options.method).lower() != "post" or not isinstance(body, Mapping):
            return None
        headers = options.headers if isinstance(options.headers, Mapping) else {}
        raw = next((value for name, value in headers.items() if str(name).lower() == _RAW_HEADER), "")
        return None if raw == "stream" else Call(memory, dialect, body)
    return None
