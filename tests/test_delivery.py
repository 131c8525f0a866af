"""Delivery: an accepted turn is stored, whatever happens to the process in between."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import struct
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import reflexio_middleware as reflexio
from reflexio_middleware.delivery.spool import FileSpool, MemorySpool, Spool, orphans, waiting
from reflexio_middleware.delivery.writer import DEAD_LETTERS, Delivery
from reflexio_middleware.guard import counters
from reflexio_store.errors import InvalidInputError, StoreUnavailableError
from reflexio_store.records import InteractionRecord, TurnRecord


def a_turn(request_id: str, content: str = "hello") -> TurnRecord:
    return TurnRecord(request_id, "ann", "s1", "v1", "", 1_700_000_000_000_000, [InteractionRecord("user", content, 1)])


class Shelf:
    """The smallest store of turns: keeps each request once; can be made unreachable, or to refuse some."""

    def __init__(self) -> None:
        self.turns: dict[str, TurnRecord] = {}
        self.reachable = threading.Event()
        self.reachable.set()
        self.refused: set[str] = set()

    def open(self) -> Shelf:
        if not self.reachable.is_set():
            raise StoreUnavailableError("not reachable")
        return self

    def add_turns(self, turns: Sequence[TurnRecord], *, learn_after: float | None = 0.0) -> int:
        if any(turn.request_id in self.refused for turn in turns):
            raise InvalidInputError("refused")
        new = {turn.request_id: turn for turn in turns if turn.request_id not in self.turns}
        self.turns.update(new)
        return len(new)


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


@pytest.fixture
def delivery(shelf: Shelf, tmp_path: Path) -> Iterator[Delivery]:
    made = Delivery(shelf.open, tmp_path / "spool")  # type: ignore[arg-type]
    yield made
    made.close(5)


def test_turns_reach_the_store_in_order(delivery: Delivery, shelf: Shelf) -> None:
    """What was put is stored once flush has returned."""
    assert all(delivery.put(a_turn(f"r{number}")) for number in range(1000))
    assert delivery.flush(10) == 0
    assert list(shelf.turns) == [f"r{number}" for number in range(1000)]


def test_turns_wait_for_an_unreachable_store(delivery: Delivery, shelf: Shelf) -> None:
    """Captures go on, and what waits is counted; nothing is lost when the store is back."""
    shelf.reachable.clear()
    assert delivery.put(a_turn("r1"))
    assert delivery.flush(0.05) == 1
    assert "not reachable" in delivery.last_error
    shelf.reachable.set()
    assert delivery.flush(10) == 0
    assert list(shelf.turns) == ["r1"]


def test_a_poisonous_turn_does_not_hold_up_its_neighbours(delivery: Delivery, shelf: Shelf, tmp_path: Path) -> None:
    """The refused turn is set aside in a file, the others are stored."""
    shelf.refused.add("r5")
    shelf.reachable.clear()
    for number in range(10):
        delivery.put(a_turn(f"r{number}"))
    shelf.reachable.set()
    assert delivery.flush(10) == 0
    assert sorted(shelf.turns) == [f"r{number}" for number in range(10) if number != 5]
    assert '\\"request_id\\":\\"r5\\"' in (tmp_path / "spool" / DEAD_LETTERS).read_text()


@given(
    item=st.builds(
        InteractionRecord,
        role=st.text(),
        content=st.text(),
        created_at=st.integers(0, 2**40),
        tools_used=st.lists(st.just({"tool_name": "find"}), max_size=2),
        citations=st.lists(st.just({"text": "x"}), max_size=1),
        user_action=st.sampled_from(["none", "click"]),
        shadow_content=st.text(max_size=3),
    ),
    status=st.sampled_from(["completed", "error"]),
    metadata=st.dictionaries(st.text(max_size=3), st.none() | st.booleans() | st.text(max_size=3), max_size=2),
)
def test_a_record_comes_back_from_json_as_it_was(item: InteractionRecord, status: str, metadata: Any) -> None:
    """Though the fields that hold their default are left out."""
    turn = TurnRecord("r1", "ann", "s1", "", "", 1, [item, InteractionRecord("user", "hi")], status, metadata=metadata)
    assert TurnRecord.from_json(json.loads(json.dumps(turn.to_json()))) == turn


def test_a_spool_that_an_earlier_version_wrote_is_read(shelf: Shelf, tmp_path: Path) -> None:
    """Its records hold every field of a turn, also those at their default."""
    left = FileSpool(tmp_path / "spool")
    left.append(json.dumps(dataclasses.asdict(a_turn("old"))).encode())
    left.close()
    later = Delivery(shelf.open, tmp_path / "spool")  # type: ignore[arg-type]
    assert later.flush(10) == 0
    later.close(5)
    assert shelf.turns == {"old": a_turn("old")}


def test_a_full_spool_refuses_and_keeps_what_it_has(shelf: Shelf, tmp_path: Path) -> None:
    """The bound is kept: the oldest turns stay, new ones are refused."""
    shelf.reachable.clear()
    delivery = Delivery(shelf.open, tmp_path / "spool", max_bytes=2_000)  # type: ignore[arg-type]
    taken = [delivery.put(a_turn(f"r{number}")) for number in range(20)]
    assert taken[0]
    assert not taken[-1]
    shelf.reachable.set()
    delivery.close(10)
    assert len(shelf.turns) == sum(taken)


def test_what_waits_at_close_is_delivered_by_the_next(shelf: Shelf, tmp_path: Path) -> None:
    """A spool that nobody owns is adopted, once, and its files are gone then."""
    folder = tmp_path / "spool"
    shelf.reachable.clear()
    first = Delivery(shelf.open, folder)  # type: ignore[arg-type]
    first.put(a_turn("r1"))
    assert first.close(0.05) == 1
    assert waiting(folder)[0] == 1
    shelf.reachable.set()
    second = Delivery(shelf.open, folder)  # type: ignore[arg-type]
    second.start()
    assert second.flush(10) == 0
    second.close(5)
    assert list(shelf.turns) == ["r1"]
    assert list(folder.glob("*.spool")) == []


def test_a_living_spool_is_not_adopted(delivery: Delivery, shelf: Shelf, tmp_path: Path) -> None:
    """Its owner holds the lock."""
    shelf.reachable.clear()
    delivery.put(a_turn("r1"))
    assert list(orphans(tmp_path / "spool")) == []
    shelf.reachable.set()


def test_an_unreadable_spool_does_not_hold_up_the_others(shelf: Shelf, tmp_path: Path) -> None:
    """A dead process of another user, or a folder in the way: said and counted, and our own turns go on."""
    folder = tmp_path / "spool"
    (folder / "00-strange.spool").mkdir(parents=True)
    (folder / "01-locked.lock").mkdir()
    (folder / "01-locked.spool").write_bytes(b"x")
    before = counters().get("spools_unreadable", 0)
    delivery = Delivery(shelf.open, folder)  # type: ignore[arg-type]
    delivery.put(a_turn("r1"))
    assert delivery.flush(10) == 0
    delivery.close(5)
    assert list(shelf.turns) == ["r1"]
    assert counters()["spools_unreadable"] == before + 2


def test_a_closed_delivery_refuses(shelf: Shelf, tmp_path: Path) -> None:
    """Using it after close neither hangs nor starts a thread."""
    delivery = Delivery(shelf.open, tmp_path / "spool")  # type: ignore[arg-type]
    delivery.close(1)
    before = threading.active_count()
    assert not delivery.put(a_turn("r1"))
    assert threading.active_count() == before


def test_where_no_folder_can_be_written_turns_are_kept_in_memory(shelf: Shelf, tmp_path: Path) -> None:
    """A read-only place costs durability, not the turn."""
    (tmp_path / "file").write_text("in the way")
    delivery = Delivery(shelf.open, tmp_path / "file" / "spool")  # type: ignore[arg-type]
    assert delivery.put(a_turn("r1"))
    delivery.close(10)
    assert list(shelf.turns) == ["r1"]


RECORDS = st.lists(st.binary(max_size=200), max_size=30)


@given(RECORDS, st.lists(st.integers(1, 7), max_size=10))
def test_a_spool_gives_back_what_was_appended(records: list[bytes], takes: list[int]) -> None:
    """In order, each once, in whatever bites it is read; in memory and on disk alike."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        spools: list[Spool] = [MemorySpool(), FileSpool(Path(folder))]
        for spool in spools:
            assert all(spool.append(record) for record in records)
            got: list[bytes] = []
            for take in [*takes, 1000]:
                bite = spool.read(take)
                spool.forget(len(bite))
                got += bite
            assert got == records
            assert spool.pending == 0
            spool.close()


@given(RECORDS.filter(bool), st.integers(0, 10_000), st.booleans())
def test_a_damaged_tail_loses_only_itself(records: list[bytes], place: int, cut: bool) -> None:
    """A torn or flipped byte ends the reading there; all before it comes through."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        spool = FileSpool(Path(folder))
        ends = []
        for record in records:
            spool.append(record)
            ends.append(spool.path.stat().st_size)
        spool.close()
        data = bytearray(spool.path.read_bytes())
        at = 8 + place % (len(data) - 8)
        if cut:
            del data[at:]
        else:
            data[at] ^= 0xFF
        spool.path.write_bytes(data)
        found = [list(orphan.records()) for orphan in orphans(Path(folder))]
        whole = [record for record, end in zip(records, ends, strict=True) if end <= at]
        assert found[0][: len(whole)] == whole
        assert len(found[0]) <= len(whole) + (0 if cut else 1)


def test_a_frame_that_lies_about_its_length_is_no_trap(tmp_path: Path) -> None:
    """A huge length at the end reads as a torn record."""
    spool = FileSpool(tmp_path)
    spool.append(b"good")
    spool.close()
    with spool.path.open("ab") as file:
        file.write(struct.pack("<II", 0xFFFFFFFF, 0) + b"x")
    assert [list(orphan.records()) for orphan in orphans(tmp_path)] == [[b"good"]]


def test_a_spool_that_is_never_empty_does_not_grow_for_ever(tmp_path: Path) -> None:
    """What was stored is dropped from the file although something always waits."""
    spool = FileSpool(tmp_path, max_bytes=64 * 1024 * 1024)
    payload = b"x" * 1_000_000
    spool.append(payload)
    for _ in range(60):
        assert spool.append(payload)
        spool.forget(1)
    assert spool.path.stat().st_size < 30_000_000
    assert spool.read(10) == [payload]
    spool.close()


def run_script(source: str, tmp_path: Path, *, kill: bool = False) -> subprocess.CompletedProcess[str]:
    """Run a script whose default store is ``tmp_path/memory.db``."""
    environment = {**os.environ, "REFLEXIO_STORE": f"sqlite:///{tmp_path / 'memory.db'}"}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(source)], env=environment, capture_output=True, text=True,
        timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == (-signal.SIGKILL if kill else 0), done.stderr
    return done


def said_in(path: Path) -> list[str]:
    """What users said in the store at ``path``, as the next process finds it."""
    with reflexio.ReflexioClient(f"sqlite:///{path}", learning="off") as client:
        client.flush()
        sessions = client.get_requests(top_k=1000).sessions
    return sorted(data.interactions[0].content for session in sessions for data in session.requests)


def test_a_killed_process_loses_no_finished_turn(tmp_path: Path) -> None:
    """SIGKILL right after the captured call returned: the next process delivers it."""
    run_script(
        """
        import os, signal
        import reflexio_middleware as reflexio

        @reflexio.capture
        def agent(text): return "ok"

        with reflexio.session("s", user_id="ann"):
            for number in range(20):
                agent(f"turn {number:02}")
        os.kill(os.getpid(), signal.SIGKILL)
        """,
        tmp_path,
        kill=True,
    )
    assert said_in(tmp_path / "memory.db") == [f"turn {number:02}" for number in range(20)]


def test_a_script_that_just_ends_has_stored_its_turns(tmp_path: Path) -> None:
    """Nothing to call at the end; nothing is printed."""
    done = run_script(
        """
        import reflexio_middleware as reflexio

        @reflexio.capture
        def agent(text): return "ok"

        with reflexio.session("s", user_id="ann"):
            agent("hello")
        """,
        tmp_path,
    )
    assert (done.stdout, done.stderr) == ("", "")
    assert list((tmp_path / "memory.db-spool").glob("*.spool")) == []
    assert said_in(tmp_path / "memory.db") == ["hello"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
def test_a_forked_child_delivers_its_own_turns(tmp_path: Path) -> None:
    """Parent and child each deliver what is theirs, each turn once."""
    run_script(
        """
        import os, warnings
        import reflexio_middleware as reflexio

        warnings.simplefilter("ignore", DeprecationWarning)  # Python warns of forking with threads; that is the point

        @reflexio.capture
        def agent(text): return "ok"

        with reflexio.session("s", user_id="ann"):
            agent("before")
            child = os.fork()
            agent("child" if child == 0 else "parent")
            if child == 0:
                reflexio.default_client().flush()
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
        """,
        tmp_path,
    )
    assert said_in(tmp_path / "memory.db") == ["before", "child", "parent"]


def test_an_unusable_store_leaves_the_agent_alone(tmp_path: Path) -> None:
    """The script ends as it would have; what was captured waits on disk for a store that works."""
    (tmp_path / "memory.db").write_text("this is no database, just a file with some text in it " * 50)
    done = run_script(
        """
        import reflexio_middleware as reflexio

        @reflexio.capture
        def agent(text): return "ok"

        with reflexio.session("s", user_id="ann"):
            print(agent("hello"))
        """,
        tmp_path,
    )
    assert done.stdout == "ok\n"
    (tmp_path / "memory.db").unlink()
    assert said_in(tmp_path / "memory.db") == ["hello"]
