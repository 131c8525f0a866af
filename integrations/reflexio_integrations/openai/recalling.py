"""Recall for calls to a model: whose, with which question, and once per turn."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from reflexio_middleware.capture.messages import strip_injected
from reflexio_middleware.capture.turn import Turn
from reflexio_middleware.scope import Scope

from .said import Placement

if TYPE_CHECKING:
    from reflexio_middleware import ReflexioClient
    from reflexio_middleware.recall.choose import Recall

_Key = tuple[str | None, ...]
_of_turns: weakref.WeakKeyDictionary[Turn, dict[_Key, Recall]] = weakref.WeakKeyDictionary()


@dataclass(frozen=True, slots=True)
class Memory:
    """How a wrapped client remembers; the fields are the arguments of :func:`~reflexio_integrations.openai.wrap`."""

    reflexio: Any = None
    recall: bool = True
    placement: Placement = "turn"
    session_id: str | None = None
    user_id: str | None = None
    agent_version: str | None = None
    source: str | None = None
    metadata: Mapping[str, Any] | None = None
    token_budget: int | None = None
    timeout: float | None = None

    def __post_init__(self) -> None:
        if self.placement not in ("turn", "system"):
            raise ValueError(f"placement must be 'turn' or 'system', not {self.placement!r}")


@dataclass(frozen=True, slots=True)
class Question:
    """What one call recalls: with the user's words that it is to answer, for the user of ``scope``.

    ``turn`` is the one that it belongs to, if any. Within a turn the same question is asked once, and a call without
    the user's words (it brings tool results only) has the block of the call before.
    """

    memory: Memory
    text: str
    scope: Scope
    turn: Turn | None

    def known(self) -> Recall | None:
        """What was recalled for this turn already."""
        found = _of_turns.get(self.turn, {}) if self.turn is not None else {}
        if self.text:
            return found.get(self._key())
        mine = [recall for key, recall in found.items() if key[1] == self.scope.user_id]
        return mine[-1] if mine else None

    def ask(self) -> Recall | None:
        """Recall; None where there is nothing to ask."""
        return self._noted(self._client().recall(self.text, **self._limits())) if self.text.strip() else None

    async def ask_async(self) -> Recall | None:
        """:meth:`ask`, without blocking the event loop."""
        if not self.text.strip():
            return None
        return self._noted(await self._client().recall_async(self.text, **self._limits()))

    def _client(self) -> ReflexioClient:
        client = self.memory.reflexio or self.scope.client
        if client is None:
            from reflexio_middleware.client import default_client

            client = default_client()
        sync: ReflexioClient = getattr(client, "sync", client)
        return sync

    def _limits(self) -> dict[str, Any]:
        return {
            "user_id": self.scope.user_id or None,
            "session_id": self.scope.session_id,
            "agent_version": self.scope.agent_version or None,
            "token_budget": self.memory.token_budget,
            "timeout": self.memory.timeout,
            "hold": self.memory.placement == "system",
        }

    def _key(self) -> _Key:
        return (strip_injected(self.text), self.scope.user_id, self.scope.agent_version, str(self.memory.token_budget))

    def _noted(self, found: Recall) -> Recall:
        if self.turn is not None:
            self.turn.retrieved(found.retrieved, experiment=found.experiment)
            _of_turns.setdefault(self.turn, {})[self._key()] = found
        return found
