"""``@capture``: each call of an agent function is a turn, with no other change to it.

Same kind of callable, same signature, same result, same exceptions. Which argument is the user's message, and which
result the agent's answer, is found by :mod:`~reflexio_middleware.capture.arguments` unless it is said.
"""

from __future__ import annotations

import contextlib
import sys
import weakref
from collections.abc import Callable, Mapping
from contextvars import Token
from typing import Any, Final, ParamSpec, TypeVar, overload

from reflexio_middleware import scope as _scope
from reflexio_middleware.capture.arguments import Answer, Given, InputReader, read_answer
from reflexio_middleware.capture.recalled import with_recall
from reflexio_middleware.capture.streams import watched
from reflexio_middleware.capture.turn import Turn, activate, current_turn, deactivate, is_switched_off
from reflexio_middleware.guard import guard
from reflexio_middleware.wrapping import UNWATCHED, Call, wrap

P = ParamSpec("P")
R = TypeVar("R")
_MARK = "__reflexio_captured__"


@overload
def capture(fn: Callable[P, R], /) -> Callable[P, R]: ...
@overload
def capture(
    *,
    input: str | Callable[..., Any] | None = None,
    output: str | Callable[[Any], Any] | None = None,
    recall: bool | str = False,
    session_id: str | None = None,
    user_id: str | None = None,
    agent_version: str | None = None,
    source: str | None = None,
    metadata: Mapping[str, Any] | None = None,
    client: Any = None,
) -> Callable[[Callable[P, R]], Callable[P, R]]: ...
def capture(
    fn: Callable[..., Any] | None = None,
    /,
    *,
    input: str | Callable[..., Any] | None = None,  # noqa: A002 - the plain word for it
    output: str | Callable[[Any], Any] | None = None,
    recall: bool | str = False,
    session_id: str | None = None,
    user_id: str | None = None,
    agent_version: str | None = None,
    source: str | None = None,
    metadata: Mapping[str, Any] | None = None,
    client: Any = None,
) -> Any:
    """Capture each call of an agent function as one turn.

    Works on functions, methods, coroutine functions, generators, async generators and callable objects. A call made
    inside another captured call belongs to that one's turn. ``REFLEXIO_CAPTURE=off`` switches capture off.

    Args:
        fn: The function, when used without parentheses.
        input: The user's message: the name of a parameter, or a function of the call's arguments. None: the first
            argument that reads as a message, a chat history (its unanswered user messages) or a text, or holds one.
        output: The agent's answer: the name of a key or attribute of the result, or a function of the result (for
            generators, of the list of items). None: text, chat messages, and the usual response objects are read;
            a stream of texts or chunks is joined.
        recall: Recall for the user's message, and pass the block (``""`` when nothing fits) to a parameter of the
            function: the one named here, or ``memory`` for True. A value that the caller gives is left alone.
        session_id: As in :class:`~reflexio_middleware.session`, like the rest; they override the scope around.
        user_id: Whose turns these are.
        agent_version: Which version of the agent this is.
        source: Where the turns come from.
        metadata: Free data kept with each request.
        client: Where the turns go; None: the scope's client, or the process's default one.

    Raises:
        TypeError: ``fn`` is not callable, or is a class, or has no parameter of the name that ``recall`` or ``input``
            tells.
    """

    def decorate(target: Callable[P, R]) -> Callable[P, R]:
        if getattr(target, _MARK, False):
            return target
        reader = InputReader(target, input)
        named = (session_id, user_id, agent_version, source, metadata, client)

        def begin(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
            if is_switched_off() or current_turn() is not None:
                return UNWATCHED
            with guard("capturing a call"):
                return _Captured(Turn(_scope.derive(_scope.current_session(), *named)), reader, output, args, kwargs)
            return UNWATCHED

        wrapped = wrap(with_recall(target, reader, recall) if recall else target, begin)
        with contextlib.suppress(AttributeError):  # static and class methods carry the mark inside
            setattr(wrapped, _MARK, True)
        return wrapped

    return decorate if fn is None else decorate(fn)


_NOT_READ: Final = Given()
_READING_AN_ITEM: Final = guard("reading a streamed item")


class _Captured:
    """Around a call that is a turn."""

    __slots__ = ("_answer", "_given", "_token", "_turn")

    def __init__(
        self,
        turn: Turn,
        reader: InputReader,
        output: str | Callable[[Any], Any] | None,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> None:
        self._turn = turn
        self._answer = Answer(output)
        self._token: Token[weakref.ref[Turn] | None] | None = None
        self._given = _NOT_READ
        with guard("reading the user's message"):
            self._given = reader.read(args, kwargs)
        turn.add_read(self._given.new)

    def enter(self) -> None:
        self._token = activate(self._turn)

    def exit(self) -> None:
        if self._token is not None:
            deactivate(self._token)
            self._token = None

    def yielded(self, item: Any) -> None:
        with _READING_AN_ITEM:
            self._answer.add(item)

    def returned(self, result: Any) -> None:
        self._end(result)

    def gave(self, result: Any) -> Any:
        with guard("watching a returned stream"):
            stream = watched(result, self)
            if stream is not None:
                return stream
        self._end(result)
        return result

    def failed(self, error: BaseException) -> None:
        self._turn.fail(error)
        self._end(None)

    def _end(self, result: Any) -> None:
        with guard("reading the agent's answer"):
            value = self._answer.chosen(self._answer.joined(result))
            self._turn.add_read(read_answer(value, self._given))
        self._turn.finish()

    def __del__(self) -> None:
        """A stream or coroutine that the garbage collector took without closing it: there is nobody left to do that
        (the event loop of an async generator is closed, an iterator was dropped)."""
        if not self._turn.finished and not sys.is_finalizing():
            with guard("ending an abandoned turn"):
                self._turn.status = "abandoned"
                self._end(None)
