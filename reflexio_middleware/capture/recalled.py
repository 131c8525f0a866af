"""``@capture(recall=...)``: an agent function is handed what was learned that fits the user's message."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, ParamSpec, Protocol, TypeVar, cast

from reflexio_middleware.capture.arguments import InputReader
from reflexio_middleware.capture.turn import current_turn
from reflexio_middleware.guard import guard
from reflexio_middleware.scope import current_session
from reflexio_middleware.wrapping import supplied

P = ParamSpec("P")
R = TypeVar("R")
DEFAULT_PARAMETER: Final = "memory"


class Recaller(Protocol):
    """What recalls: a client. Neither method raises; what they give reads as the block (``str()`` of it)."""

    def recall(self, query: str) -> object:
        """What fits, within the client's time limit."""
        ...

    async def recall_async(self, query: str) -> object:
        """:meth:`recall` that does not block the event loop."""
        ...


_default_recaller: Callable[[], Recaller] | None = None


def set_default_recaller(make: Callable[[], Recaller] | None) -> None:
    """Say what recalls for calls whose scope names no client. Called once, by the package itself."""
    global _default_recaller
    _default_recaller = make


def with_recall(fn: Callable[P, R], reader: InputReader, parameter: bool | str) -> Callable[P, R]:
    """``fn``, handed the block for the user's message that ``reader`` finds, unless the caller gives it.

    Raises:
        TypeError: ``fn`` has no such parameter.
    """
    name = DEFAULT_PARAMETER if parameter is True else str(parameter)
    reader.require(name, "recall")

    def question(args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
        with guard("reading the user's message"):
            return "\n".join(message.text for message in reader.read(args, kwargs).new)
        return ""

    def supply(args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        if reader.has(name, args, kwargs):
            return {}
        with guard("recalling for a call"):
            return {name: str(_recaller().recall(question(args, kwargs)))}
        return {name: ""}

    async def supply_later(args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        if reader.has(name, args, kwargs):
            return {}
        with guard("recalling for a call"):
            return {name: str(await _recaller().recall_async(question(args, kwargs)))}
        return {name: ""}

    return supplied(fn, supply, supply_later)


def _recaller() -> Recaller:
    turn = current_turn()
    scope = turn.scope if turn is not None else current_session()
    client = scope.client if scope is not None else None
    if client is None and _default_recaller is not None:
        return _default_recaller()
    recaller: Any = getattr(client, "sync", client)
    return cast(Recaller, recaller)
