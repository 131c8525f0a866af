"""``ReflexioMiddleware``: what was learned goes into the prompt of a ``create_agent`` agent."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Any, Final, NotRequired, Self

from langchain.agents.middleware.types import AgentMiddleware, AgentState, ModelRequest, ModelResponse, PrivateStateAttr
from langchain_core.messages import SystemMessage
from langgraph.channels.untracked_value import UntrackedValue

from reflexio_middleware.recall.inject import holds_block

from .reading import new_from_user
from .recalling import Placement, Recalling, question_in, with_block, words_of

if TYPE_CHECKING:
    from langgraph.runtime import Runtime

    from reflexio_middleware import ReflexioClient

_KEY: Final = "reflexio_recalled"


class _Held(str):
    """A block in the state: whoever streams or traces the state reads only whether there is one."""

    block: str

    def __new__(cls, block: str) -> Self:
        held = super().__new__(cls, "recalled" if block else "")
        held.block = block
        return held


class _State(AgentState[Any]):
    """The blocks recalled for this turn, by the name of the middleware: in no checkpoint, no input and no output."""

    reflexio_recalled: NotRequired[Annotated[dict[str, _Held], UntrackedValue, PrivateStateAttr]]


class ReflexioMiddleware(AgentMiddleware[_State, Any, Any]):
    """Recalls once per turn, before the agent begins, and puts the block into each model call of that turn.

    Only the model sees the block: it is in no state, no checkpoint and no stored turn (which notes the learnings as
    ``retrieved_learnings``). A run that is resumed, where the block is gone, recalls anew. When nothing fits, the
    store is slow or fails, or there is nothing new from the user, the agent goes on without.

    Whose learnings: ``user_id``, else that of ``context=`` (a mapping or an object with ``user_id``), of
    ``config["configurable"]``, of the turn that a handler captures, of the session around; ``agent_version`` likewise.

    Args:
        client: Which memory. None: the scope's client, or the process's default one.
        user_id: Whose learnings, always.
        placement: ``"turn"``: before the text of the latest user message, so that all before it stays the same for the
            provider's prompt cache. ``"system"``: at the end of the system message.
        token_budget: Most tokens of the block; None: the setting.
        timeout: Seconds after which the agent goes on without; None: the setting.
        name: The name of its node in the graph. None: the class name, numbered if several are alive.

    Raises:
        ValueError: ``placement`` is neither of the two.
    """

    state_schema = _State

    def __init__(
        self,
        client: ReflexioClient | None = None,
        *,
        user_id: str | None = None,
        placement: Placement = "turn",
        token_budget: int | None = None,
        timeout: float | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__()
        self._recalling = Recalling(client, user_id, None, placement, token_budget, timeout)
        self._name = name or _free_name(self)

    @property
    def name(self) -> str:
        """The name of this middleware; create_agent wants it to differ within one agent."""
        return self._name

    def before_agent(self, state: _State, runtime: Runtime[Any]) -> dict[str, Any] | None:
        """Recall for what the user says now."""
        query = _new_question(state)
        if not query:
            return None
        return self._kept(state, self._recalling.block(query, context=runtime.context))

    async def abefore_agent(self, state: _State, runtime: Runtime[Any]) -> dict[str, Any] | None:
        """:meth:`before_agent`, without blocking the event loop."""
        query = _new_question(state)
        if not query:
            return None
        return self._kept(state, await self._recalling.ablock(query, context=runtime.context))

    def wrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], ModelResponse[Any]]
    ) -> ModelResponse[Any]:
        """Call the model with the block in its prompt."""
        block = self._block_in(request)
        if block is None:
            block = self._recalling.block(question_in(request.messages), context=request.runtime.context)
        return handler(self._with(request, block))

    async def awrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], Awaitable[ModelResponse[Any]]]
    ) -> ModelResponse[Any]:
        """:meth:`wrap_model_call`, without blocking the event loop."""
        block = self._block_in(request)
        if block is None:
            block = await self._recalling.ablock(question_in(request.messages), context=request.runtime.context)
        return await handler(self._with(request, block))

    def _kept(self, state: _State, block: str) -> dict[str, Any]:
        return {_KEY: {**(state.get("reflexio_recalled") or {}), self._name: _Held(block)}}

    def _block_in(self, request: ModelRequest[Any]) -> str | None:
        kept: dict[str, _Held] = request.state.get(_KEY) or {}  # type: ignore[assignment] # a key of ours, not of AgentState
        return getattr(kept.get(self._name), "block", None)

    def _with(self, request: ModelRequest[Any], block: str) -> ModelRequest[Any]:
        before = [request.system_message] if request.system_message else []
        if not block or holds_block([*before, *request.messages]):
            return request
        if self._recalling.placement == "turn":
            return request.override(messages=with_block(request.messages, block, "turn"))
        made = with_block(before, block, "system")[0]
        return request.override(system_message=made if isinstance(made, SystemMessage) else SystemMessage(block))


def _new_question(state: _State) -> str:
    return words_of(new_from_user(state["messages"]))


_lock = threading.Lock()
_alive: weakref.WeakValueDictionary[int, ReflexioMiddleware] = weakref.WeakValueDictionary()


def _free_name(middleware: ReflexioMiddleware) -> str:
    """The class name, with the lowest number that no living middleware has: so names stay few where agents come and
    go, and two in one agent differ."""
    with _lock:
        number = next(at for at in range(1, len(_alive) + 2) if at not in _alive)
        _alive[number] = middleware
    kind = type(middleware).__name__
    return kind if number == 1 else f"{kind}-{number}"
