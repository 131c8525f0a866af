"""SER: whatever an agent is given or gives, the record exists and the agent does not notice."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import inspect
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import pydantic
import pytest
from langchain_core.messages import AIMessage, HumanMessage

import reflexio_middleware as reflexio
from reflexio_integrations.langchain import ReflexioCallbackHandler
from reflexio_middleware import capture, current_turn
from reflexio_middleware.capture.turn import turn
from tests.checklist.test_perf import calls_here
from tests.conftest import ListSink
from tests.langchain.scripted import ScriptedModel


class Hostile:
    """Raises however it is looked at."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError("no attributes")

    def __repr__(self) -> str:
        raise RuntimeError("no repr")

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("no eq")

    def __bool__(self) -> bool:
        raise RuntimeError("no bool")

    def __len__(self) -> int:
        raise RuntimeError("no len")

    __hash__ = object.__hash__


class Ambiguous:
    """As an array: neither true nor false, and equal to nothing and everything."""

    def __bool__(self) -> bool:
        raise ValueError("the truth value of an array is ambiguous")

    def __eq__(self, other: object) -> Any:
        return self

    __hash__ = object.__hash__


class Undumpable(pydantic.BaseModel):
    """A model that fails to dump itself."""

    value: int = 1

    def model_dump(self, **_: Any) -> dict[str, Any]:
        raise RuntimeError("no dump")


class Dumpable(pydantic.BaseModel):
    value: int = 1


@dataclasses.dataclass
class Node:
    next: Any = None


class Slotted:
    __slots__ = ("next",)


def _cycles() -> Iterator[Any]:
    mapping: dict[str, Any] = {}
    mapping["self"] = mapping
    array: list[Any] = []
    array.append(array)
    node = Node()
    node.next = node
    slotted = Slotted()
    slotted.next = slotted
    yield from (mapping, array, node, slotted)


def _deep() -> Any:
    made: Any = "bottom"
    for _ in range(10_000):
        made = {"in": [made]}
    return made


ODD = [
    *_cycles(), _deep(), float("nan"), float("inf"), b"\x00\xff", bytearray(b"x"), memoryview(b"x"), {1, "a"},
    {(1, 2): 3, None: 4, 5.5: 6}, (item for item in "abc"), threading.Lock(), threading.local(), socket.socket,
    Dumpable(), Dumpable, Undumpable(), Hostile(),
    {"in": Hostile()}, [Hostile()], Node(Hostile()), "\ud800", "\x00", 10**5000, -(10**30), object(), object, len,
    Exception("x"), Ellipsis, range(10**12), {"role": Hostile(), "content": Hostile()},
    SimpleNamespace(content=Hostile()), Ambiguous(), {"role": "user", "content": Ambiguous()},
]  # fmt: skip

with suppress(ImportError):
    import numpy as np

    ODD += [np.arange(3), np.float32(1.5), np.datetime64("2026-01-01"), {"role": "user", "content": np.arange(3)}]


@pytest.mark.parametrize("value", ODD, ids=[f"{number}-{type(value).__name__}" for number, value in enumerate(ODD)])
def test_ser_1_any_value_is_survived(sink: ListSink, value: Any) -> None:
    """As an argument, as the message, as a result, as an item of a stream, as tool data and in the metadata."""

    @capture(metadata={"value": value})
    def agent(question: str, thing: Any) -> Any:
        made = current_turn()
        assert made is not None
        made.tool("t", value, value)
        made.add("user", value)
        return thing

    @capture
    def stream(question: str) -> Iterator[Any]:
        yield value
        yield "end"

    @capture(input="thing", output=lambda result: result)
    def chosen(thing: Any) -> Any:
        return thing

    for given_back in (agent("q", value), chosen(value)):
        assert given_back is value or inspect.isgenerator(value)  # a generator is passed on by another: GEN-8
    del given_back
    assert next(items := stream("q")) is value
    assert list(items) == ["end"]
    assert len(sink.turns) >= 2
    assert sink.said[0][0] == ("user", "q")
    client = reflexio.default_client()
    for made in sink.turns:
        assert client.sink.put(made)
    assert client.flush().complete


def test_ser_2_later_changes_do_not_reach_the_record(sink: ListSink) -> None:
    """Of arguments, message lists, tool data, metadata and returned objects."""
    data: dict[str, Any] = {"a": [1]}
    messages: list[dict[str, Any]] = [{"role": "user", "content": "before"}]
    metadata: dict[str, Any] = {"list": [1]}

    @capture(metadata=metadata)
    def agent(messages: list[dict[str, Any]]) -> dict[str, Any]:
        made = current_turn()
        assert made is not None
        made.tool("t", data, data)
        messages[0]["content"] = "meanwhile"
        data["a"].append(2)
        return data

    agent(messages)
    data["a"].append(3)
    metadata["list"].append(2)
    messages.clear()
    made = sink.only
    assert made.interactions[0].content == "before"
    assert made.interactions[-1].content == '{"a":[1,2]}'
    assert made.interactions[-1].tools_used[0]["tool_data"] == {"input": {"a": [1]}, "output": {"a": [1]}}
    assert made.metadata == {"list": [1]}


class Uncopyable:
    """Holds a lock, and fails to be copied."""

    def __init__(self) -> None:
        self.lock = threading.Lock()

    def __deepcopy__(self, memo: object) -> Any:
        raise AssertionError("somebody copied it")

    __copy__ = __reduce__ = __deepcopy__  # type: ignore[assignment]


def test_ser_3_nothing_is_copied_deeply(sink: ListSink) -> None:
    """Neither arguments nor results, alone or inside of others."""
    thing = Uncopyable()
    with calls_here() as names:
        assert capture(lambda question, value: value)("q", {"in": thing})["in"] is thing
    assert not {"deepcopy", "copy", "__reduce_ex__"} & names.keys()
    assert sink.only.interactions[1].content == '{"in":"<Uncopyable>"}'


PNG = b"\x89PNG\r\n\x1a\n" + bytes(62)
B64 = base64.b64encode(PNG).decode()
KNOWN = f"{len(PNG)} bytes, sha256 {hashlib.sha256(PNG).hexdigest()[:16]}"
URI = f"data:image/png;base64,{B64}"
MEDIA: list[tuple[Any, str]] = [
    ({"type": "image_url", "image_url": {"url": URI}}, f"[image: image/png, {KNOWN}]"),
    ({"type": "image_url", "image_url": URI}, f"[image: image/png, {KNOWN}]"),
    ({"type": "input_image", "image_url": URI}, f"[image: image/png, {KNOWN}]"),
    ({"type": "image_url", "image_url": {"url": "https://x.test/y.png?key=1"}}, "[image: https://x.test/y.png]"),
    ({"type": "input_audio", "input_audio": {"data": B64, "format": "wav"}}, f"[audio: wav, {KNOWN}]"),
    ({"type": "file", "file": {"file_data": f"data:application/pdf;base64,{B64}"}},
     f"[file: application/pdf, {KNOWN}]"),
    ({"type": "file", "file": {"file_id": "file-1"}}, "[file: file-1]"),
    ({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": B64}},
     f"[image: image/png, {KNOWN}]"),
    ({"type": "document", "source": {"type": "url", "url": "https://x.test/a.pdf"}}, "[document: https://x.test/a.pdf]"),
    ({"inline_data": {"mime_type": "image/png", "data": PNG}}, f"[image: image/png, {KNOWN}]"),
    ({"inlineData": {"mimeType": "application/pdf", "data": B64}}, f"[file: application/pdf, {KNOWN}]"),
    ({"type": "image", "source_type": "base64", "mime_type": "image/png", "data": B64}, f"[image: image/png, {KNOWN}]"),
    ({"type": "image", "base64": B64, "mime_type": "image/png"}, f"[image: image/png, {KNOWN}]"),
    ({"type": "media", "mime_type": "audio/ogg", "data": B64}, f"[audio: audio/ogg, {KNOWN}]"),
    (SimpleNamespace(inline_data=SimpleNamespace(mime_type="image/png", data=PNG)), f"[image: image/png, {KNOWN}]"),
    (PNG, f"[data: {KNOWN}]"),
    (f"an image ![x]({URI}) in text", f"an image ![x]([image/png: {KNOWN}]) in text"),
]  # fmt: skip


@pytest.mark.parametrize(("part", "named"), MEDIA)
def test_ser_4_media_are_named_and_the_text_is_kept(sink: ListSink, part: Any, named: str) -> None:
    """In every spelling: type, size and hash instead of the bytes; in messages, tool data and results."""
    capture(lambda message: "ok")({"role": "user", "content": [{"type": "text", "text": "look"}, part]})
    assert sink.said[0][0] == ("user", f"look\n{named}")
    with turn("s") as made:
        made.tool("draw", {"made": [URI]}, {"image": URI})
        made.assistant({"image": f"{URI}"})
    assert B64 not in repr(sink.turns)
    assert f"[image/png: {KNOWN}]" in sink.said[1][0][1]


def test_ser_5_a_text_beyond_the_limit_is_cut_with_size_and_hash(sink: ListSink) -> None:
    """The other fields are whole; of 20 million characters only the size is told."""
    text = "ä" * 1_200_000
    capture(lambda question: text)("q")
    capture(lambda question: "x" * 20_000_000)("q")
    (question, answer), (_, huge) = sink.said
    assert question == ("user", "q")
    mark = f"… [cut: 1200000 characters, sha256 {hashlib.sha256(text.encode()).hexdigest()[:16]}]"
    assert (len(answer[1]), answer[1].endswith(mark)) == (1_000_000, True)
    assert huge[1].endswith("x… [cut: 20000000 characters]")


def test_ser_6_messages_without_words_survive(sink: ListSink) -> None:
    """Tool calls alone, empty contents, reasoning beside text, and refusals; dictionaries, objects and LangChain's."""
    calling = {"role": "assistant", "content": None,
               "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": "{}"}}]}  # fmt: skip
    thinking = [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "yes"}]
    for answer in (
        calling,
        {"role": "assistant", "content": ""},
        {"role": "assistant", "content": thinking},
        {"role": "assistant", "content": None, "refusal": "I will not."},
        SimpleNamespace(role="assistant", content=[SimpleNamespace(type="refusal", refusal="I will not.", text=None)]),
        AIMessage(content="", additional_kwargs={"refusal": "I will not."}),
    ):
        capture(lambda question, answer=answer: answer)("q")
    assert all(said[0] == ("user", "q") for said in sink.said)
    assert [said[1:] for said in sink.said] == [
        [("assistant", "")], [], [("assistant", "yes")], *[[("assistant", "I will not.")]] * 3,
    ]  # fmt: skip
    assert sink.turns[0].interactions[1].tools_used[0]["tool_name"] == "f"
    model = ScriptedModel(answers=[AIMessage(content=thinking)])  # type: ignore[arg-type]
    model.invoke([HumanMessage("q")], {"callbacks": [ReflexioCallbackHandler()]})
    assert sink.said[-1] == [("user", "q"), ("assistant", "yes")]
