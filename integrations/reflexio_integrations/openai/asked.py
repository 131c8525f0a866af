"""What a call asks: who said what is new in it, and where it stands among other calls."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from reflexio_middleware.capture.messages import Message, strip_injected
from reflexio_middleware.scope import Scope, current_session, derive

from .place import Place
from .recalling import Memory
from .said import Dialect, part
from .turns import TURNS

_SESSION_KEYS: Final = ("session_id", "thread_id", "conversation_id")


@dataclass(slots=True)
class Asked:
    """The new part of a request's conversation.

    Attributes:
        users: The user's messages that nobody has answered yet.
        results: The tool results that the model has not seen yet.
        calls: The answers that made the calls of these results, with those calls only.
        asking: The user's messages that the model is to answer: the new ones, in a tool loop those that began it.
        earlier: How many items stand before all that.
    """

    users: list[Message] = field(default_factory=list)
    results: list[Message] = field(default_factory=list)
    calls: list[Message] = field(default_factory=list)
    asking: list[Message] = field(default_factory=list)
    earlier: int = 0

    @property
    def question(self) -> str:
        """The words that the model is to answer."""
        return "\n".join(_words(self.asking)).strip()


def asked(dialect: Dialect, items: Sequence[Any]) -> Asked:
    """Read the end of a conversation: what stands behind the last answer, and the calls in it that were answered."""
    made = Asked()
    at = len(items)
    while at:
        message = dialect.read(items[at - 1])
        if message.role == "assistant":
            if not made.results or not message.tools:
                break
            made.calls.append(_only(message, made.results))
            if not dialect.splits_answers:
                break
        elif message.role == "tool":
            made.results.append(message)
        elif message.role == "user":
            if made.results:
                break
            made.users.append(message)
        at -= 1
    made.users.reverse()
    made.results.reverse()
    made.calls = [message for message in reversed(made.calls) if message.tools]
    made.asking = made.users or _latest_users(dialect, items[:at])
    made.earlier = at
    return made


def _only(message: Message, results: Sequence[Message]) -> Message:
    told = {result.call_id for result in results}
    return replace(message, text="", tools=[call for call in message.tools if call["id"] in told])


def _latest_users(dialect: Dialect, items: Sequence[Any]) -> list[Message]:
    found: list[Message] = []
    for item in reversed(items):
        role = part(item, "role")
        if role == "user":
            found.append(dialect.read(item))
        elif found and role not in ("system", "developer"):
            break
    return found[::-1]


def _words(messages: Iterable[Message]) -> list[str]:
    return [text for message in messages if (text := strip_injected(message.text))]


def scope_of(memory: Memory, body: Mapping[str, Any]) -> tuple[Scope, bool]:
    """Whom and what a call belongs to, and whether its session was named anywhere.

    The session: what :func:`wrap` was given, the request's ``metadata`` (``session_id``, ``thread_id``,
    ``conversation_id``), the scope around, that of the response it goes on from, its ``conversation``; else a new one.
    """
    around = current_session()
    given = body.get("metadata")
    known = given if isinstance(given, Mapping) else {}
    session = memory.session_id or next((known[key] for key in _SESSION_KEYS if known.get(key)), None)
    if session is None and around is None:
        previous = body.get("previous_response_id")
        session = (TURNS.chained(previous) if isinstance(previous, str) else "") or _conversation(body) or None
    scope = derive(
        around,
        session,
        memory.user_id or known.get("user_id"),
        memory.agent_version or known.get("agent_version"),
        memory.source,
        memory.metadata,
        memory.reflexio,
    )
    return scope, session is not None or around is not None


def place_of(dialect: Dialect, new: Asked, body: Mapping[str, Any], scope: Scope, *, named: bool) -> Place:
    """Where a call stands."""
    items = dialect.conversation(body)[: new.earlier] if named and len(TURNS) else ()
    before = (dialect.read(item) for item in items if part(item, "role") == "user")
    previous = body.get("previous_response_id")
    return Place(
        session=scope.session_id if named else "",
        user_id=scope.user_id,
        words=frozenset(_words(new.asking)),
        earlier=frozenset(_words(before)),
        results=frozenset(message.call_id for message in new.results),
        previous=previous if isinstance(previous, str) else "",
        conversation=_conversation(body),
        asks=bool(new.users),
    )


def _conversation(body: Mapping[str, Any]) -> str:
    """The id of the conversation that the server keeps, where the request names one."""
    value = body.get("conversation")
    found = value if isinstance(value, str) else part(value, "id") if value is not None else None
    return found if isinstance(found, str) else ""
