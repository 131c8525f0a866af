"""CONC: many turns at once, on many loops and threads."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import reflexio_middleware as reflexio
from reflexio_integrations.langchain import ReflexioCallbackHandler
from reflexio_middleware import capture, current_session, session
from tests.conftest import ListSink
from tests.langchain.scripted import ScriptedModel


def test_conc_1_interleaved_turns_do_not_mix(sink: ListSink) -> None:
    """200 interleaved tasks and 32 threads over one handler and one decorator: each turn is its own."""
    handler = ReflexioCallbackHandler()

    async def answer(text: str) -> str:
        await asyncio.sleep(0)
        config: Any = {"callbacks": [handler]}
        return str((await ScriptedModel(answers=[f"re {text}"]).ainvoke(text, config)).text)

    captured = capture(answer)

    async def one(number: int) -> None:
        with session(f"s{number}", user_id=f"u{number}"):
            await (captured if number % 2 else answer)(f"q{number}")

    async def many() -> None:
        await asyncio.gather(*(one(number) for number in range(200)))

    def in_thread(number: int) -> None:
        barrier.wait(30)
        asyncio.run(one(number))

    barrier = threading.Barrier(32)
    asyncio.run(many())
    with ThreadPoolExecutor(32) as pool:
        list(pool.map(in_thread, range(200, 232)))
    assert len(sink.turns) == 232
    for made, said in zip(sink.turns, sink.said, strict=True):
        number = made.session_id[1:]
        assert made.user_id == f"u{number}"
        assert said == [("user", f"q{number}"), ("assistant", f"re q{number}")]


async def test_conc_2_what_one_request_says_reaches_no_other(sink: ListSink) -> None:
    """Client, metadata, version and user of interleaved requests: none is seen in another."""
    sinks = [ListSink(), ListSink()]

    @capture
    async def agent(text: str) -> str:
        await asyncio.sleep(0)
        scope = current_session()
        assert scope is not None
        return f"{scope.user_id} {scope.agent_version} {dict(scope.metadata)}"

    class Client:
        def __init__(self, sink: ListSink) -> None:
            self.sink = sink

    async def request(number: int) -> None:
        where = {"client": Client(sinks[number % 2])} if number % 3 else {}
        more = {"metadata": {f"key{number}": number}, "agent_version": f"v{number}"} if number % 2 else {}
        async with session(f"s{number}", user_id=f"u{number}", **where, **more):
            await asyncio.sleep(0)
            await agent(f"q{number}")

    await asyncio.gather(*(request(number) for number in range(60)))
    assert (len(sinks[0].turns), len(sinks[1].turns), len(sink.turns)) == (20, 20, 20)
    for made in (*sinks[0].turns, *sinks[1].turns, *sink.turns):
        number = int(made.session_id[1:])
        expected = ({f"key{number}": number}, f"v{number}") if number % 2 else ({}, "")
        assert (made.metadata, made.agent_version) == expected
        assert made.interactions[1].content == f"u{number} {expected[1]} {expected[0]}"


class _BareLoop(asyncio.SelectorEventLoop):
    """A loop without threads, as Temporal's is."""

    def run_in_executor(self, *args: Any) -> Any:
        raise NotImplementedError


def test_conc_3_any_event_loop_will_do(sink: ListSink) -> None:
    """Two loops in two threads, one closed and one made anew, and a loop without ``run_in_executor``."""
    handler = ReflexioCallbackHandler()

    @capture
    async def agent(text: str) -> str:
        await asyncio.sleep(0)
        return text

    async def both(name: str) -> None:
        with session(name, user_id="ann"):
            await agent(f"{name} captured")
            await ScriptedModel(answers=["yes"]).ainvoke(f"{name} called back", {"callbacks": [handler]})

    threads = [threading.Thread(target=lambda name=name: asyncio.run(both(name))) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    asyncio.run(both("c"))
    with asyncio.Runner(loop_factory=_BareLoop) as runner:
        runner.run(both("d"))
    words = {made.interactions[0].content for made in sink.turns}
    assert words == {f"{name} {how}" for name in "abcd" for how in ("captured", "called back")}


async def test_conc_4_synchronous_calls_inside_a_running_loop_do_not_block(tmp_path: Path) -> None:
    """The handler has no coroutine to wait for: a synchronous run on the loop's thread goes straight through."""
    methods = [getattr(ReflexioCallbackHandler, name) for name in dir(ReflexioCallbackHandler) if name[:3] == "on_"]
    assert ReflexioCallbackHandler.run_inline
    assert not [method for method in methods if asyncio.iscoroutinefunction(method)]
    with reflexio.ReflexioClient(f"sqlite:///{tmp_path / 'memory.db'}", learning="off") as client:
        handler = ReflexioCallbackHandler(client=client, user_id="ann")
        ScriptedModel(answers=["yes"]).invoke("hello", {"callbacks": [handler]})
        assert client.flush().complete
        assert len(client.get_requests(user_id="ann").sessions) == 1
