"""Responses: the protocol of items, in which a request may carry only what is new."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from reflexio_middleware.capture.messages import Message, arguments_of, read_message, text_of
from reflexio_middleware.capture.snapshot import as_text, snapshot
from reflexio_middleware.capture.turn import TurnStatus
from reflexio_middleware.recall.inject import inject_block

from .said import GrowingText, Pieces, Placement, Said, part

_INPUTS: Final = ("arguments", "input", "action", "operation", "code", "queries", "query")
_ENDS: Final = ("response.completed", "response.incomplete", "response.failed")
_STATUSES: Final[Mapping[str, TurnStatus]] = {
    "incomplete": "partial", "queued": "partial", "in_progress": "partial",  # the last two: made in the background
    "failed": "error", "cancelled": "cancelled",
}  # fmt: skip
_HOSTED: Final = frozenset({
    "web_search_call", "file_search_call", "code_interpreter_call", "image_generation_call", "mcp_call",
    "tool_search_call",
})  # fmt: skip
"""Tools that the server runs itself: their calls need no result from the caller."""


class Responses:
    """``/responses``."""

    splits_answers = True

    def conversation(self, body: Mapping[str, Any]) -> Sequence[Any]:
        """Its ``input``; a text is one user message."""
        given = body.get("input")
        if isinstance(given, str):
            return ({"role": "user", "content": given},)
        return given if isinstance(given, (list, tuple)) else ()

    def read(self, item: Any) -> Message:
        """An item; one of which nothing is kept (reasoning, a reference) is read as a system message."""
        kind = str(part(item, "type") or "message")
        if kind == "message":
            return read_message(item)
        if kind.endswith("_call_output"):
            status = "error" if part(item, "status") == "failed" else ""
            return Message("tool", _output(part(item, "output")), [], str(part(item, "call_id") or ""), status=status)
        if kind.endswith("_call"):
            return Message("assistant", "", [_call(item, kind)])
        return Message("system", "", [])

    def answer(self, result: Any) -> Said:
        """The items of its ``output``, as one message with its calls."""
        output = part(result, "output")
        made = self._merged(output if isinstance(output, Sequence) and not isinstance(output, str) else ())
        made.status = _STATUSES.get(str(part(result, "status")), "completed")
        error = part(result, "error")
        made.error = str(part(error, "message") or "") if error else ""
        made.response_id = str(part(result, "id") or "")
        return made

    def pieces(self) -> Pieces:
        """Of its events."""
        return _ResponsePieces(self)

    def with_block(self, body: Mapping[str, Any], block: str, placement: Placement) -> dict[str, Any]:
        """In the latest user message of the input, or in the ``instructions``."""
        if placement == "system" and not body.get("prompt"):
            told = body.get("instructions")
            told = told if isinstance(told, str) else ""
            return {**body, "instructions": "\n\n".join(item for item in (told, block) if item)}
        given = body.get("input")
        if isinstance(given, str) and placement == "turn":
            return {**body, "input": f"{block}\n\n{given}"}
        items = list(self.conversation(body))
        if placement == "turn":
            return {**body, "input": inject_block(items, block, placement)}
        return {**body, "input": [{"role": "developer", "content": block}, *items]}

    def _merged(self, items: Sequence[Any]) -> Said:
        text, tools, results = [], [], []
        waiting = set()
        for item in items:
            message = self.read(item)
            if message.role != "assistant":
                continue
            text.append(message.text)
            tools += message.tools
            hosted = str(part(item, "type")) in _HOSTED
            if hosted:
                results.append(_hosted_result(item))
            waiting |= set() if hosted else {call["id"] for call in message.tools}
        answer = Message("assistant", "\n".join(piece for piece in text if piece), tools)
        return Said([answer, *results], frozenset(waiting))


def _call(item: Any, kind: str) -> dict[str, Any]:
    given = next((value for name in _INPUTS if (value := part(item, name)) is not None), None)
    name = part(item, "name") or kind.removesuffix("_call")
    return {"id": _call_id(item), "name": str(name), "input": arguments_of(given)}


def _call_id(item: Any) -> str:
    return str(part(item, "call_id") or part(item, "id") or "")


def _output(output: Any) -> str:
    """The text of a result: text, or a list of parts of which media are only named."""
    if isinstance(output, str):
        return output
    if isinstance(output, Sequence) and all(part(item, "type") for item in output):
        return text_of({"content": output})
    return as_text(output) if part(output, "type") != "computer_screenshot" else "[computer_screenshot]"


def _hosted_result(item: Any) -> Message:
    error = part(item, "error")
    status = "error" if error or part(item, "status") == "failed" else "success"
    found = error or part(item, "output") or part(item, "outputs") or part(item, "results") or part(item, "tools")
    text = "[image]" if part(item, "type") == "image_generation_call" else as_text(snapshot(found)) if found else ""
    return Message("tool", text, [], _call_id(item), status=status)


class _ResponsePieces:
    """Events, put together: the whole response where it came, else the items that did, and the text under way."""

    def __init__(self, protocol: Responses) -> None:
        self._protocol = protocol
        self._whole: Any = None
        self._items: list[Any] = []
        self._text = GrowingText()
        self._id = ""
        self._error = ""

    def add(self, item: Any) -> bool:
        kind = part(item, "type")
        if kind in ("response.output_text.delta", "response.refusal.delta"):
            self._text.add(part(item, "delta"))
        elif kind == "response.output_item.done":
            self._items.append(part(item, "item"))
            self._text = GrowingText()
        elif kind == "response.created":
            self._id = str(part(part(item, "response"), "id") or "")
        elif kind in _ENDS:
            self._whole = part(item, "response")
        elif kind == "error":
            self._error = str(part(item, "message") or "the stream reported an error")
        return self._whole is not None or bool(self._error)

    def said(self) -> Said:
        if self._whole is not None and part(self._whole, "output"):
            return self._protocol.answer(self._whole)
        under_way = [{"role": "assistant", "content": str(self._text)}] if str(self._text) else []
        output = {"output": [*self._items, *under_way], "id": self._id}
        made = self._protocol.answer(output)
        if self._whole is not None:
            ended = self._protocol.answer(self._whole)
            made.status, made.error = ended.status, ended.error
        if self._error:
            made.status, made.error = "error", self._error
        made.final = self._whole is not None or bool(self._error)
        return made


RESPONSES: Final = Responses()
