"""Which argument is the user's message, and which result the agent's answer."""

from __future__ import annotations

import codecs
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from reflexio_middleware.capture.messages import (
    Message,
    is_conversation,
    is_message,
    new_user_messages,
    read_message,
)
from reflexio_middleware.capture.snapshot import MAX_TEXT, as_text, field_of, held_in, mark_cut
from reflexio_middleware.guard import guard

_TEXT_NAMES: Final = (
    "message", "question", "query", "prompt", "user_message", "user_input", "input", "text", "content", "inputs", "q",
    "msg", "utterance", "task", "request",
)  # fmt: skip
_LIST_NAMES: Final = ("messages", "conversation", "chat_history", "history")
_ANSWER_NAMES: Final = ("output", "answer", "response", "output_text", "content", "text", "result", "reply", "message")
_MAX_ITEMS: Final = 1000
_MAX_PIECES: Final = 1000
_NOT_A_MESSAGE: Final = ("_id", "_key", "_name", "_version", "_model")


@dataclass(slots=True)
class Given:
    """What a call was given: the ``new`` user messages and the ``last`` message of any role.

    ``conversation`` is the list that it was handed, with its length then: agents often append to it as they work.
    """

    new: list[Message] = field(default_factory=list)
    last: Message | None = None
    conversation: Sequence[Any] = ()
    length: int = 0

    def appended(self) -> list[Message]:
        """The messages that the call appended to the list it was handed."""
        return [read_message(item) for item in self.conversation[self.length :]]


class InputReader:
    """Reads the user's new messages from the arguments of a call; what a function looks like is read once."""

    __slots__ = ("_choose", "_known", "_names", "_skip_first", "_variadic")

    def __init__(self, fn: Callable[..., Any], choose: str | Callable[..., Any] | None) -> None:
        self._choose = choose
        parameters = _parameters(fn)
        self._names = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
        self._skip_first = bool(self._names) and self._names[0] in ("self", "cls")
        self._variadic = [p.name for p in parameters if p.kind is p.VAR_KEYWORD]
        self._known = [p.name for p in parameters]
        if isinstance(choose, str):
            self.require(choose, "input")

    def require(self, name: str, option: str) -> None:
        """Check that the function takes an argument of this name.

        Raises:
            TypeError: It does not; ``option`` is the one of ``@capture`` that names it.
        """
        if self._known and name not in self._known and not self._variadic:
            has = ", ".join(self._known)
            raise TypeError(f"capture({option}={name!r}): no such parameter; the function has: {has}")

    def has(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """Whether a call gives this argument."""
        return name in kwargs or name in self._names[: len(args)]

    def read(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Given:
        """What the call was given. Nothing is consumed: iterators and files are left alone."""
        if callable(self._choose):
            return _messages(self._choose(*args, **kwargs))
        named = dict(zip(self._names, args, strict=False))
        named.update(kwargs)
        if self._skip_first:
            named.pop(self._names[0], None)
        if self._choose is not None:
            return _messages(named.get(self._choose))
        for at, value in enumerate(args[len(self._names) :]):
            named[f"*{at}"] = value
        return _messages(_find(named))


def _parameters(fn: Callable[..., Any]) -> list[inspect.Parameter]:
    try:
        return list(inspect.signature(fn.__func__ if isinstance(fn, classmethod) else fn).parameters.values())
    except (TypeError, ValueError):
        return []


def _find(named: Mapping[str, Any]) -> Any:
    """A text argument of a usual name, else a conversation, else a mapping or a data object that holds either, else any
    text."""
    for name in _TEXT_NAMES:
        value = named.get(name)
        if isinstance(value, str) or (value is not None and is_message(value)):
            return value
    text = _any_text(named)
    for name in (*_LIST_NAMES, *named):
        if is_conversation(named.get(name)) and (text is None or new_user_messages(named[name])):
            return named[name]
    for value in named.values():
        inner = _inside(value)
        if inner is not None:
            return inner
    return text


def _any_text(named: Mapping[str, Any]) -> str | None:
    """The first text argument whose name is none of an id, a key or a setting."""
    for name, value in named.items():
        if isinstance(value, str) and name != "id" and not name.endswith(_NOT_A_MESSAGE):
            return value
    return None


def _inside(value: Any) -> Any:
    if is_message(value):
        return value
    held = held_in(value)
    for name in (*_LIST_NAMES, *_TEXT_NAMES) if held else ():
        inner = held.get(name)
        if is_conversation(inner) or isinstance(inner, str):
            return inner
    return None


def _messages(value: Any) -> Given:
    if value is None:
        return Given()
    if isinstance(value, str):
        message = read_message(value)
        return Given([message], message)
    if is_conversation(value):
        return Given(new_user_messages(value), read_message(value[-1]), value, len(value))
    inner = None if is_message(value) else _inside(value)
    if inner is not None:
        return _messages(inner)
    message = read_message(value)
    return Given([message] if message.role not in ("assistant", "tool", "system") else [], message)


class Answer:
    """Gathers what a call gave: its result, or the items it streamed.

    Bounded: texts (and bytes, read as UTF-8) are joined up to a million characters; of other items the first 1,000
    and the last are kept.
    """

    __slots__ = ("_chosen", "_decoder", "_items", "_last", "_left_out", "_streamed")

    def __init__(self, output: str | Callable[[Any], Any] | None) -> None:
        self._chosen = output
        self._items: list[Any] = []
        self._last: Any = None
        self._left_out = 0
        self._streamed = False
        self._decoder: codecs.IncrementalDecoder | None = None

    def add(self, item: Any) -> None:
        """Take one streamed item."""
        self._streamed = True
        chunk = item if isinstance(item, str) or self._chosen is not None else _chunk(self._text_of(item))
        if isinstance(chunk, str):
            if self._items and isinstance(self._items[-1], _Text):
                self._items[-1].add(chunk)
                return
            chunk = _Text(chunk)
        if len(self._items) < _MAX_ITEMS:
            self._items.append(chunk)
        else:
            self._last = chunk
            self._left_out += 1

    def _text_of(self, item: Any) -> Any:
        if not isinstance(item, (bytes, bytearray)):
            return item
        if self._decoder is None:
            self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        return self._decoder.decode(item)

    def joined(self, returned: Any) -> Any:
        """What the call gave, as one value. The return value of a generator counts only if nothing was streamed."""
        if not self._streamed:
            return returned
        every = self._gathered()
        return every[-1] if isinstance(self._chosen, str) else _join(every)

    def chosen(self, value: Any) -> Any:
        """The part of the :meth:`joined` value that was asked for; all of it where a function that asks fails."""
        if callable(self._chosen):
            with guard("choosing the agent's answer"):
                return self._chosen(self._gathered() if self._streamed else value)
            return value
        if value is None or self._chosen is None:
            return value
        return field_of(value, self._chosen)

    def _gathered(self) -> list[Any]:
        every = [*self._items, self._last] if self._left_out else self._items
        return [str(item) if isinstance(item, _Text) else item for item in every]


class _Text:
    """A text that grows by pieces; of what is beyond the limit, only the length is kept.

    Not an ``io.StringIO``: the garbage collector closes one before the generator that is to end with its text.
    """

    __slots__ = ("_blocks", "_pieces", "_size")

    def __init__(self, first: str) -> None:
        self._blocks: list[str] = []
        self._pieces: list[str] = []
        self._size = 0
        self.add(first)

    def add(self, piece: str) -> None:
        if self._size < MAX_TEXT:
            self._pieces.append(piece[: MAX_TEXT - self._size])
            if len(self._pieces) >= _MAX_PIECES:
                self._blocks.append("".join(self._pieces))
                self._pieces.clear()
        self._size += len(piece)

    def __str__(self) -> str:
        return mark_cut("".join((*self._blocks, *self._pieces)), self._size)


def _chunk(item: Any) -> Any:
    """The text of a streamed item where it is one: text, a chat chunk, or an object or mapping that holds text."""
    if isinstance(item, str):
        return item
    choices = field_of(item, "choices")
    if isinstance(choices, Sequence) and choices:
        delta = field_of(choices[0], "delta")
        text = field_of(delta, "content")
        return text if isinstance(text, str) else ""
    kind = field_of(item, "type")
    if isinstance(kind, str) and kind.endswith("MessageChunk"):
        return read_message(item).text
    if is_message(item):
        return item
    text = field_of(item, "text")
    if not isinstance(text, str):
        text = held_in(item).get("content")
    return text if isinstance(text, str) else item


def _join(items: list[Any]) -> Any:
    """Texts are joined, messages kept; other data counts if the last item holds an answer, or there is no text."""
    kept = [item for item in items if not isinstance(item, str) or item]
    texts = [item for item in kept if isinstance(item, str)]
    if len(texts) < len(kept):
        if all(isinstance(item, str) or is_message(item) for item in kept):
            return kept
        if not texts or is_message(kept[-1]) or _unwrap(kept[-1]) is not kept[-1]:
            return kept[-1]
    return "".join(texts)


def read_answer(value: Any, given: Given) -> list[Message]:
    """The agent's messages: those appended to the conversation it was handed, and those in its result.

    Of a result that repeats the conversation, only what came after what was given.
    """
    worked = [message for message in given.appended() if message.role != "system"]
    answer = _read_result(value, given)
    if not worked:
        return answer
    said = {(message.role, message.text) for message in worked if message.text}
    if any(message.tools for message in answer):
        return worked if any(message.tools for message in worked) else answer
    return worked + [message for message in answer if (message.role, message.text) not in said]


def _read_result(value: Any, given: Given) -> list[Message]:
    value = value if isinstance(value, str) else _unwrap(value)
    if isinstance(value, str):
        return [Message("assistant", as_text(value), [])] if value else []
    if value is None:
        return []
    if is_message(value) and not isinstance(value, tuple):
        message = read_message(value)
        message.role = "assistant" if message.role == "user" else message.role
        return [message]
    if isinstance(value, list) and value and all(isinstance(item, str) or is_message(item) for item in value):
        return _after([_answer_of(item) for item in value], given.last)
    return [Message("assistant", as_text(value), [])]


def _answer_of(item: Any) -> Message:
    return Message("assistant", item, []) if isinstance(item, str) else read_message(item)


def _after(messages: list[Message], given: Message | None) -> list[Message]:
    if given is not None:
        for at in reversed(range(len(messages))):
            if messages[at].role == given.role and messages[at].text == given.text and not messages[at].tools:
                return messages[at + 1 :]
    return [message for message in messages if message.role not in ("user", "system")]


def _unwrap(value: Any) -> Any:
    """The part of a result that holds the answer: of the usual response objects and mappings."""
    choices = field_of(value, "choices")
    if isinstance(choices, Sequence) and not isinstance(choices, str) and choices:
        return field_of(choices[0], "message")
    text = None if isinstance(value, Mapping) else field_of(value, "output_text")
    if isinstance(text, str):
        return text
    held = {} if is_message(value) else held_in(value)
    for name in ("messages", *_ANSWER_NAMES) if held else ():
        inner = held.get(name)
        if is_conversation(inner) or (name != "messages" and isinstance(inner, str)):
            return inner
    return value
