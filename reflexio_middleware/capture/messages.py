"""Chat messages of any framework, read as interactions: what is new in this turn, and who said it.

A message is a dictionary in OpenAI form, an object with ``type`` or ``role`` (LangChain, OpenAI SDK), a
``(role, text)`` pair, or plain text (a user's). Nothing is imported from any framework: they are
told apart by their attributes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import orjson

from reflexio_middleware.capture.media import describe_media
from reflexio_middleware.capture.snapshot import as_text, cut, field_of, snapshot
from reflexio_store.records import InteractionRecord

MEMORY_TAG: Final = "reflexio_memory"
"""The tag around text that recall puts into a prompt. What stands inside is never stored as anybody's words."""

_BEGIN: Final = re.compile(rf"<{MEMORY_TAG}\b[^<>]*>")
_END: Final = f"</{MEMORY_TAG}>"
ROLES: Final = {
    "human": "user", "HumanMessageChunk": "user",
    "ai": "assistant", "AIMessageChunk": "assistant", "model": "assistant",
    "ToolMessageChunk": "tool", "SystemMessageChunk": "system", "developer": "system",
}  # fmt: skip
"""Which of the roles that are stored is meant by a name that a framework gives one."""
_NONE: Final = object()
_CHAT_ROLES: Final = frozenset({"user", "assistant", "tool", "system", "function"})


@dataclass(slots=True)
class Message:
    """One message, whatever it came from. ``tools`` are the calls it makes; ``call_id`` is the call it answers."""

    role: str
    text: str
    tools: list[dict[str, Any]]
    call_id: str = ""
    name: str = ""
    status: str = ""


def strip_injected(text: str) -> str:
    """``text`` without the blocks that recall put into it. However many tags a text holds, it is read once."""
    if f"<{MEMORY_TAG}" not in text:
        return text
    kept: list[str] = []
    at = 0
    while (begin := _BEGIN.search(text, at)) and (end := text.find(_END, begin.end())) >= 0:
        kept.append(text[at : begin.start()].strip())
        at = end + len(_END)
    return "\n".join([*kept, text[at:].strip()]).strip()


def is_message(value: Any) -> bool:
    """Whether ``value`` is a chat message (plain text is not)."""
    if isinstance(value, str):
        return False
    if isinstance(value, Mapping):
        return isinstance(value.get("role"), str) and ("content" in value or "tool_calls" in value)
    if isinstance(value, tuple):
        return len(value) == 2 and isinstance(value[0], str) and (value[0] in ROLES or value[0] in _CHAT_ROLES)
    return field_of(value, "content", _NONE) is not _NONE and isinstance(_role_of(value), str)


def is_conversation(value: Any) -> bool:
    """Whether ``value`` is a list of chat messages (an empty list is not)."""
    return (
        not isinstance(value, (str, bytes))
        and isinstance(value, Sequence)
        and bool(value)
        and all(is_message(item) for item in (value[0], value[-1]))
    )


def read_message(value: Any) -> Message:
    """``value`` as a :class:`Message`; anything that is none is read as a user's text."""
    if isinstance(value, tuple) and len(value) == 2:
        value = {"role": value[0], "content": value[1]}
    if not is_message(value):
        return Message("user", as_text(value), [])
    get = partial(field_of, value)
    role = _role_of(value) or ""
    calls = get("tool_calls")
    if not calls:
        called = get("function_call")
        calls = [called] if called else []
    return Message(
        role=ROLES.get(role, role),
        text=text_of(value),
        tools=[read_call(call) for call in calls] if isinstance(calls, Sequence) else [],
        call_id=str(get("tool_call_id") or ""),
        name=str(get("name") or ""),
        status=str(get("status") or "") if role in ("tool", "ToolMessageChunk") else "",
    )


def _role_of(value: Any) -> str | None:
    role = field_of(value, "role")
    if role is None and not isinstance(value, Mapping):
        role = field_of(value, "type")
    return role if isinstance(role, str) else None


def text_of(value: Any) -> str:
    """The text of a message: its parts of text joined, media named by a marker such as ``[image: image/png, ...]``.

    A refusal is what a message says that has no content.
    """
    get = partial(field_of, value)
    content = get("content")
    if content is None or (isinstance(content, (str, list)) and not content):
        refusal = get("refusal") or field_of(get("additional_kwargs"), "refusal")
        return cut(refusal) if isinstance(refusal, str) else ""
    if isinstance(content, str):
        return cut(content)
    if isinstance(content, Sequence) and not isinstance(content, (bytes, bytearray)):
        return cut("\n".join(part for part in map(_part, content) if part))
    return as_text(content)


def _part(part: Any) -> str:
    if isinstance(part, str):
        return part
    get = partial(field_of, part)
    kind = str(get("type") or "")
    text = get("text") or get("refusal")
    if isinstance(text, str):
        return text
    if kind in ("tool_use", "tool_call", "function_call", "reasoning", "thinking", "tool_call_chunk"):
        return ""  # calls are read from the message itself; reasoning is no answer
    return describe_media(part)


def read_call(call: Any) -> dict[str, Any]:
    """A tool call of any form as ``{"id", "name", "input"}``."""
    get = partial(field_of, call)
    inner = get("function")
    if inner is not None:
        name, arguments = field_of(inner, "name"), field_of(inner, "arguments")
    else:
        name, arguments = get("name"), get("args") if get("args") is not None else get("arguments")
    return {"id": str(get("id") or ""), "name": str(name or "tool"), "input": arguments_of(arguments)}


def arguments_of(arguments: Any) -> Any:
    """The arguments of a tool call: JSON text decoded where it is an object, anything else as it is."""
    if isinstance(arguments, str):
        try:
            decoded = orjson.loads(arguments)
        except ValueError:
            return cut(arguments)
        return decoded if isinstance(decoded, (dict, list)) else cut(arguments)
    return snapshot(arguments)


def new_user_messages(conversation: Sequence[Any]) -> list[Message]:
    """The user messages that nobody has answered yet: those after the last answer or tool result."""
    return unanswered(map(read_message, reversed(conversation)))


def unanswered(latest_first: Iterable[Message]) -> list[Message]:
    """:func:`new_user_messages` of a conversation that is read backwards, as far as it is needed."""
    found: list[Message] = []
    for message in latest_first:
        if message.role in ("assistant", "tool", "function"):
            break
        if message.role != "system":
            found.append(message)
    return found[::-1]


def tool_record(name: str, given: Any = None, output: Any = None, status: str = "") -> dict[str, Any]:
    """A tool call in the form in which it is stored: ``tool_data`` is ``{"input": ..., "output": ...}``."""
    data: dict[str, Any] = {"input": given}
    if output is not None or status:
        data["output"] = output
    return {"tool_name": name, "tool_data": data, "status": status[:100]}


class CallLog:
    """The tool calls of one turn: which result answers which call, and which were told before.

    Several may tell of the same call: a callback while it runs, the conversation that a function returns in the end,
    the messages of the next model call. It is kept once. Ids alone do not decide: recorded ones repeat within a turn.
    """

    __slots__ = ("_by_id", "_told")

    def __init__(self) -> None:
        self._by_id: dict[str, list[dict[str, Any]]] = {}
        self._told: set[tuple[str, str, bytes]] = set()

    def interactions(self, messages: Sequence[Message], *, created_at: int) -> list[InteractionRecord]:
        """Messages as interactions (``created_at`` in epoch seconds): system messages are left out, a tool's result
        joins the call it answers, and what was told by an earlier call of this method is not repeated."""
        told_before = frozenset(self._told)
        made: list[InteractionRecord] = []
        for message in messages:
            if message.role == "system":
                continue
            if message.role in ("tool", "function"):
                if not self.answer(message):
                    _orphan_result(message, made, created_at)
                continue
            tools = [tool for tool in (self._record(call, told_before) for call in message.tools) if tool]
            text = strip_injected(message.text) if tools or not message.tools else ""
            if text or tools:
                made.append(InteractionRecord(message.role or "user", text, created_at, tools))
        return made

    def answer(self, message: Message) -> bool:
        """Join a tool's result to the latest call that it can answer; False if there is no such call on the turn."""
        calls = self._by_id.get(message.call_id, []) if message.call_id else self._named(message.name)
        open_call = next((call for call in reversed(calls) if not call["status"]), None)
        if open_call is not None:
            open_call["tool_data"]["output"] = message.text
            open_call["status"] = (message.status or "success")[:100]
        return bool(calls)

    def _named(self, name: str) -> list[dict[str, Any]]:
        every = (call for calls in self._by_id.values() for call in calls)
        return [call for call in every if call["tool_name"] == name and not call["status"]]

    def _record(self, call: dict[str, Any], told_before: frozenset[tuple[str, str, bytes]]) -> dict[str, Any] | None:
        record = tool_record(call["name"], call["input"])
        key = (call["id"], call["name"], orjson.dumps(call["input"], option=orjson.OPT_SORT_KEYS))
        if call["id"] and key in told_before:
            return None
        self._told.add(key)
        self._by_id.setdefault(call["id"], []).append(record)
        return record


def _orphan_result(message: Message, made: list[InteractionRecord], created_at: int) -> None:
    """A result whose call is not on the turn stands on the answer before it, or on one of its own."""
    if not made or made[-1].role != "assistant":
        made.append(InteractionRecord("assistant", "", created_at))
    made[-1].tools_used.append(tool_record(message.name or "tool", None, message.text, message.status or "success"))
