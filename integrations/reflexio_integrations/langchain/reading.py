"""What goes into a LangChain run, and what comes out of it, read as messages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any, Final

from langchain_core.messages import AIMessage, BaseMessage, ChatMessage, ToolMessage
from langchain_core.prompt_values import PromptValue

from reflexio_middleware.capture.messages import (
    ROLES,
    Message,
    is_message,
    read_call,
    read_message,
    text_of,
    unanswered,
)
from reflexio_middleware.capture.snapshot import as_text, cut

_QUESTION_NAMES: Final = ("question", "query", "input", "message", "user_input", "prompt", "task", "request", "text")


def read(value: Any) -> Message:
    """A message, with the text that LangChain itself gives of it where it is an answer.

    LangChain's own are asked for what their class has: to be told that an attribute is missing takes microseconds.
    """
    if not isinstance(value, BaseMessage):
        return read_message(value)
    kind = value.role if isinstance(value, ChatMessage) else value.type
    message = Message(ROLES.get(kind, kind), text_of(value), [], name=str(getattr(value, "name", None) or ""))
    if isinstance(value, ToolMessage):
        message.call_id, message.status = str(value.tool_call_id), str(getattr(value, "status", ""))
    elif isinstance(value, AIMessage):
        message.tools = [read_call(call) for call in getattr(value, "tool_calls", None) or ()]
        if not isinstance(value.content, str):
            message.text = cut(str(value.text)) or message.text
    return message


def held(inputs: Any) -> Any:
    """``inputs`` such that lists of messages in it stay as they are now."""
    if isinstance(inputs, list):
        return list(inputs)
    if isinstance(inputs, Mapping) and isinstance(inputs.get("messages"), list):
        return {**inputs, "messages": list(inputs["messages"])}
    return inputs


def conversation_of(value: Any) -> list[Any] | None:
    """The chat messages that ``value`` (inputs or outputs of a run) holds, or None if it is no conversation.

    A text is a conversation of one message here; so is what LangChain coerces to messages: a list of message objects,
    dictionaries, ``(role, text)`` pairs and texts, a prompt value, or a state with ``messages``.
    """
    if isinstance(value, Mapping) and not is_message(value):
        value = value.get("messages")
    if isinstance(value, PromptValue):
        return list(value.to_messages())
    if isinstance(value, str) or (value is not None and is_message(value)):
        return [value]
    if isinstance(value, Sequence) and not isinstance(value, (bytes, tuple)) and value:
        return list(value) if all(isinstance(item, (str, BaseMessage)) or is_message(item) for item in value) else None
    return None


def is_summary(value: Any) -> bool:
    """Whether a middleware wrote this message in the user's place (a summary of earlier messages)."""
    return "lc_source" in (getattr(value, "additional_kwargs", None) or ())


def is_aside(metadata: Mapping[str, Any] | None) -> bool:
    """Whether a middleware makes a run with these metadata for its own ends, such as a summary."""
    return "lc_source" in (metadata or ())


def resume_of(inputs: Any) -> Any:
    """The value with which a graph is resumed (a LangGraph ``Command``), or None."""
    return getattr(inputs, "resume", None) if type(inputs).__name__ == "Command" else None


def decisions_of(inputs: Any) -> list[Mapping[str, Any]]:
    """What a human decided on tool calls, with which a graph is resumed (``HumanInTheLoopMiddleware``: all in one
    answer, or one decision for each interrupt)."""
    resumed = resume_of(inputs)
    if not isinstance(resumed, Mapping):
        return []
    found = resumed.get("decisions") or ([resumed] if "type" in resumed else resumed.values())
    return [item for item in found if isinstance(item, Mapping) and "type" in item]


def new_from_user(conversation: Sequence[Any]) -> list[Message]:
    """The user's words of this turn: the human messages at the end, without summaries and a prefilled answer."""
    said = (read(item) for item in reversed(conversation) if not is_summary(item))
    latest_first = (message for message in said if message.role != "remove")
    last = next(latest_first, None)
    if last is None:
        return []
    is_prefill = last.role == "assistant" and not last.tools
    return unanswered(latest_first if is_prefill else chain([last], latest_first))


def asked(inputs: Any, prompt: Sequence[Any] | None, *, in_graph: bool) -> list[Message]:
    """What the user said in this turn.

    From the run's own ``inputs`` where they are a conversation; else from the first model call's ``prompt`` (so that
    a prompt template's variables are read as the text that was made of them); else from an input of a usual name.
    """
    resumed = resume_of(inputs)
    if resumed is not None:
        return [Message("user", as_text(resumed), [])]
    conversation = conversation_of(inputs)
    if conversation is not None:
        return new_from_user(conversation)
    named = _named(inputs)
    if prompt is not None and not (named and in_graph):
        return new_from_user(prompt) if inputs is not None or not in_graph else []
    return [Message("user", cut(named), [])] if named else []


def _named(inputs: Any) -> str:
    if not isinstance(inputs, Mapping):
        return ""
    texts = {name: value for name, value in inputs.items() if isinstance(value, str) and value.strip()}
    return next((texts[name] for name in _QUESTION_NAMES if name in texts), "")


def results_at_end(conversation: Sequence[Any]) -> list[Message]:
    """The tool results that follow the last answer."""
    found: list[Message] = []
    for item in reversed(conversation):
        message = read(item)
        if message.role == "assistant":
            break
        if message.role == "tool":
            found.append(message)
    return found[::-1]


def generated(response: Any) -> Any:
    """The first answer of an ``LLMResult``: a message, or the text of a completion model; None if there is none."""
    generations = getattr(response, "generations", None) or [[]]
    first = generations[0][0] if generations[0] else None
    return getattr(first, "message", None) or getattr(first, "text", None)


def token_text(token: Any) -> str:
    """The text of a streamed token, which may be a list of content blocks."""
    if isinstance(token, str):
        return token
    return "".join(part if isinstance(part, str) else str(part.get("text") or "") for part in token or ())


def event_text(event: Any) -> str:
    """The text that a streamed protocol event adds (only ``content-block-delta`` events of text add any)."""
    delta = event.get("delta") if isinstance(event, Mapping) else None
    return str(delta.get("text") or "") if isinstance(delta, Mapping) and delta.get("type") == "text-delta" else ""


def tool_output(output: Any, call_id: str) -> tuple[str, str]:
    """``(text, status)`` of what a tool returned: a value, a ToolMessage, or a ``Command`` that holds one."""
    update = getattr(output, "update", None) if type(output).__name__ == "Command" else None
    if isinstance(update, Mapping):
        messages = [item for item in update.get("messages") or () if getattr(item, "tool_call_id", None) == call_id]
        output = messages[0] if messages else dict(update)
    if is_message(output) and not isinstance(output, tuple):
        message = read(output)
        return message.text, message.status or "success"
    return as_text(output), "success"
