"""What is measured, run in a process per variant: reads one JSON command a line, answers each with one JSON line.

    python capture_cases.py {none | ours | "ours, off" | langfuse | langsmith}

A command is ``{"case": name, "calls": number}``. The answer holds the microseconds of each call (``wall``), those of
the calling thread's processor (``cpu``, per call) and of the whole process until its backlog was gone (``process``, per
call). Only the standard library, langchain-core and the variant's own package are needed.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.language_models.fake_chat_models import FakeListChatModel
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.output_parsers import StrOutputParser
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.prompts import ChatPromptTemplate

SMALL = "where is my order?"
LARGE = "the quick brown fox jumps over a lazy dog; " * 233  # 10 kB
EVENTS = 1_000
TICK = 0.005
"""Seconds between two looks at the event loop's clock."""
PIECE = 0.002
"""Seconds between two pieces of a stream."""
APART = 0.01
"""Seconds from one stream to the next: in step they would all end at once, each joining its pieces."""


class Variant:
    """A way of capturing; this one captures nothing."""

    callbacks: list[Any]

    def __init__(self) -> None:
        self.callbacks = []

    def wrap(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        """The function, captured."""
        return fn

    def around(self) -> contextlib.AbstractContextManager[Any]:
        """What an application opens once around a conversation."""
        return contextlib.nullcontext()

    def settle(self) -> None:
        """Let everything that was captured be delivered."""


class Ours(Variant):
    """A client on a SQLite file, as an application makes it: durable spool and learning included."""

    def __init__(self) -> None:
        import reflexio_middleware as reflexio
        from reflexio_integrations.langchain import ReflexioCallbackHandler

        self._reflexio = reflexio
        self._client = reflexio.ReflexioClient()
        reflexio.set_default_client(self._client)
        self.callbacks = [ReflexioCallbackHandler()]
        self._sessions = 0

    def wrap(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        return self._reflexio.capture(fn)

    def around(self) -> contextlib.AbstractContextManager[Any]:
        self._sessions += 1
        return self._reflexio.session(f"session-{self._sessions}", user_id="ann", agent_version="v1", source="bench")

    def settle(self) -> None:
        while not self._client.flush(60).complete:
            continue


class Langfuse(Variant):
    """Its decorator and its LangChain handler."""

    def __init__(self) -> None:
        import langfuse
        from langfuse.langchain import CallbackHandler

        self._client, self._observe = langfuse.Langfuse(), langfuse.observe
        self.callbacks = [CallbackHandler()]

    def wrap(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        return self._observe(fn)

    def settle(self) -> None:
        self._client.flush()


class Langsmith(Variant):
    """Its decorator and its LangChain tracer."""

    def __init__(self) -> None:
        import langsmith
        from langchain_core.tracers import LangChainTracer

        self._client, self._traceable = langsmith.Client(), langsmith.traceable
        self.callbacks = [LangChainTracer(client=self._client)]

    def wrap(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        return self._traceable(client=self._client)(fn)

    def settle(self) -> None:
        self._client.flush()


VARIANTS: dict[str, type[Variant]] = {
    "none": Variant, "ours": Ours, "ours, off": Ours, "langfuse": Langfuse, "langsmith": Langsmith,
}  # fmt: skip


def answer(question: str) -> str:
    """An agent that does nothing."""
    return "on its way"


async def answer_async(question: str) -> str:
    """The same as a coroutine."""
    return "on its way"


def answer_in_pieces(question: str) -> Iterator[str]:
    """The same as a stream of 20 pieces."""
    for _ in range(20):
        yield "on its way "


class Streaming(BaseChatModel):
    """A model that streams as many pieces as there are events in a run."""

    @property
    def _llm_type(self) -> str:
        return "streaming"

    def _generate(self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=AIMessage("on its way"))])

    async def _astream(
        self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        for _ in range(EVENTS):
            chunk = ChatGenerationChunk(message=AIMessageChunk("piece "))
            if run_manager:
                await run_manager.on_llm_new_token("piece ", chunk=chunk)
            yield chunk
            await asyncio.sleep(PIECE)


class Cases:
    """The cases of one variant: each takes a number of calls and gives the microseconds of each."""

    def __init__(self, variant: Variant) -> None:
        self._config: Any = {"callbacks": variant.callbacks}
        self._fn = variant.wrap(answer)
        self._async = variant.wrap(answer_async)
        self._stream = variant.wrap(answer_in_pieces)
        self._model = FakeListChatModel(responses=["on its way"])
        self._chain = ChatPromptTemplate.from_messages([("human", "{q}")]) | self._model | StrOutputParser()
        self._streaming = Streaming()

    def small(self, calls: int) -> list[float]:
        return _timed(lambda: self._fn(SMALL), calls)

    def large(self, calls: int) -> list[float]:
        return _timed(lambda: self._fn(LARGE), calls)

    def paced(self, calls: int) -> list[float]:
        return _timed(lambda: self._fn(SMALL), calls, pause=0.002)

    def stream(self, calls: int) -> list[float]:
        return _timed(lambda: [*self._stream(SMALL)], calls)

    def coroutine(self, calls: int) -> list[float]:
        return asyncio.run(_timed_async(lambda: self._async(SMALL), calls))

    def invoke(self, calls: int) -> list[float]:
        return _timed(lambda: self._model.invoke(SMALL, self._config), calls)

    def ainvoke(self, calls: int) -> list[float]:
        return asyncio.run(_timed_async(lambda: self._model.ainvoke(SMALL, self._config), calls))

    def chain(self, calls: int) -> list[float]:
        return _timed(lambda: self._chain.invoke({"q": SMALL}, self._config), calls)

    def lag(self, calls: int) -> list[float]:
        """How late a ticker on the event loop was, while many streams ran on it."""
        return asyncio.run(self._lag(calls))

    async def _lag(self, runs: int) -> list[float]:
        late: list[float] = []
        gc.collect()
        gc.disable()  # its full runs over LangChain's chunks stop the loop for 200 ms, captured or not
        ticking = asyncio.create_task(_tick(late))
        await asyncio.gather(*(self._read(number * APART) for number in range(runs)))
        ticking.cancel()
        gc.enable()
        return late

    async def _read(self, start_after: float) -> None:
        await asyncio.sleep(start_after)
        async for _ in self._streaming.astream(SMALL, self._config):
            pass


async def _tick(late: list[float]) -> None:
    while True:
        due = time.perf_counter() + TICK
        await asyncio.sleep(TICK)
        late.append((time.perf_counter() - due) * 1e6)


def _timed(call: Callable[[], Any], calls: int, pause: float = 0.0) -> list[float]:
    took = []
    for _ in range(calls):
        began = time.perf_counter_ns()
        call()
        took.append((time.perf_counter_ns() - began) / 1000)
        if pause:
            time.sleep(pause)
    return took


async def _timed_async(call: Callable[[], Awaitable[Any]], calls: int) -> list[float]:
    took = []
    for _ in range(calls):
        began = time.perf_counter_ns()
        await call()
        took.append((time.perf_counter_ns() - began) / 1000)
    return took


def main() -> None:
    """Serve commands until the input ends."""
    replies, sys.stdout = sys.stdout, sys.stderr
    variant = VARIANTS[sys.argv[1]]()
    cases = Cases(variant)
    for line in sys.stdin:
        command = json.loads(line)
        with variant.around():
            process, thread = time.process_time_ns(), time.thread_time_ns()
            wall = getattr(cases, command["case"])(command["calls"])
            thread = time.thread_time_ns() - thread
        variant.settle()
        process = time.process_time_ns() - process
        per_call = 1000 * command["calls"]
        print(json.dumps({"wall": wall, "cpu": thread / per_call, "process": process / per_call}), file=replies)
        replies.flush()


if __name__ == "__main__":
    main()
