"""Putting a recalled block into a list of chat messages, without changing the list or its messages."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from reflexio_middleware.recall.render import HEAD

Placement = Literal["turn", "system"]

_USER = ("user", "human")
_SYSTEM = ("system", "developer")
_TYPES = frozenset({"human", "system", "ai", "tool"})  # roles, as LangChain's messages have them


def latest_user_text(messages: Sequence[Any]) -> str:
    """The text of the last user message (``""`` if there is none): what a recall is asked with."""
    if isinstance(messages, (str, bytes)):
        raise TypeError("messages must be a list of chat messages, not text")
    at = _last(messages, _USER)
    return "" if at is None else _text(_content(messages[at]))


def inject_block(messages: Sequence[Any], block: str, placement: Placement = "turn") -> list[Any]:
    """A new list in which ``block`` stands before the latest user message's text (``"turn"``), or at the end of the
    system message (``"system"``; one is put first if there is none). An empty block changes nothing, nor does any
    where one stands already."""
    made = list(messages)
    if not block or holds_block(made):
        return made
    at = _last(made, _USER if placement == "turn" else _SYSTEM)
    if at is not None:
        made[at] = _with_block(made[at], block, first=placement == "turn")
    elif placement == "system":
        made.insert(0, _system_like(made[0] if made else {}, block))
    return made


def holds_block(messages: Sequence[Any]) -> bool:
    """Whether a block stands in the latest user message or in a system message: no prompt is given a second one."""
    latest = _last(messages, _USER)
    places = (item for at, item in enumerate(messages) if at == latest or _role(item) in _SYSTEM)
    return any(HEAD in _text(_content(item)) for item in places)


def _role(message: Any) -> str:
    if isinstance(message, Mapping):
        return str(message.get("role", ""))
    if isinstance(message, tuple):
        return str(message[0])
    kind = getattr(message, "type", "")
    return kind if kind in _TYPES else str(getattr(message, "role", None) or kind)


def _content(message: Any) -> Any:
    if isinstance(message, Mapping):
        return message.get("content")
    return message[1] if isinstance(message, tuple) else getattr(message, "content", None)


def _last(messages: Sequence[Any], roles: tuple[str, ...]) -> int | None:
    return next((at for at in reversed(range(len(messages))) if _role(messages[at]) in roles), None)


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, Sequence):
        return ""
    parts = (part.get("text") if isinstance(part, Mapping) else part for part in content)
    return "\n".join(part for part in parts if isinstance(part, str))


def _joined(content: Any, block: str, *, first: bool) -> Any:
    if isinstance(content, str) or content is None:
        return "\n\n".join(part for part in ((block, content) if first else (content, block)) if part)
    kinds = [str(part.get("type")) for part in content if isinstance(part, Mapping)]
    part = {"type": "input_text" if any(kind.startswith("input_") for kind in kinds) else "text", "text": block}
    return [part, *content] if first else [*content, part]


def _with_block(message: Any, block: str, *, first: bool) -> Any:
    content = _joined(_content(message), block, first=first)
    if isinstance(message, Mapping):
        return {**message, "content": content}
    if isinstance(message, tuple):
        return (message[0], content)
    if hasattr(message, "model_copy"):
        return message.model_copy(update={"content": content})
    changed = copy.copy(message)
    changed.content = content
    return changed


def _system_like(neighbour: Any, block: str) -> Any:
    """A system message in the form of its neighbours: a dictionary or pair (both are understood by LangChain too)."""
    return ("system", block) if isinstance(neighbour, tuple) else {"role": "system", "content": block}
