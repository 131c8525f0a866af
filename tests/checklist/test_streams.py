"""GEN: generators and streams, yielded and returned."""

from __future__ import annotations

import asyncio
import gc
import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing, closing, suppress
from typing import Any

import pytest

from reflexio_middleware import capture, current_turn
from reflexio_middleware.delivery.writer import Delivery
from reflexio_middleware.guard import counters, raise_internal_errors
from tests.conftest import ListSink
from tests.test_delivery import Shelf, a_turn


@capture
def stream(text: str) -> Iterator[str]:
    yield from ("a", "b", "c")


@capture
async def astream(text: str) -> AsyncIterator[str]:
    for item in ("a", "b", "c"):
        yield item
        await asyncio.sleep(0)


def _break() -> None:
    for _ in stream("q"):
        break


def _close() -> None:
    items = stream("q")
    next(items)
    items.close()  # type: ignore[attr-defined]


def _closing() -> None:
    with closing(stream("q")) as items:  # type: ignore[type-var]
        next(items)


def _raise() -> None:
    with suppress(KeyError):
        for _ in stream("q"):
            raise KeyError("of the consumer")


def _collect() -> None:
    circle: list[Any] = [stream("q")]
    next(circle[0])
    circle.append(circle)
    del circle
    gc.collect()


async def _abreak() -> None:
    async for _ in astream("q"):
        break


async def _aclosing() -> None:
    async with aclosing(astream("q")) as items:  # type: ignore[type-var]
        await anext(items)


async def _araise() -> None:
    with suppress(KeyError):
        async for _ in astream("q"):
            raise KeyError("of the consumer")


async def _first(items: AsyncIterator[str]) -> str:
    return await anext(items)  # begun inside of the loop, which is to close it


def _dropped_after_its_loop() -> None:
    loop = asyncio.new_event_loop()
    items = astream("q")
    loop.run_until_complete(_first(items))
    loop.close()
    del items
    gc.collect()


@pytest.mark.parametrize(
    "leave",
    [_break, _close, _closing, _raise, _collect, _abreak, _aclosing, _araise, _dropped_after_its_loop],
)
def test_gen_1_a_stream_left_early_is_one_partial_record(sink: ListSink, leave: Callable[[], Any]) -> None:
    """However it is left: one record, with what was streamed, neither completed nor an error.

    Where nobody could close it (collected, its event loop gone), it is ``abandoned``.
    """
    if inspect.iscoroutinefunction(leave):
        asyncio.run(leave())
    else:
        leave()
    alone = leave in (_collect, _dropped_after_its_loop)
    assert sink.only.status in (("partial", "abandoned") if alone else ("partial",))
    assert sink.said == [[("user", "q"), ("assistant", "a")]]


def test_the_garbage_collector_may_end_a_turn_in_the_middle_of_another(sink: ListSink) -> None:
    """A finaliser waits for no lock that the very thread holds: what it brings is stored with the rest."""
    shelf = Shelf()
    delivery = Delivery(shelf.open, None)  # type: ignore[arg-type]
    delivery.put(a_turn("first"))
    spool: Any = delivery._spool
    inside = spool._gate.run(lambda: delivery.put(a_turn("in the middle")))
    assert inside
    assert delivery.put(a_turn("last"))
    assert delivery.flush(10) == 0
    assert set(shelf.turns) == {"first", "in the middle", "last"}
    delivery.close(10)


def test_gen_2_a_captured_generator_is_the_bare_one(sink: ListSink) -> None:
    """send, throw, close and the return value; the kind of function. (Every sequence of them: ``test_capture.py``.)"""

    def bare(text: str) -> Any:
        try:
            got = yield text
            yield got
        except KeyError:
            yield "caught"
        return "returned"

    captured = capture(bare)
    assert inspect.isgeneratorfunction(captured)

    def drive(items: Any) -> list[Any]:
        told = [next(items), items.send("sent"), items.throw(KeyError("x"))]
        try:
            next(items)
        except StopIteration as stop:
            told.append(stop.value)
        items.close()
        return told

    assert drive(captured("q")) == drive(bare("q")) == ["q", "sent", "caught", "returned"]


def test_gen_3_a_stream_that_is_never_read_is_no_record(sink: ListSink) -> None:
    """Nothing ran."""
    stream("q")
    gc.collect()
    assert sink.turns == []


def test_gen_4_an_error_after_some_chunks_keeps_both(sink: ListSink) -> None:
    """The record has the chunks and the error; the consumer gets the exception itself."""
    error = ValueError("the line broke")

    @capture
    def agent(text: str) -> Iterator[str]:
        yield "a"
        yield "b"
        raise error

    with pytest.raises(ValueError) as caught:
        list(agent("q"))
    assert caught.value is error
    assert (sink.only.status, sink.only.error) == ("error", "ValueError: the line broke")
    assert sink.said == [[("user", "q"), ("assistant", "ab")]]


def test_gen_5_a_reducer_that_fails_loses_nothing(sink: ListSink) -> None:
    """The user's ``output=`` raises: one record, the chunks joined as without it, and a counter."""

    def reduce(items: list[str]) -> str:
        raise RuntimeError("mine")

    @capture(output=reduce)
    def agent(text: str) -> Iterator[str]:
        yield from ("a", "b")

    before = counters().get("internal_errors", 0)
    with raise_internal_errors(False):
        assert list(agent("q")) == ["a", "b"]
    assert sink.said == [[("user", "q"), ("assistant", "ab")]]
    assert counters()["internal_errors"] == before + 1


def test_gen_6_a_record_is_final_after_the_last_chunk(sink: ListSink) -> None:
    """Not when the generator is returned, and not with the first chunk."""
    items = stream("q")
    assert sink.turns == []
    for _ in range(3):
        next(items)
        assert sink.turns == []
    with pytest.raises(StopIteration):
        next(items)
    assert sink.only.interactions[1].content == "abc"
    assert sink.only.created_at_us // 1_000_000 <= sink.only.interactions[1].created_at


def test_gen_7_async_generator_functions_stay_what_they_are() -> None:
    """They are neither coroutine functions nor plain ones."""
    assert inspect.isasyncgenfunction(astream)
    assert not inspect.iscoroutinefunction(astream)
    assert inspect.isasyncgen(astream("q"))


class SdkStream:
    """A stream as the clients of model providers return it."""

    def __init__(self, items: list[str]) -> None:
        self._items = iter(items)
        self.response = "the response"
        self.closed = 0

    def __iter__(self) -> SdkStream:
        return self

    def __next__(self) -> str:
        return next(self._items)

    def __enter__(self) -> SdkStream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.closed += 1


class SdkEvents(SdkStream):
    """One whose ``iter`` is another object, and which reads itself while it is iterated."""

    def __iter__(self) -> Iterator[str]:  # type: ignore[override]
        while True:
            try:
                yield self.__next__()
            except StopIteration:
                return


class AsyncSdkStream:
    """Its async twin."""

    def __init__(self, items: list[str]) -> None:
        self._items = iter(items)

    def __aiter__(self) -> AsyncSdkStream:
        return self

    async def __anext__(self) -> str:
        await asyncio.sleep(0)
        try:
            return next(self._items)
        except StopIteration:
            raise StopAsyncIteration from None


class Response:
    """A response as Starlette streams it."""

    def __init__(self, body: AsyncIterator[Any]) -> None:
        self.body_iterator = body
        self.status_code = 200


@pytest.mark.parametrize("kind", [SdkStream, SdkEvents])
def test_gen_8_a_returned_stream_keeps_what_it_is_and_ends_its_turn_once(sink: ListSink, kind: type[SdkStream]) -> None:
    """The same object, its type, attributes and methods; the record is there when it was read."""
    made = kind(["a", "b"])

    @capture
    def agent(text: str) -> SdkStream:
        return made

    with agent("q") as items:
        assert items is made
        assert isinstance(items, kind)
        assert (type(items).__name__, items.response) == (kind.__name__, "the response")
        assert sink.turns == []
        assert list(items) == ["a", "b"]
    items.close()
    assert made.closed == 2
    assert sink.only.status == "completed"
    assert sink.said == [[("user", "q"), ("assistant", "ab")]]


def test_a_returned_stream_that_is_not_read_to_its_end_says_so(sink: ListSink) -> None:
    """Also one whose iterator is a generator; and one that fails keeps its error."""
    with capture(lambda text: SdkStream(["a", "b"]))("closed") as items:
        next(items)
    for _ in capture(lambda text: SdkEvents(["a", "b"]))("broken off"):
        break
    assert next(capture(lambda text: SdkStream(["a", "b"]))("dropped")) == "a"
    with pytest.raises(ValueError, match="lost"):
        list(capture(lambda text: (1 if item else _lose() for item in (1, 0)))("failing"))
    gc.collect()
    assert [(turn.interactions[0].content, turn.status) for turn in sink.turns] == [
        ("closed", "partial"), ("broken off", "partial"), ("dropped", "abandoned"), ("failing", "error"),
    ]  # fmt: skip


def _lose() -> None:
    raise ValueError("lost")


async def test_returned_generators_coroutines_and_bodies_are_watched(sink: ListSink) -> None:
    """Generators, async generators, coroutines, async streams, and the body of a streamed response (as bytes)."""

    def items() -> Iterator[str]:
        yield "a" if current_turn() else "outside"
        return "returned"

    async def aitems() -> AsyncIterator[str]:
        yield "a" if current_turn() else "outside"

    async def answer() -> str:
        return "a" if current_turn() else "outside"

    async def body() -> AsyncIterator[bytes]:
        for piece in ("ä".encode()[:1], "ä".encode()[1:]):
            yield piece

    made: Any = capture(lambda text: items())("generator")
    assert inspect.isgenerator(made)
    assert (made.__name__, next(made)) == ("items", "a")
    with pytest.raises(StopIteration, match="returned"):
        next(made)
    amade: Any = capture(lambda text: aitems())("async generator")
    assert inspect.isasyncgen(amade)
    assert [item async for item in amade] == ["a"]
    coroutine = capture(lambda text: answer())("coroutine")
    assert inspect.iscoroutine(coroutine)
    assert await coroutine == "a"
    assert [item async for item in capture(lambda text: AsyncSdkStream(["a"]))("async stream")] == ["a"]
    response = Response(body())
    assert capture(lambda text: response)("response") is response
    assert b"".join([piece async for piece in response.body_iterator]) == "ä".encode()
    assert [(turn.interactions[0].content, turn.interactions[1].content) for turn in sink.turns] == [
        ("generator", "a"), ("async generator", "a"), ("coroutine", "a"), ("async stream", "a"), ("response", "ä"),
    ]  # fmt: skip
    assert {turn.status for turn in sink.turns} == {"completed"}


def test_gen_9_iterators_files_and_streams_given_are_not_consumed(sink: ListSink, tmp_path: Any) -> None:
    """Arguments are the agent's to read."""
    (tmp_path / "file").write_text("content")

    @capture
    def agent(question: str, items: Iterator[int], file: Any, made: SdkStream) -> list[Any]:
        return [list(items), file.read(), list(made)]

    with (tmp_path / "file").open() as file:
        given = (iter([1, 2]), file, SdkStream(["a"]))
        assert capture(lambda text, *_: "untouched")("q", *given) == "untouched"
        assert agent("q", *given) == [[1, 2], "content", ["a"]]


def test_gen_10_consumers_of_many_streams_do_not_nest(sink: ListSink) -> None:
    """Between two steps the consumer is in no turn: what it starts there is its own."""
    first, second = stream("first"), stream("second")
    for _ in range(3):
        next(first)
        assert current_turn() is None
        next(second)
        assert capture(lambda text: text)("between") == "between"
    list(first)
    list(second)
    assert [said[0][1] for said in sink.said] == ["between"] * 3 + ["first", "second"]


def test_gen_11_stop_iteration_and_generator_exit_stay_themselves(sink: ListSink) -> None:
    """A StopIteration that a function raises is that; in a generator it is Python's RuntimeError, as ever."""
    stop = StopIteration("mine")

    @capture
    def plain(text: str) -> str:
        raise stop

    @capture
    def generator(text: str) -> Iterator[str]:
        yield "a"
        raise stop

    @capture
    def stubborn(text: str) -> Iterator[str]:
        try:
            yield "a"
        except GeneratorExit:
            yield "b"

    with pytest.raises(StopIteration) as caught:
        plain("q")
    assert caught.value is stop
    with pytest.raises(RuntimeError, match="generator raised StopIteration") as raised:
        list(generator("q"))
    assert raised.value.__cause__ is stop
    items: Any = stubborn("q")
    next(items)
    with pytest.raises(RuntimeError, match="ignored GeneratorExit"):
        items.close()
    assert list(items) == []
