"""ISO: an agent behaves as without capture."""

from __future__ import annotations

import asyncio
import functools
import importlib
import inspect
import logging
import traceback
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.runnables import RunnableLambda
from langchain_core.tracers.base import BaseTracer

from reflexio_integrations.langchain import ReflexioCallbackHandler
from reflexio_middleware import capture, current_turn, session
from reflexio_middleware.capture.arguments import Answer, InputReader
from reflexio_middleware.capture.turn import Turn
from reflexio_middleware.guard import counters, raise_internal_errors
from tests.checklist.scripts import run
from tests.conftest import ListSink
from tests.langchain.scripted import StreamingModel

ERRORS = [
    ValueError("x"), KeyboardInterrupt(), SystemExit(3), asyncio.CancelledError(), ExceptionGroup("g", [ValueError()]),
    BaseExceptionGroup("g", [KeyboardInterrupt()]), StopIteration(1), GeneratorExit(),
]  # fmt: skip
IDS = [type(error).__name__ for error in ERRORS]


@pytest.mark.parametrize("error", ERRORS, ids=IDS)
def test_iso_1_the_users_exception_is_the_users(sink: ListSink, error: BaseException) -> None:
    """The same object, with its own traceback, cause and context."""
    error = type(error)(*error.args)

    @capture
    def agent(text: str) -> str:
        raise error

    @capture
    async def awaited(text: str) -> str:
        raise error

    with pytest.raises(type(error)) as caught:
        agent("q")
    assert caught.value is error
    assert (error.__cause__, error.__context__, error.__suppress_context__) == (None, None, False)
    assert [frame.name for frame in traceback.extract_tb(error.__traceback__)][-1] == "agent"
    if not isinstance(error, StopIteration):
        with pytest.raises(type(error)) as caught:
            awaited("q").send(None)  # type: ignore[attr-defined]
        assert caught.value is error
    assert len(sink.turns) in (1, 2)


@pytest.mark.parametrize("error", ERRORS, ids=IDS)
def test_iso_2_after_an_exception_the_context_is_clean(sink: ListSink, error: BaseException) -> None:
    """The next call is a turn of its own."""

    @capture
    def agent(text: str) -> str:
        if text == "fail":
            raise error
        return text

    with session("s", user_id="ann"):
        with pytest.raises(type(error)):
            agent("fail")
        assert current_turn() is None
        agent("go on")
    assert [said[0][1] for said in sink.said] == ["fail", "go on"]
    assert sink.turns[1].status == "completed"


async def test_iso_3_a_cancelled_run_is_cancelled(sink: ListSink) -> None:
    """Neither completed nor an error: coroutines, streams in a step, and LangChain's runs."""
    waiting = asyncio.Event()

    async def forever() -> None:
        waiting.set()
        await asyncio.Event().wait()

    @capture
    async def agent(text: str) -> None:
        await forever()

    @capture
    async def stream(text: str) -> AsyncIterator[str]:
        yield "a"
        await forever()

    async def read() -> None:
        assert [item async for item in stream("q")]

    async def wait(text: str) -> None:
        await forever()

    config: Any = {"callbacks": [ReflexioCallbackHandler()]}
    chain = RunnableLambda(wait)  # type: ignore[arg-type, var-annotated]
    for run_it in (agent("q"), read(), chain.ainvoke("q", config)):
        waiting.clear()
        task = asyncio.ensure_future(run_it)
        await waiting.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert [made.status for made in sink.turns] == ["cancelled"] * 3


decorator = importlib.import_module("reflexio_middleware.capture.decorator")  # `capture` is a function, too
STEPS: list[tuple[Any, str]] = [
    (decorator, "Turn"), (InputReader, "read"), (Turn, "add_read"), (Answer, "add"), (Answer, "joined"),
    (Answer, "chosen"), (decorator, "read_answer"), (decorator, "watched"), (Turn, "_record"), (ListSink, "put"),
]  # fmt: skip


@pytest.mark.parametrize(("place", "step"), STEPS, ids=[step for _, step in STEPS])
async def test_iso_4_a_step_of_ours_that_fails_changes_nothing(
    sink: ListSink, monkeypatch: pytest.MonkeyPatch, place: Any, step: str
) -> None:
    """Each internal step is made to raise: results and exceptions stay, and it is counted."""

    def broken(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("ours")

    @capture
    def agent(text: str) -> str:
        if text == "fail":
            raise ValueError("the user's")
        return text

    @capture
    async def awaited(text: str) -> str:
        return text

    @capture
    def stream(text: str) -> Iterator[str]:
        yield text

    @capture
    async def astream(text: str) -> AsyncIterator[str]:
        yield text

    monkeypatch.setattr(place, step, broken)
    before = counters().get("internal_errors", 0)
    with raise_internal_errors(False):
        assert agent("a") == "a"
        with pytest.raises(ValueError, match="the user's"):
            agent("fail")
        assert await awaited("b") == "b"
        assert list(stream("c")) == ["c"]
        assert [item async for item in astream("d")] == ["d"]
        assert current_turn() is None
    assert counters()["internal_errors"] > before


class Callable_:  # noqa: N801
    """An agent as an object that is called."""

    async def __call__(self, text: str) -> str:
        return text


class Agent:
    """An agent with methods of every kind."""

    @capture
    def method(self, text: str) -> tuple[Any, str]:
        """Answer."""
        return self, text

    @capture
    @classmethod
    def of_class(cls, text: str) -> tuple[Any, str]:
        return cls, text

    @staticmethod
    @capture
    def static(text: str) -> str:
        return text


async def test_iso_5_the_callable_stays_what_it_is(sink: ListSink) -> None:
    """Same result object, name, signature, annotations, documentation and kind; methods, partials, objects."""

    def bare(text: str, *rest: int, key: dict[str, int] | None = None, **more: Any) -> object:
        """The documentation."""
        return result

    result = object()
    captured = capture(bare)
    assert captured("a") is result
    for name in ("__name__", "__qualname__", "__doc__", "__module__", "__annotations__"):
        assert getattr(captured, name) == getattr(bare, name)
    assert inspect.signature(captured) == inspect.signature(bare)
    agent = Agent()
    assert agent.method("a") == (agent, "a")
    assert Agent.of_class("b") == agent.of_class("b") == (Agent, "b")
    assert Agent.static("c") == agent.static("c") == "c"
    assert capture(functools.partial(bare, "d"))(key={}) is result
    called = capture(Callable_())
    assert inspect.iscoroutinefunction(called)
    assert await called("e") == "e"
    words = [[text for role, text in said if role == "user"] for said in sink.said]
    assert words == [["a"], ["a"], ["b"], ["b"], ["c"], ["c"], [], ["e"]]


def test_iso_6_every_keyword_reaches_the_function(sink: ListSink) -> None:
    """Also those that are names of ours."""

    @capture(session_id="ours")
    def agent(text: str, **given: Any) -> dict[str, Any]:
        return given

    given = dict.fromkeys(
        ("config", "name", "session_id", "metadata", "parent", "input", "output", "client", "fn", "call", "args",
         "kwargs", "self", "user_id", "source", "begin"),
        1,
    )  # fmt: skip
    assert agent("q", **given) == given
    assert sink.only.session_id == "ours"


class Recorder(BaseTracer):
    """Another tracer: names, inputs, outputs and parents of all runs."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Any] = []

    def _persist_run(self, run: Any) -> None:
        def told(run: Any) -> Any:
            return (run.name, run.run_type, run.inputs, str(run.outputs)[:200], run.error, [*map(told, run.child_runs)])

        self.seen.append(told(run))


async def test_iso_7_another_tracer_records_what_it_would_without_us(sink: ListSink) -> None:
    """A LangChain tracer and OpenTelemetry beside us: their records, and the streamed events, are the same."""
    sdk = pytest.importorskip("opentelemetry.sdk.trace")
    export = pytest.importorskip("opentelemetry.sdk.trace.export")
    memory = pytest.importorskip("opentelemetry.sdk.trace.export.in_memory_span_exporter")
    exporter, provider = memory.InMemorySpanExporter(), sdk.TracerProvider()
    provider.add_span_processor(export.SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer("of the host")

    async def recorded(*more: BaseCallbackHandler) -> tuple[Any, ...]:
        exporter.clear()
        other = Recorder()
        chain = RunnableLambda(str) | StreamingModel(answers=["one two"])

        async def agent(text: str) -> list[str]:
            with tracer.start_as_current_span("outer"):
                events = [
                    event["event"]
                    async for event in chain.astream_events(text, {"callbacks": [other, *more]}, version="v2")
                ]
                with tracer.start_as_current_span("inner"):
                    return events

        events = await (capture(agent) if more else agent)("hello")
        spans = [(span.name, span.parent is not None) for span in exporter.get_finished_spans()]
        return [_without_ids(run) for run in other.seen], events, spans

    assert await recorded(ReflexioCallbackHandler()) == await recorded()
    assert len(sink.turns) == 1


def _without_ids(run: tuple[Any, ...]) -> tuple[Any, ...]:
    name, kind, inputs, _, error, children = run
    return name, kind, sorted(inputs), error, [_without_ids(child) for child in children]


def test_iso_8_no_callback_falls_through_to_another() -> None:
    """The handler implements every method that LangChain calls, each with the parameters of the original."""
    handled = [base for base in ReflexioCallbackHandler.__mro__ if base.__module__.startswith("reflexio_")]
    names = {name for name in dir(BaseCallbackHandler) if name.startswith("on_")}
    assert {"on_chat_model_start", "on_retriever_error", "on_custom_event"} <= names
    missing = {name for name in names if not any(name in vars(base) for base in handled)}
    assert missing == set()


def test_iso_9_switched_off_means_nothing_happens(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """No call, import, thread or file: of a decorated function, a stream, and a session around them."""
    ended = run(
        """
        before = set(sys.modules)

        @reflexio.capture
        def stream(text):
            yield text

        talk("hello")
        with reflexio.session("s", user_id="ann"):
            assert list(stream("q")) == ["q"]
        print(threading.active_count(), sorted(set(sys.modules) - before))
        """,
        tmp_path,
        capture="off",
    )
    assert (ended.code, ended.out, ended.err) == (0, "1 []\n", "")
    assert list(tmp_path.iterdir()) == []
    assert caplog.records == []
    assert logging.getLogger("reflexio_middleware").handlers == []
