"""PERF: what capture does on the caller's thread, by counting what is called there; times have generous bounds."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from langchain_core.callbacks import BaseCallbackHandler

import reflexio_middleware as reflexio
from reflexio_integrations.langchain import ReflexioCallbackHandler
from reflexio_middleware import capture, session
from reflexio_middleware.delivery.writer import Delivery
from tests.checklist.scripts import never_answering, run
from tests.checklist.test_exit import Stuck
from tests.conftest import ListSink
from tests.langchain.scripted import StreamingModel

SLOW = {"fsync", "fdatasync", "connect", "connect_ex", "send", "sendall", "recv", "getaddrinfo", "sleep", "deepcopy",
        "submit", "run_in_executor", "to_thread", "flush", "fork_exec"}  # fmt: skip


@contextmanager
def calls_here() -> Iterator[Counter[str]]:
    """The names of all functions, C functions included, that this thread calls meanwhile."""
    names: Counter[str] = Counter()

    def note(frame: FrameType, event: str, called: Any) -> None:
        if event in ("call", "c_call"):
            names[frame.f_code.co_name if event == "call" else called.__name__] += 1

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        yield names
    finally:
        sys.setprofile(before)


def test_perf_1_a_turn_waits_for_no_backend_and_no_disk(tmp_path: Path) -> None:
    """No network, no fsync on the caller's thread: with a store that does not answer, a call ends as ever."""
    stuck = Stuck()
    delivery = Delivery(stuck.open, tmp_path / "spool")  # type: ignore[arg-type]
    agent = capture(lambda text: text)
    with session("s", user_id="ann", client=_Client(delivery)):
        agent("first")
        assert stuck.asked.wait(10)
        with calls_here() as names:
            agent("second")
    assert names["write"] == 1  # the spool, once
    assert not SLOW & names.keys()
    assert delivery.pending == 2
    stuck.answer.set()
    assert delivery.close(10) == 0


class _Client:
    """As much of a client as a scope needs."""

    def __init__(self, sink: Any) -> None:
        self.sink = sink


def test_perf_2_the_end_of_a_turn_or_session_flushes_nothing(client: reflexio.ReflexioClient) -> None:
    """Neither calls the store, nor waits for the writer."""
    agent = capture(lambda text: text)

    def talk() -> None:
        with session("s", user_id="ann", client=client):
            agent("hello")

    talk()  # the first makes the spool
    with calls_here() as names:
        for _ in range(10):
            talk()
    assert not {"flush", "add_turns", "execute", "wait", "wait_for", "join"} & names.keys()
    assert names["write"] == 10


async def test_perf_3_an_awaited_flush_does_not_block_the_loop(tmp_path: Path) -> None:
    """A heartbeat goes on while ``flush`` waits for a store that does not answer."""
    with never_answering(tmp_path):
        client = reflexio.AsyncReflexioClient(f"sqlite:///{tmp_path / 'memory.db'}", learning="off")
        with session("s", user_id="ann", client=client):
            capture(lambda text: text)("hello")
        flushing = asyncio.ensure_future(client.flush(30))
        for _ in range(100):
            await asyncio.sleep(0)
        assert not flushing.done()
    assert (await flushing).complete
    await client.close()


async def test_perf_4_no_task_is_left_to_the_loop_alone(client: reflexio.ReflexioClient) -> None:
    """Capture makes no background tasks: there is nothing that the loop could lose."""

    @capture
    async def agent(text: str) -> str:
        await asyncio.sleep(0)
        return text

    with session("s", user_id="ann", client=client):
        await agent("hello")
        assert asyncio.all_tasks() == {asyncio.current_task()}


class _CountingPool(ThreadPoolExecutor):
    """A default executor that counts what it is given."""

    given = 0

    def submit(self, *args: Any, **kwargs: Any) -> Any:
        self.given += 1
        return super().submit(*args, **kwargs)


def test_perf_5_callbacks_do_not_queue_on_the_default_executor(client: reflexio.ReflexioClient) -> None:
    """50 concurrent runs of 100 streamed events each: the handler adds no hop to the pool, however many events."""

    def hops(callbacks: list[BaseCallbackHandler]) -> int:
        async def stream() -> None:
            model = StreamingModel(answers=["word " * 100])
            assert [chunk async for chunk in model.astream("q", config={"callbacks": callbacks})]

        async def fifty() -> int:
            pool = _CountingPool(2)
            asyncio.get_running_loop().set_default_executor(pool)
            await asyncio.gather(*(stream() for _ in range(50)))
            return pool.given

        return asyncio.run(fifty())

    assert hops([ReflexioCallbackHandler(client=client, user_id="ann")]) == hops([])
    assert client.flush().complete
    assert len(client.get_requests(user_id="ann", top_k=100).sessions) == 50


def _best(call: Callable[[], object], times: int) -> float:
    """Seconds of processor time of the fastest of 5 rounds, per call."""
    rounds = []
    for _ in range(5):
        began = time.thread_time()
        for _ in range(times):
            call()
        rounds.append((time.thread_time() - began) / times)
    return min(rounds)


def test_perf_6_switched_off_capture_costs_next_to_nothing(sink: ListSink, monkeypatch: pytest.MonkeyPatch) -> None:
    """Five microseconds at most (1 on a machine of one's own), and no thread."""

    def bare(text: str) -> str:
        return text

    agent = capture(bare)
    monkeypatch.setenv("REFLEXIO_CAPTURE", "off")
    threads = threading.active_count()
    assert _best(lambda: agent("hello"), 2000) - _best(lambda: bare("hello"), 2000) < 5e-6
    with calls_here() as names:
        agent("hello")
    assert not {"read", "put", "snapshot", "activate", "dumps"} & names.keys()
    assert threading.active_count() == threads
    assert sink.turns == []


class _Untouchable:
    """An argument that may not even be looked at."""

    def __getattribute__(self, name: str) -> Any:
        raise AssertionError(f"somebody asked for {name}")


def test_perf_7_a_large_argument_is_not_walked(sink: ListSink) -> None:
    """1 MB: what is no message is left alone; data that is the answer goes through a C encoder, not through Python."""
    rows = [{"id": number, "text": "x" * 90} for number in range(10_000)]

    @capture
    def agent(question: str, rows: list[dict[str, Any]], thing: Any) -> Any:
        return rows

    with calls_here() as names:
        agent("hello", rows, _Untouchable())
    assert sum(names.values()) < 500
    assert len(sink.only.interactions[1].content) > 900_000
    text = "word " * 200_000
    assert _best(lambda: capture(lambda message: "ok")(text), 2) < 0.05  # 2 ms on a machine of one's own


def test_perf_8_importing_opens_nothing_and_is_quick(tmp_path: Path) -> None:
    """No socket, no thread, no file written, no process; half a second at most (0.1 on a machine of one's own)."""
    ended = run(
        """
        print(threading.active_count(), opened, took < 0.5)
        """,
        tmp_path,
        before="""
        import sys, time
        opened = []
        def note(event, args):
            writes = event == "open" and isinstance(args[2], int) and args[2] & 3 and "__pycache__" not in str(args[0])
            if writes or event.startswith(("socket.", "subprocess.", "os.fork", "os.mkdir", "sqlite3.")):
                opened.append((event, str(args)))
        sys.addaudithook(note)
        began = time.process_time()
        import reflexio_middleware
        took = time.process_time() - began
        """,
    )
    assert ended.out == "1 [] True\n", ended.err
    assert list(tmp_path.iterdir()) == []
