"""CTX: scopes and turns in tasks, threads and contexts."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import logging
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any
from uuid import uuid4

import pytest

from reflexio_integrations.langchain import ReflexioCallbackHandler
from reflexio_middleware import bind, capture, current_session, session
from tests.conftest import ListSink

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="nothing")


def user() -> str | None:
    scope = current_session()
    return scope.user_id if scope else None


@capture
async def stream(text: str) -> AsyncIterator[str]:
    with session(source="inside"):
        yield "a"
        await asyncio.sleep(0)
        yield "b"


async def _break() -> None:
    async for _ in stream("q"):
        break


async def _aclose_in_another_task() -> None:
    items = stream("q")
    await asyncio.create_task(_next(items))
    await asyncio.create_task(items.aclose())  # type: ignore[attr-defined]


async def _cancel() -> None:
    items = stream("q")

    async def read() -> None:
        async for _ in items:
            await asyncio.Event().wait()

    task = asyncio.create_task(read())
    await asyncio.sleep(0)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def _collect() -> None:
    items = stream("q")
    await asyncio.create_task(_next(items))
    del items
    gc.collect()


async def _next(items: AsyncIterator[str]) -> str:
    return await anext(items)


@pytest.mark.parametrize("leave", [_break, _aclose_in_another_task, _cancel, _collect])
def test_ctx_1_no_complaint_about_another_context(
    sink: ListSink, caplog: pytest.LogCaptureFixture, leave: Callable[[], Coroutine[Any, Any, None]]
) -> None:
    """Left by break, closed in another task, cancelled, collected half-read: no error, no line in any log."""
    complaints: list[dict[str, Any]] = []

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        with session("s", user_id="ann"):
            await leave()
        gc.collect()

    with caplog.at_level(logging.DEBUG):
        asyncio.run(main())
    assert [record for record in caplog.records if record.levelno > logging.DEBUG] == complaints == []
    assert sink.only.status == "partial"


async def test_ctx_2_a_captured_call_leaves_the_callers_context_as_it_was(sink: ListSink) -> None:
    """Every context variable has the value that it had before, after each kind of call and each kind of end."""

    @capture
    def plain(text: str) -> str:
        if text == "fail":
            raise ValueError(text)
        return text

    @capture
    async def awaited(text: str) -> str:
        await asyncio.sleep(0)
        return plain(text)

    @capture
    async def streamed(text: str) -> AsyncIterator[str]:
        yield await awaited("a")
        yield await awaited("b")

    def held() -> dict[Any, Any]:
        return {name: value for name, value in contextvars.copy_context().items() if value}

    with session("s", user_id="ann"):
        before = held()
        plain("q")
        await awaited("q")
        for call in (plain, awaited):
            with pytest.raises(ValueError, match="fail"):
                await call("fail")  # type: ignore[misc]
        assert [item async for item in streamed("q")] == ["a", "b"]
        async for _ in streamed("q"):
            break
        assert held() == before
    assert len(sink.turns) >= 5


async def test_ctx_3_tasks_executors_and_streamed_responses_see_the_session(sink: ListSink) -> None:
    """create_task, gather, TaskGroup, to_thread, run_in_executor with a copied context, and a response that is
    streamed by a task of the server while the session is open."""
    loop = asyncio.get_running_loop()

    async def seen() -> str | None:
        await asyncio.sleep(0)
        return user()

    sent: list[str] = []

    async def respond() -> None:
        sent.extend([chunk async for chunk in stream("q")])

    async with session("s", user_id="ann"):
        context = contextvars.copy_context()
        background = asyncio.create_task(seen())
        assert await asyncio.gather(seen(), asyncio.create_task(seen())) == ["ann", "ann"]
        assert await asyncio.to_thread(user) == "ann"
        assert await loop.run_in_executor(None, context.run, user) == "ann"
        async with asyncio.TaskGroup() as group:
            task = group.create_task(seen())
            group.create_task(respond())
        assert task.result() == "ann"
    assert await background == "ann"
    assert (sent, sink.only.user_id) == (["a", "b"], "ann")


def test_ctx_4_a_bare_thread_records_its_turn_under_nobody(sink: ListSink) -> None:
    """In a pool or a thread a turn is kept without a user, never under another's; with bind() it is the user's."""
    agent = capture(lambda text: text)
    with ThreadPoolExecutor(1) as pool:
        with session("ann's", user_id="ann"):
            pool.submit(bind(agent), "bound").result()
            pool.submit(agent, "bare").result()
            thread = threading.Thread(target=agent, args=("thread",))
            thread.start()
            thread.join()
        with session("bob's", user_id="bob"):
            pool.submit(agent, "later").result()
    whose = {turn.interactions[0].content: turn.user_id for turn in sink.turns}
    assert whose == {"bound": "ann", "bare": "", "thread": "", "later": ""}
    assert len({turn.session_id for turn in sink.turns}) == 4


def test_ctx_5_a_generator_and_its_consumer_share_context_variables(sink: ListSink) -> None:
    """As without the decorator: each sees what the other sets between two steps."""

    @capture
    def agent(text: str) -> Iterator[str]:
        variable.set("body")
        yield "one"
        yield variable.get()

    def consume() -> None:
        items = agent("q")
        next(items)
        assert variable.get() == "body"
        variable.set("consumer")
        assert next(items) == "consumer"

    contextvars.copy_context().run(consume)


async def test_ctx_6_a_stream_read_in_many_tasks_is_one_record(sink: ListSink) -> None:
    """One step per task: one record, with all chunks."""
    with session("s", user_id="ann"):
        items = stream("q")
        read = [await asyncio.create_task(_next(items)) for _ in range(2)]
        with pytest.raises(StopAsyncIteration):
            await asyncio.create_task(_next(items))
    assert read == ["a", "b"]
    assert sink.said == [[("user", "q"), ("assistant", "ab")]]


def test_ctx_7_runs_find_their_parent_by_its_id(sink: ListSink) -> None:
    """Start and end of runs are told from different threads and contexts: they are one turn."""
    handler = ReflexioCallbackHandler(user_id="ann")
    root, child = uuid4(), uuid4()

    def elsewhere(call: Callable[..., None], *args: Any, **kwargs: Any) -> None:
        thread = threading.Thread(target=contextvars.Context().run, args=(lambda: call(*args, **kwargs),))
        thread.start()
        thread.join()

    elsewhere(handler.on_chain_start, {}, "question", run_id=root)
    elsewhere(handler.on_tool_start, {"name": "look"}, "x", run_id=child, parent_run_id=root, inputs={"at": "x"})
    elsewhere(handler.on_tool_end, "seen", run_id=child, parent_run_id=root)
    elsewhere(handler.on_chain_end, "answer", run_id=root)
    assert sink.said == [[("user", "question"), ("assistant", "answer")]]
    assert [tool["tool_name"] for tool in sink.only.interactions[1].tools_used] == ["look"]


async def test_ctx_9_a_session_left_elsewhere_does_not_leak(sink: ListSink, caplog: pytest.LogCaptureFixture) -> None:
    """Left in another task, or in another thread: silent, and the next request there has no session."""

    async def leave(scope: session) -> str | None:
        scope.__exit__(None, None, None)
        return user()

    def leave_in_thread(scope: session) -> str | None:
        scope.__exit__(None, None, None)
        return user()

    for number in range(2):
        scope = session("s", user_id="ann")
        scope.__enter__()
        if number:
            with ThreadPoolExecutor(1) as pool:
                assert pool.submit(leave_in_thread, scope).result() is None
                assert pool.submit(user).result() is None
        else:
            assert await asyncio.create_task(leave(scope)) is None
        assert user() is None
    assert caplog.records == []


def test_ctx_10_the_session_of_a_turn_is_fixed_when_it_begins(sink: ListSink) -> None:
    """A session that is opened in the middle of a turn is the next turn's."""

    @capture
    def agent(text: str) -> str:
        inner.__enter__()
        return text

    inner = session("second", user_id="bob")
    with session("first", user_id="ann"):
        agent("one")
        capture(lambda text: text)("two")
        inner.__exit__(None, None, None)
    assert [(turn.session_id, turn.user_id) for turn in sink.turns] == [("first", "ann"), ("second", "bob")]
