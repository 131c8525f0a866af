"""MEM: what stays in memory when turns, handlers and streams are over."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import gc
import threading
import tracemalloc
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any
from uuid import uuid4

import pytest
from langchain_core.runnables import RunnableLambda
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import interrupt

from reflexio_integrations.langchain import ReflexioCallbackHandler
from reflexio_integrations.langchain.parked import PARKED
from reflexio_integrations.langchain.runs import RUNS
from reflexio_middleware import capture, session
from tests.conftest import ListSink
from tests.langchain.scripted import ScriptedModel, StreamingModel


@pytest.fixture
def no_gc() -> Iterator[None]:
    """The garbage collector rests: only reference counts free memory."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


class Payload:
    """Something large that a turn was given."""

    text = "hello"


def _state() -> tuple[int, int, int]:
    return len(RUNS), len(RUNS._roots), len(PARKED)


def test_mem_1_ten_thousand_turns_leave_a_handler_as_it_was(sink: ListSink) -> None:
    """One long-lived handler: its tables have the size that they had before."""
    handler = ReflexioCallbackHandler(user_id="ann")
    before = _state(), len(vars(handler))
    for number in range(10_000):
        root, child = uuid4(), uuid4()
        handler.on_chain_start({}, f"question {number}", run_id=root)
        handler.on_chain_start({}, "inner", run_id=child, parent_run_id=root)
        if number % 3:
            handler.on_chain_end("inner", run_id=child)
        handler.on_chain_end("answer", run_id=root) if number % 2 else handler.on_chain_error(ValueError(), run_id=root)
    assert (_state(), len(vars(handler))) == before
    assert len(sink.turns) == 10_000


def test_mem_2_handlers_that_are_dropped_leave_nothing(sink: ListSink, no_gc: None) -> None:
    """1,000 handlers made, used once and dropped: no thread, no client, no handler stays."""
    threads, gone = threading.active_count(), []
    chain = RunnableLambda(lambda text: text)
    for _ in range(1000):
        handler = ReflexioCallbackHandler(user_id="ann")
        root = uuid4()
        handler.on_chain_start({}, "q", run_id=root)
        handler.on_chain_end("a", run_id=root)
        gone.append(weakref.ref(handler))
    chain.invoke("q", {"callbacks": [handler]})
    del handler
    gc.collect()
    assert not [left for left in gone if left() is not None]
    assert threading.active_count() == threads


async def test_mem_3_what_never_ends_leaves_no_state(sink: ListSink) -> None:
    """Cancelled ``ainvoke`` (of a chain, of a bare model), dropped streams, an interrupt that nobody resumes."""
    handler = ReflexioCallbackHandler(user_id="ann")
    config: Any = {"callbacks": [handler], "configurable": {"thread_id": "t"}}
    graph: Any = StateGraph(dict)
    graph.add_node("ask", lambda state: interrupt("sure?"))
    graph.add_edge(START, "ask")
    graph.add_edge("ask", END)
    asking = graph.compile(checkpointer=InMemorySaver())
    before = _state()
    for _ in range(10):
        waiting = ScriptedModel(answers=["never"], wait=True)
        for run in (RunnableLambda(str) | waiting, waiting):
            waiting.waiting.clear()
            task = asyncio.create_task(run.ainvoke("q", config))
            await waiting.waiting.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        stream = StreamingModel(answers=["one two three"]).stream("q", config=config)
        next(iter(stream))
        del stream
        asking.invoke({"messages": [("user", "q")]}, config)
    gc.collect()
    assert _state() == before


async def test_mem_4_a_finished_turn_is_not_held_by_tasks_begun_in_it(sink: ListSink, no_gc: None) -> None:
    """A task and a timer that were made inside still live; what the turn was given does not."""
    left: list[Any] = []

    @capture
    async def agent(text: str, payload: Payload) -> str:
        left.append(asyncio.create_task(asyncio.Event().wait()))
        left.append(asyncio.get_running_loop().call_later(3600, int))
        await asyncio.sleep(0)
        return text

    payload: Payload | None = Payload()
    seen = weakref.ref(payload)  # type: ignore[arg-type]
    with session("s", user_id="ann"):
        await agent("hello", payload)
    payload = None
    assert seen() is None
    assert not left[0].done()
    left[0].cancel()
    left[1].cancel()
    with pytest.raises(asyncio.CancelledError):
        await left[0]


@capture
def _plain(text: str, payload: Payload) -> str:
    if text == "fail":
        raise ValueError(text)
    return text


@capture
def _streaming(text: str, payload: Payload) -> Iterator[str]:
    yield text
    yield text


@capture
def _returning(text: str, payload: Payload) -> Iterator[str]:
    return (item for item in (text, payload.text))


@capture
async def _astreaming(text: str, payload: Payload) -> AsyncIterator[str]:
    yield text
    yield text


def _throw(payload: Payload) -> None:
    stream = _streaming("q", payload)
    next(stream)
    with contextlib.suppress(KeyError):
        stream.throw(KeyError("x"))  # type: ignore[attr-defined]


def _close(payload: Payload) -> None:
    stream = _streaming("q", payload)
    next(stream)
    stream.close()  # type: ignore[attr-defined]


def _fail(payload: Payload) -> None:
    with contextlib.suppress(ValueError):
        _plain("fail", payload)


def _aclose(payload: Payload) -> None:
    stream = _astreaming("q", payload)
    for step in (stream.__anext__(), stream.aclose()):  # type: ignore[attr-defined]
        with contextlib.suppress(StopIteration):
            step.send(None)


@pytest.mark.parametrize(
    "use",
    [
        lambda payload: _plain("q", payload),
        _fail,
        lambda payload: list(_streaming("q", payload)),
        _throw,
        _close,
        lambda payload: list(_returning("q", payload)),
        lambda payload: next(iter(_returning("q", payload))),
        _aclose,
    ],
    ids=["call", "fail", "stream", "throw", "close", "returned", "dropped", "aclose"],
)
def test_mem_5_a_turn_makes_no_reference_cycles(sink: ListSink, no_gc: None, use: Callable[[Payload], object]) -> None:
    """What was given is freed by its reference count alone, however the call ended."""
    payload = Payload()
    seen = weakref.ref(payload)
    use(payload)
    del payload
    assert seen() is None
    assert len(sink.turns) == 1


def test_mem_6_decorating_in_a_loop_pins_nothing(no_gc: None) -> None:
    """10,000 closures, decorated and dropped: no cache holds one."""
    seen = []
    for number in range(10_000):
        payload = Payload()

        def closure(text: str, held: Payload = payload, number: int = number) -> int:
            return number

        capture(closure)
        seen.append(weakref.ref(payload))
    del payload, closure
    assert not [left for left in seen if left() is not None]


def _peak(chunk: Callable[[int], Any], amount: int) -> int:
    """The most bytes in use while a stream of so many chunks is read."""

    @capture
    def agent(text: str) -> Iterator[Any]:
        for number in range(amount):
            yield chunk(number)

    stream = agent("q")
    next(stream)
    tracemalloc.start()
    try:
        collections.deque(stream, maxlen=0)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("chunk", "begins", "ends"),
    [
        (lambda number: f"{number % 10} little words ", "0 little words 1 little", "[cut: 2250000 characters]"),
        (lambda number: {"step": number}, '{"step":149999}', '{"step":149999}'),
    ],
    ids=["text", "data"],
)
def test_mem_7_a_long_stream_keeps_bounded_memory(sink: ListSink, chunk: Any, begins: str, ends: str) -> None:
    """Twice as many chunks need no more memory: texts are cut at a million characters, of data the last is kept."""
    assert _peak(chunk, 150_000) < _peak(chunk, 75_000) * 1.1 + 100_000
    answer = sink.turns[0].interactions[1].content
    assert answer.startswith(begins)
    assert answer.endswith(ends)
    assert len(answer) <= 1_000_000
