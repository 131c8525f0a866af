"""EXIT: what a process does when it ends, and what it leaves to the next."""

from __future__ import annotations

import os
import select
import signal
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

import reflexio_middleware as reflexio
from reflexio_middleware.delivery.orphans import waiting
from reflexio_middleware.delivery.writer import Delivery
from reflexio_middleware.guard import counters
from reflexio_store.records import TurnRecord
from tests.checklist.scripts import make_store, never_answering, refusing, run, said_in, start, wait
from tests.test_delivery import Shelf, a_turn

TEN = [f"turn {number}" for number in range(10)]


class Stuck(Shelf):
    """A store that takes turns and does not answer until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.answer = threading.Event(), threading.Event()

    def add_turns(self, turns: Sequence[TurnRecord], *, learn_after: float | None = 0.0) -> int:
        self.asked.set()
        assert self.answer.wait(60)
        return super().add_turns(turns, learn_after=learn_after)


def test_exit_1_a_dead_backend_does_not_hold_up_the_end_of_a_script(tmp_path: Path) -> None:
    """10 captured calls, a backend that refuses: the script ends within 2 s of its own work, with its exit code."""
    with refusing(tmp_path):
        ended = run(f"talk(*{TEN}); main_is_over(); sys.exit(7)", tmp_path)
    assert ended.code == 7
    assert ended.after_main < 2.5  # 2 s, and what a busy machine takes to tell us


def test_exit_2_a_backend_that_never_answers_does_not_hold_up_the_end_of_a_script(tmp_path: Path) -> None:
    """The same with a backend that accepts and never answers."""
    with never_answering(tmp_path):
        ended = run(f"talk(*{TEN}); main_is_over(); sys.exit(7)", tmp_path)
    assert ended.code == 7
    assert ended.after_main < 2.5


@pytest.mark.parametrize("backend", [refusing, never_answering])
def test_exit_3_the_next_process_delivers_what_a_dead_backend_did_not_take(
    tmp_path: Path, backend: Callable[[Path], AbstractContextManager[None]]
) -> None:
    """The records of EXIT-1 and EXIT-2 are on disk, and the next process delivers them."""
    with backend(tmp_path):
        assert run(f"talk(*{TEN})", tmp_path, exit_timeout=0.1).code == 0
    assert said_in(tmp_path) == TEN


def test_exit_4_sigterm_loses_nothing_that_was_captured(tmp_path: Path) -> None:
    """``kill -TERM`` right after a captured turn: what the spool has acknowledged is delivered later."""
    with never_answering(tmp_path):
        process = start(f"talk(*{TEN}); main_is_over(); threading.Event().wait()", tmp_path)
        assert process.stdout is not None
        assert process.stdout.readline().startswith("OVER")
        process.terminate()
        assert wait(process).code == -signal.SIGTERM
    assert said_in(tmp_path) == TEN


@pytest.mark.parametrize("end", ["os._exit(3)", "os.kill(os.getpid(), 9)"])
def test_exit_5_a_killed_process_loses_at_most_the_turn_in_flight(tmp_path: Path, end: str) -> None:
    """Killed while four threads capture: every acknowledged turn is there once, and the spool is whole."""
    ended = run(
        f"""
        def work(name):
            for number in range(100_000):
                talk(f"{{name}}-{{number}}")
                os.write(1, f"{{name}}-{{number}}\\n".encode())

        for name in "abcd":
            threading.Thread(target=work, args=(name,), daemon=True).start()
        while not os.path.exists({str(tmp_path / "memory.db")!r}):
            os.sched_yield()
        {end}
        """,
        tmp_path,
    )
    acknowledged = set(ended.out.split())
    stored = said_in(tmp_path)
    assert acknowledged <= set(stored)
    assert len(stored) == len(set(stored)) <= len(acknowledged) + 4
    assert counters().get("spool_damaged", 0) == 0


@pytest.mark.parametrize("timeout", [0.0, 0.3])
def test_exit_6_a_flush_returns_in_time_and_says_what_remains(tmp_path: Path, timeout: float) -> None:
    """Whatever the backend does, ``flush(timeout)`` is over in time and says how many turns wait."""
    stuck = Stuck()
    delivery = Delivery(stuck.open, tmp_path / "spool")  # type: ignore[arg-type]
    delivery.put(a_turn("r1"))
    assert stuck.asked.wait(10)
    delivery.put(a_turn("r2"))
    assert _timed(lambda: delivery.flush(timeout)) == (2, pytest.approx(timeout, abs=0.25))  # 0.1 s on an idle machine
    with never_answering(tmp_path):
        client = reflexio.ReflexioClient(f"sqlite:///{tmp_path / 'memory.db'}", learning="off")
        client.sink.put(a_turn("r1"))
        assert _timed(lambda: client.flush(timeout).remaining) == (1, pytest.approx(timeout, abs=0.25))
    assert client.close().complete
    stuck.answer.set()
    assert delivery.close(10) == 0


def _timed(call: Callable[[], int]) -> tuple[int, float]:
    began = time.monotonic()
    return call(), time.monotonic() - began


@pytest.mark.parametrize("where", ["reflexio.default_client().flush(60)", ""])
def test_exit_7_ctrl_c_during_a_pending_export_ends_the_process(tmp_path: Path, where: str) -> None:
    """While the script flushes, and while the interpreter is ending: at once, not after the timeout of 60 s."""
    with never_answering(tmp_path):
        process = start(f"talk('hello'); main_is_over(); {where}", tmp_path, exit_timeout=60 if not where else 0.1)
        assert process.stdout is not None
        assert process.stdout.readline().startswith("OVER")
        began = time.monotonic()
        while process.poll() is None and time.monotonic() - began < 30:
            process.send_signal(signal.SIGINT)
            select.select([], [], [], 0.1)
        assert time.monotonic() - began < 10
        wait(process)
    assert said_in(tmp_path) == ["hello"]


def test_exit_8_capture_after_shutdown_is_refused_and_counted(tmp_path: Path) -> None:
    """A closed client refuses, counts, and starts no thread; where none was named, a new one is opened on purpose."""
    closed = reflexio.ReflexioClient(f"sqlite:///{tmp_path / 'memory.db'}", learning="off")
    closed.close()
    agent = reflexio.capture(lambda text: text)
    threads, refused = threading.active_count(), counters().get("turns_refused", 0)
    with reflexio.session("s", user_id="ann", client=closed):
        for _ in range(3):
            assert agent("hello") == "hello"
    assert threading.active_count() == threads
    assert counters()["turns_refused"] == refused + 3
    with reflexio.session("s", user_id="ann"):
        agent("hello")
    reopened = reflexio.default_client()
    assert reopened is not closed
    assert reopened.flush().complete
    assert len(reopened.get_requests(user_id="ann").sessions) == 1


def test_exit_9_a_second_pipeline_works_after_the_first_was_shut_down(tmp_path: Path) -> None:
    """Nothing of the first one's end sticks to the second, in one process and over one store."""
    for number in range(3):
        with reflexio.ReflexioClient(f"sqlite:///{tmp_path / 'memory.db'}", learning="off") as client:
            with reflexio.session("s", user_id="ann", client=client):
                reflexio.capture(lambda text: text)(f"turn {number}")
            assert client.flush().complete
    assert said_in(tmp_path) == ["turn 0", "turn 1", "turn 2"]


class Deadly(Shelf):
    """A store that ends the thread which asks it first."""

    def __init__(self) -> None:
        super().__init__()
        self.dead: threading.Thread | None = None

    def add_turns(self, turns: Sequence[TurnRecord], *, learn_after: float | None = 0.0) -> int:
        if self.dead is None:
            self.dead = threading.current_thread()
            raise SystemExit
        return super().add_turns(turns, learn_after=learn_after)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("next_call", ["put", "flush"])
def test_exit_10_a_writer_that_died_is_noticed_and_replaced(tmp_path: Path, next_call: str) -> None:
    """The next put starts another; so does a flush, which waits for nobody for ever."""
    shelf = Deadly()
    delivery = Delivery(shelf.open, tmp_path / "spool")  # type: ignore[arg-type]
    delivery.put(a_turn("r1"))
    if next_call == "put":
        while shelf.dead is None or shelf.dead.is_alive():
            os.sched_yield()
        delivery.put(a_turn("r2"))
        while len(shelf.turns) < 2:
            os.sched_yield()
    assert delivery.flush(10) == 0
    assert "r1" in shelf.turns
    delivery.close(10)


def test_exit_11_hooks_of_others_may_call_captured_functions_after_ours(tmp_path: Path) -> None:
    """An exit hook that runs after ours: nothing is raised or printed, and the turn is not lost."""
    ended = run(
        "talk('main')",
        tmp_path,
        before="""
        import atexit
        atexit.register(lambda: talk("hook"))
        """,
    )
    assert (ended.code, ended.out, ended.err) == (0, "", "")
    assert said_in(tmp_path) == ["hook", "main"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
def test_exit_12_a_child_that_is_recycled_after_each_task_delivers_each_record(tmp_path: Path) -> None:
    """As Celery does with ``max_tasks_per_child=1``: a pool whose children do one task each."""
    make_store(tmp_path)
    ended = run(
        f"""
        import multiprocessing

        with multiprocessing.get_context("fork").Pool(2, maxtasksperchild=1) as pool:
            pool.map(talk, {TEN[:4]}, chunksize=1)
            pool.close()
            pool.join()
        """,
        tmp_path,
    )
    assert (ended.code, ended.err) == (0, "")
    assert waiting(tmp_path / "memory.db-spool") == (
        0,
        0,
    )  # they did it themselves
    assert said_in(tmp_path) == TEN[:4]


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="processes cannot be frozen on this platform")
def test_exit_13_a_frozen_process_has_its_turn_on_disk_and_delivers_it_when_it_goes_on(tmp_path: Path) -> None:
    """As a serverless host freezes it: with a flush the turn is stored on return, without it by the next invocation."""
    make_store(tmp_path)
    process = start(
        """
        for line in sys.stdin:
            talk(line.strip())
            if "flush" in line:
                reflexio.default_client().flush()
            print("returned", flush=True)
        """,
        tmp_path,
    )

    def invoke(text: str) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        process.send_signal(signal.SIGCONT)
        process.stdin.write(f"{text}\n")
        process.stdin.flush()
        assert process.stdout.readline() == "returned\n"
        process.send_signal(signal.SIGSTOP)

    invoke("one, flush")
    assert said_in(tmp_path) == ["one, flush"]
    invoke("two")
    assert waiting(tmp_path / "memory.db-spool")[1] > 0 or "two" in said_in(tmp_path)
    invoke("three, flush")
    assert said_in(tmp_path) == ["one, flush", "three, flush", "two"]
    process.send_signal(signal.SIGCONT)
    assert wait(process).code == 0
