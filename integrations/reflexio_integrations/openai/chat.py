"""Chat completions: the protocol in which each request carries the whole conversation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from reflexio_middleware.capture.messages import Message, arguments_of, read_message
from reflexio_middleware.recall.inject import inject_block

from .said import GrowingText, Pieces, Placement, Said, part

_CUT_SHORT: Final = ("length", "content_filter")


class Chat:
    """``/chat/completions``."""

    splits_answers = False

    def conversation(self, body: Mapping[str, Any]) -> Sequence[Any]:
        """Its ``messages``; an unfinished answer at the end, which the model is to go on with, is none of them."""
        messages = body.get("messages")
        if not isinstance(messages, (list, tuple)):
            return ()
        last = messages[-1] if messages else None
        is_prefill = part(last, "role") == "assistant" and not part(last, "tool_calls")
        return messages[:-1] if is_prefill else messages

    def read(self, item: Any) -> Message:
        """A message; calls of custom tools and of the older functions are read like those of tools."""
        message = read_message(item)
        if message.role == "function":
            message.role, message.call_id = "tool", f"function:{message.name}"
        elif message.role == "assistant":
            _name_calls(item, message)
            message.text = message.text or str(part(item, "refusal") or part(part(item, "audio"), "transcript") or "")
        return message

    def answer(self, result: Any) -> Said:
        """The first choice."""
        choices = part(result, "choices")
        if not isinstance(choices, Sequence) or not choices or part(choices[0], "message") is None:
            return Said()
        message = self.read(part(choices[0], "message"))
        message.role = "assistant"
        return _said(message, part(choices[0], "finish_reason"))

    def pieces(self) -> Pieces:
        """Of the first choice."""
        return _ChatPieces()

    def with_block(self, body: Mapping[str, Any], block: str, placement: Placement) -> dict[str, Any]:
        """In the latest user message, or in the system message."""
        messages = body.get("messages")
        if not isinstance(messages, list):
            return dict(body)
        return {**body, "messages": inject_block(messages, block, placement)}


def _name_calls(item: Any, message: Message) -> None:
    for call, read in zip(part(item, "tool_calls") or (), message.tools, strict=False):
        custom = part(call, "custom")
        if custom is not None:
            read["name"], read["input"] = str(part(custom, "name") or "tool"), arguments_of(part(custom, "input"))
    if part(item, "function_call") and not part(item, "tool_calls"):
        for read in message.tools:
            read["id"] = f"function:{read['name']}"


def _said(message: Message, finish: Any) -> Said:
    return Said(
        [message],
        frozenset(call["id"] for call in message.tools),
        "partial" if finish in _CUT_SHORT else "completed",
        final=finish is not None,
    )


class _ChatPieces:
    """Chunks, put together."""

    def __init__(self) -> None:
        self._text, self._refusal = GrowingText(), GrowingText()
        self._calls: dict[int, dict[str, Any]] = {}
        self._finish: Any = None

    def add(self, item: Any) -> bool:
        choices = part(item, "choices")
        for choice in choices if isinstance(choices, Sequence) else ():
            if not part(choice, "index"):
                self._add(part(choice, "delta"))
                self._finish = part(choice, "finish_reason") or self._finish
        return self._finish is not None

    def _add(self, delta: Any) -> None:
        self._text.add(part(delta, "content"))
        self._text.add(part(part(delta, "audio"), "transcript"))
        self._refusal.add(part(delta, "refusal"))
        for call in part(delta, "tool_calls") or ():
            self._add_call(part(call, "index") or 0, call)
        function = part(delta, "function_call")
        if function is not None:
            name = part(function, "name")
            self._add_call(0, {"id": f"function:{name}" if name else None, "function": function})

    def _add_call(self, index: int, call: Any) -> None:
        made = self._calls.setdefault(index, {"id": "", "name": "", "arguments": GrowingText()})
        made["id"] = part(call, "id") or made["id"]
        function = part(call, "function")
        custom = part(call, "custom")
        made["name"] = part(function, "name") or part(custom, "name") or made["name"]
        made["arguments"].add(part(function, "arguments"))
        made["arguments"].add(part(custom, "input"))

    def said(self) -> Said:
        tools = [
            {"id": call["id"], "name": call["name"] or "tool", "input": arguments_of(str(call["arguments"]))}
            for _, call in sorted(self._calls.items())
        ]
        return _said(Message("assistant", str(self._text) or str(self._refusal), tools), self._finish)


CHAT: Final = Chat()
