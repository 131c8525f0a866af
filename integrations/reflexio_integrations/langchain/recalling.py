"""Recall for code that runs inside LangChain: whose, for which turn, and once per turn."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from langchain_core.messages import SystemMessage

from reflexio_middleware.capture.messages import Message, strip_injected
from reflexio_middleware.capture.turn import Turn
from reflexio_middleware.guard import guard
from reflexio_middleware.recall.inject import inject_block
from reflexio_middleware.scope import current_session

from .reading import new_from_user
from .runs import RUNS
from .scoping import SESSION_KEYS, client_or_current, configured

if TYPE_CHECKING:
    from reflexio_middleware import Recall, ReflexioClient

Placement = Literal["turn", "system"]

_lock = threading.Lock()
_of_turns: weakref.WeakKeyDictionary[Turn, dict[tuple[str | None, ...], Recall]] = weakref.WeakKeyDictionary()


@dataclass(frozen=True, slots=True)
class Where:
    """Whose learnings are wanted and in which session (None: not named), and the turn that they are for."""

    user_id: str | None = None
    agent_version: str | None = None
    session_id: str | None = None
    turn: Turn | None = None


@dataclass(frozen=True, slots=True)
class Recalling:
    """How a middleware or a model recalls. It never raises; of the same question in one turn, it asks once."""

    client: ReflexioClient | None = None
    user_id: str | None = None
    agent_version: str | None = None
    placement: Placement = "turn"
    token_budget: int | None = None
    timeout: float | None = None

    def __post_init__(self) -> None:
        if self.placement not in ("turn", "system"):
            raise ValueError(f"placement must be 'turn' or 'system', not {self.placement!r}")

    def __deepcopy__(self, memo: dict[int, Any]) -> Recalling:
        return self  # the client is shared by every copy of a model

    def where(self, run: Any = None, context: object = None) -> Where:
        """Whose: what is named here, else by the ``context`` of the ``run`` (a run manager of LangChain), its turn,
        ``configurable`` or ``metadata``, else by the session around. A turn that does not know its user learns it so;
        that user is not the one of another run in it, which names its own.
        """
        turn = RUNS.turn_here(getattr(run, "run_id", None))
        begun = {"user_id": turn.begun_for, "agent_version": turn.scope.agent_version} if turn else {}
        metadata = getattr(run, "metadata", None)

        def named(name: str) -> str | None:
            known = context.get(name) if isinstance(context, Mapping) else getattr(context, name, None)
            found = getattr(self, name) or known or begun.get(name) or configured(name, metadata)
            found = found or getattr(current_session(), name, "") or getattr(turn and turn.scope, name, "")
            return str(found) if found else None

        sessions = (configured(name, metadata) for name in SESSION_KEYS)
        session_id = turn.scope.session_id if turn else next(filter(None, sessions), None)
        where = Where(named("user_id"), named("agent_version"), session_id, turn)
        if turn is not None and where.user_id:
            turn.name_user(where.user_id)
        return where

    def block(self, query: str, run: Any = None, context: object = None) -> str:
        """The block for ``query``, see :meth:`where`; ``""`` when nothing is asked or fits, or the recall failed."""
        with guard("recalling for a model"):
            where = self.where(run, context)
            if not query:
                return ""
            known = self._known(query, where)
            if known is None:
                client = client_or_current(self.client)
                known = client.recall(query, **self._limits(where))
            return self._noted(query, where, known)
        return ""

    async def ablock(self, query: str, run: Any = None, context: object = None) -> str:
        """:meth:`block`, without blocking the event loop."""
        with guard("recalling for a model"):
            where = self.where(run, context)
            if not query:
                return ""
            known = self._known(query, where)
            if known is None:
                client = client_or_current(self.client)
                known = await client.recall_async(query, **self._limits(where))
            return self._noted(query, where, known)
        return ""

    def _limits(self, where: Where) -> dict[str, Any]:
        return {
            "user_id": where.user_id,
            "session_id": where.session_id,
            "agent_version": where.agent_version,
            "token_budget": self.token_budget,
            "timeout": self.timeout,
            "hold": self.placement == "system",
        }

    def _key(self, query: str, where: Where) -> tuple[str | None, ...]:
        return (query, where.user_id, where.agent_version, str(self.token_budget), str(id(self.client)))

    def _known(self, query: str, where: Where) -> Recall | None:
        with _lock:
            return _of_turns.get(where.turn, {}).get(self._key(query, where)) if where.turn else None

    def _noted(self, query: str, where: Where, found: Recall) -> str:
        if where.turn is not None:
            where.turn.retrieved(found.retrieved, experiment=found.experiment)
            with _lock:
                _of_turns.setdefault(where.turn, {})[self._key(query, where)] = found
        return found.text


def question_in(messages: Sequence[Any]) -> str:
    """The user's words that await an answer; in a tool loop those that began it."""
    new = new_from_user(messages)
    if not new:
        for at in reversed(range(len(messages))):
            if getattr(messages[at], "type", "") == "human":
                new = new_from_user(messages[: at + 1])
                break
    return words_of(new)


def words_of(said: Iterable[Message]) -> str:
    """What a user said in some messages, without what was recalled for it before."""
    return "\n".join(filter(None, (strip_injected(message.text) for message in said))).strip()


def with_block(messages: Sequence[Any], block: str, placement: Placement) -> list[Any]:
    """A new list of messages that holds ``block`` once; the given messages stay as they are."""
    made = inject_block(messages, block, placement)
    return made if len(made) == len(messages) else [SystemMessage(block), *messages]
