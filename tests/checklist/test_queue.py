"""Q: the spool, the writer and the store between a captured turn and its reader."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import reflexio_middleware as reflexio
from reflexio_middleware.delivery.orphans import orphans
from reflexio_middleware.delivery.writer import Delivery
from reflexio_store.errors import StoreUnavailableError
from reflexio_store.homes import open_store
from reflexio_store.records import TurnRecord
from tests.checklist.scripts import make_store, never_answering, run, said_in, start, wait
from tests.checklist.test_exit import Stuck
from tests.test_delivery import Shelf, a_turn


def test_q_1_beyond_its_bound_the_spool_keeps_the_oldest_and_says_so_once(tmp_path: Path) -> None:
    """100 kB for 50 turns of 10 kB: the newest are refused, counted, and one line of log says so."""
    with never_answering(tmp_path):
        ended = run(
            """
            talk(*(f"{number:02} {'x' * 10_000}" for number in range(50)))
            stats = reflexio.default_client().stats()
            print(stats["turns_captured"], stats["turns_refused"])
            """,
            tmp_path,
            spool_max_bytes=100_000,
            exit_timeout=0.1,
        )
    captured, refused = map(int, ended.out.split()[:2])
    assert (captured + refused, refused > 30) == (50, True)
    assert len(re.findall("refused", ended.err)) == 1
    assert sum(file.stat().st_size for file in (tmp_path / "memory.db-spool").iterdir()) <= 100_100
    assert [text[:2] for text in said_in(tmp_path)] == [f"{number:02}" for number in range(captured)]


def test_q_2_a_poisonous_or_oversized_turn_is_alone_in_its_fate(tmp_path: Path) -> None:
    """One that the store refuses, one larger than a batch, one larger than the spool: the others are stored."""
    shelf = Shelf()
    shelf.refused.add("poison")
    shelf.reachable.clear()
    delivery = Delivery(shelf.open, tmp_path / "spool", max_bytes=12_000_000)  # type: ignore[arg-type]
    for name, size in (("r1", 1), ("poison", 1), ("large", 9_000_000), ("r2", 1), ("huge", 13_000_000), ("r3", 1)):
        assert delivery.put(a_turn(name, "x" * size)) == (name != "huge")
    shelf.reachable.set()
    assert delivery.flush(10) == 0
    assert set(shelf.turns) == {"r1", "large", "r2", "r3"}
    delivery.close(10)


class Forgetful(Shelf):
    """A store that takes what it is given, and at first says that it did not."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0

    def add_turns(self, turns: Sequence[TurnRecord], *, learn_after: float | None = 0.0) -> int:
        self.asked += 1
        super().add_turns(turns, learn_after=learn_after)
        if self.asked == 1:
            raise StoreUnavailableError("the answer was lost")
        return len(turns)


def test_q_4_the_reader_sees_each_turn_once(tmp_path: Path) -> None:
    """The answer of the store is lost, and a process dies between storing and forgetting: both store again."""
    shelf = Forgetful()
    delivery = Delivery(shelf.open, tmp_path / "a")  # type: ignore[arg-type]
    delivery.put(a_turn("r1"))
    assert delivery.flush(10) == 0
    assert (shelf.asked, list(shelf.turns)) == (2, ["r1"])
    delivery.close(10)
    store = open_store(f"sqlite:///{make_store(tmp_path)}")
    spool = tmp_path / "memory.db-spool"
    stuck = Stuck()
    dead = Delivery(stuck.open, spool)  # type: ignore[arg-type]
    dead.put(a_turn("r2"))
    store.add_turns([a_turn("r2")])  # stored, not forgotten; and then
    copies = [path.read_bytes() for path in spool.glob("*.spool")]
    (spool / "left-behind.spool").write_bytes(copies[0])
    assert said_in(tmp_path) == ["hello"]
    store.close()
    stuck.answer.set()
    assert dead.close(10) == 0


def test_q_5_what_a_dead_process_held_is_taken_over_and_what_a_living_one_holds_is_not(tmp_path: Path) -> None:
    """Spools: by their lock, also by a process that runs already. Jobs: by their lease."""
    folder, shelf = tmp_path / "spool", Shelf()
    living = Delivery(shelf.open, folder, adopt_every=0.05)  # type: ignore[arg-type]
    living.start()
    living.flush(10)
    dying = start(
        f"""
        from pathlib import Path
        from reflexio_middleware.delivery.spool import FileSpool
        from tests.test_delivery import a_turn
        import orjson
        spool = FileSpool(Path({str(folder)!r}))
        spool.append(orjson.dumps(a_turn("r1")))
        print("there", flush=True)
        sys.stdin.read()
        os._exit(0)
        """,
        tmp_path,
        before=f"import sys; sys.path.insert(0, {os.getcwd()!r})",
    )
    assert dying.stdout is not None
    assert dying.stdout.readline() == "there\n"
    assert list(orphans(folder)) == []
    wait(dying)
    while not shelf.turns:
        os.sched_yield()
    assert list(shelf.turns) == ["r1"]
    living.close(10)
    with reflexio.ReflexioClient(f"sqlite:///{tmp_path / 'memory.db'}", learning="off") as client:
        client.store.add_turns([a_turn("r1")], learn_after=0.0)
        held = client.store.claim_job("learn", lease_seconds=0.0)
        assert held is not None
        taken = client.store.claim_job("learn", lease_seconds=60.0)
        assert taken is not None
        assert taken.key == held.key
        assert client.store.claim_job("learn", lease_seconds=60.0) is None


def test_q_6_processes_and_threads_may_write_at_once(tmp_path: Path) -> None:
    """Two processes with eight threads each, over one file: nothing is locked out, nothing lost."""
    make_store(tmp_path)
    code = """
        def work(name):
            for number in range(10):
                talk(f"{os.getpid()}-{name}-{number}")
                reflexio.default_client().flush()

        threads = [threading.Thread(target=work, args=(name,)) for name in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert "dead_letters" not in reflexio.default_client().stats()
        """
    both = [start(code, tmp_path, learning="off") for _ in range(2)]
    for ended in map(wait, both):
        assert (ended.code, ended.err) == (0, "")
    said = said_in(tmp_path)
    assert len(said) == len(set(said)) == 160


def test_q_7_whoever_waits_for_a_writer_that_is_stopped_goes_on(tmp_path: Path) -> None:
    """Four threads flush while a fifth closes: all return, long before their timeout."""
    stuck = Stuck()
    delivery = Delivery(stuck.open, tmp_path / "spool")  # type: ignore[arg-type]
    delivery.put(a_turn("r1"))
    assert stuck.asked.wait(10)
    with ThreadPoolExecutor(4) as pool:
        waiting = [pool.submit(delivery.flush, 60) for _ in range(4)]
        assert delivery.close(0.1) == 1
        assert [flush.result(20) for flush in waiting] == [1] * 4
    stuck.answer.set()


def _limited_disk(tmp_path: Path) -> str:
    return "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))"


def _no_folder(tmp_path: Path) -> str:
    (tmp_path / "memory.db-spool").write_text("in the way")
    return ""


def _damaged(tmp_path: Path) -> str:
    (tmp_path / "memory.db-spool").mkdir()
    (tmp_path / "memory.db-spool" / "old.spool").write_bytes(b"RFXSPL1\n" + b"\x05\x00\x00\x00....hello" * 3)
    return ""


def _clock_back(tmp_path: Path) -> str:
    return """
    import time
    real, calls = time.time_ns, iter(range(10**9))
    time.time_ns = lambda: real() - next(calls) * 10**9
    """


@pytest.mark.skipif(sys.platform == "win32", reason="needs the limits of a POSIX system")
@pytest.mark.parametrize("trouble", [_limited_disk, _no_folder, _damaged, _clock_back])
def test_q_8_no_trouble_with_disk_or_clock_reaches_the_agent(tmp_path: Path, trouble: object) -> None:
    """Disk full, no folder, a damaged spool, a clock that runs backwards: the script is as ever, one line says so."""
    make_store(tmp_path)
    ended = run(
        """
        talk(*(f"{number:02} {'x' * 1000}" for number in range(40)))
        stats = reflexio.default_client().stats()
        print(stats["turns_captured"] + stats.get("turns_refused", 0), stats.get("internal_errors", 0))
        """,
        tmp_path,
        before=trouble(tmp_path),  # type: ignore[operator]
        learning="off",
    )
    assert (ended.code, ended.out) == (0, "40 0\n")
    lines = [line for line in ended.err.splitlines() if line.startswith("reflexio:")]
    assert len(lines) == len(set(lines)) <= 3
    assert "Traceback" not in ended.err
    if trouble in (_damaged, _clock_back, _no_folder):
        assert len(said_in(tmp_path)) == 40


def test_q_9_one_pipeline_that_fails_to_close_does_not_keep_another_from_it(tmp_path: Path) -> None:
    """Two clients at the end of a script; what one is given to learn with raises when it is closed."""
    ended = run(
        """
        class Broken:
            def extract(self, view): return []
            def close(self): raise RuntimeError("no")

        store = os.environ["REFLEXIO_STORE"]
        clients = [reflexio.ReflexioClient(store + "-other", extractor=Broken()), reflexio.ReflexioClient(store)]
        clients.append(reflexio.ReflexioClient(store + "-other", extractor=Broken()))
        for client in clients:
            with reflexio.session("s", user_id="ann", client=client):
                agent("hello")
        """,
        tmp_path,
    )
    assert ended.code == 0
    assert list((tmp_path / "memory.db-spool").glob("*.spool")) == []
    assert list((tmp_path / "memory.db-other-spool").glob("*.spool")) == []
    assert said_in(tmp_path) == ["hello"]
