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

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

import reflexio_middleware as reflexio
from reflexio_middleware.delivery.dead_letters import FILE, DeadLetters
from reflexio_middleware.delivery.orphans import orphans, unreadable, waiting
from reflexio_middleware.delivery.spool import FileSpool, MemorySpool, Spool
from reflexio_middleware.delivery.writer import Delivery, Resent
from reflexio_middleware.guard import counters
from reflexio_store.errors import InvalidInputError, SchemaTooNewError, StoreCorruptError, StoreUnavailableError
from reflexio_store.homes import open_store
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
        self.fault: Exception | None = None

    def open(self) -> Shelf:
        if not self.reachable.is_set():
            raise StoreUnavailableError("not reachable")
        return self

    def add_turns(self, turns: Sequence[TurnRecord], *, learn_after: float | None = 0.0) -> int:
        if self.fault is not None:
            raise self.fault
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


def test_turns_wait_for_a_home_whose_url_is_mended(tmp_path: Path) -> None:
    """It is no error of ours: one line says what to mend and where they wait, and no traceback is shown."""
    before = counters().get("internal_errors", 0)
    delivery = Delivery(lambda: open_store("mysql://host/db"), tmp_path / "spool")
    delivery.put(a_turn("r1"))
    assert delivery.flush(0.05) == 1
    delivery.close(0.05)
    assert counters().get("internal_errors", 0) == before and "mysql" in delivery.last_error
    assert waiting(tmp_path / "spool")[0] == 1


def test_turns_that_are_lost_are_told(shelf: Shelf, tmp_path: Path) -> None:
    """Neither the store nor the folder of the spool could be written, until the end."""
    (tmp_path / "spool").write_text("a file")
    shelf.reachable.clear()
    delivery = Delivery(shelf.open, tmp_path / "spool")  # type: ignore[arg-type]
    before = counters().get("turns_lost", 0)
    delivery.put(a_turn("r1"))
    assert delivery.close(0.05) == 1
    assert counters()["turns_lost"] == before + 1


def test_a_poisonous_turn_does_not_hold_up_its_neighbours(delivery: Delivery, shelf: Shelf, tmp_path: Path) -> None:
    """The refused turn is set aside in a file, the others are stored."""
    shelf.refused.add("r5")
    shelf.reachable.clear()
    for number in range(10):
        delivery.put(a_turn(f"r{number}"))
    shelf.reachable.set()
    assert delivery.flush(10) == 0
    assert sorted(shelf.turns) == [f"r{number}" for number in range(10) if number != 5]
    assert '\\"request_id\\":\\"r5\\"' in (tmp_path / "spool" / FILE).read_text()


def test_a_turn_is_set_aside_once_however_often_its_batch_is_tried(tmp_path: Path) -> None:
    """Also where the store is away again before the rest of the batch is stored."""

    class Faltering(Shelf):
        faults = 2

        def add_turns(self, turns: Sequence[TurnRecord], *, learn_after: float | None = 0.0) -> int:
            if [turn.request_id for turn in turns] == ["r2"] and self.faults:
                self.faults -= 1
                raise StoreUnavailableError("away again")
            return super().add_turns(turns, learn_after=learn_after)

    shelf = Faltering()
    shelf.refused.add("r1")
    spool = FileSpool(tmp_path / "spool")
    for payload in (b'{"a turn": "of a newer release"}', *(orjson.dumps(a_turn(f"r{n}").to_json()) for n in (1, 2))):
        spool.append(payload)
    spool.close()
    before = counters().get("dead_letters", 0)
    delivery = Delivery(shelf.open, tmp_path / "spool")  # type: ignore[arg-type]
    while shelf.faults:
        delivery.flush(10)
    assert delivery.close(10) == 0
    assert list(shelf.turns) == ["r2"]
    assert [letter.request_id for letter in DeadLetters(tmp_path / "spool", 10_000)] == ["", "r1"]
    assert counters()["dead_letters"] - before == 2


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


class Limited(Shelf):
    """A store that takes every other batch, and says when to come again with the others."""

    def __init__(self) -> None:
        super().__init__()
        self.taken: list[str] = []
        self.limited = False

    def add_turns(self, turns: Sequence[TurnRecord], *, learn_after: float | None = 0.0) -> int:
        self.limited = not self.limited
        if not self.limited:
            raise StoreUnavailableError("rate limit", retry_after=0.0)
        self.taken += [turn.request_id for turn in turns]
        return super().add_turns(turns, learn_after=learn_after)


def test_a_store_that_limits_the_rate_gets_the_spool_of_a_dead_process_piece_by_piece(tmp_path: Path) -> None:
    """It is not given all from the beginning after each refusal, which would never come to the end."""
    spool = FileSpool(tmp_path)
    for number in range(30):
        spool.append(json.dumps(a_turn(f"r{number}").to_json()).encode())
    spool.close()
    shelf = Limited()
    delivery = Delivery(shelf.open, tmp_path, batch=3)  # type: ignore[arg-type]
    delivery.flush(20)
    delivery.close(5)
    assert shelf.taken == [f"r{number}" for number in range(30)] and list(orphans(tmp_path)) == []


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


RECORDS = st.lists(st.binary(min_size=1, max_size=200), max_size=30)


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
def test_a_damaged_record_loses_only_itself(records: list[bytes], place: int, cut: bool) -> None:
    """A torn or flipped byte: all others come through. A torn end is what a kill leaves, and is not kept."""
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
        hit = next(index for index, end in enumerate(ends) if at < end)
        if cut:
            del data[at:]
        else:
            data[at] ^= 0xFF
        spool.path.write_bytes(data)
        found = [record for orphan in orphans(Path(folder)) for record in orphan.records()]
        assert found == records[:hit] + ([] if cut else records[hit + 1 :])
        if cut:
            assert not spool.path.with_suffix(".broken").exists()


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"RFXSPL2\nfrom the future", "newer release"), (b"my own notes", "no spool"), (b"RFXSPX1\n", "no spool")],
)
def test_a_spool_in_another_format_is_left_as_it_is(shelf: Shelf, tmp_path: Path, content: bytes, reason: str) -> None:
    """Neither drained nor deleted; the others are delivered."""
    folder = tmp_path / "spool"
    folder.mkdir()
    (folder / "0-strange.spool").write_bytes(content)
    before = counters().get("spools_unreadable", 0)
    delivery = Delivery(shelf.open, folder)  # type: ignore[arg-type]
    delivery.put(a_turn("r1"))
    assert delivery.flush(10) == 0
    delivery.close(5)
    assert counters()["spools_unreadable"] == before + 1
    assert (folder / "0-strange.spool").read_bytes() == content
    assert reason in dict(unreadable(folder))[folder / "0-strange.spool"]


def test_a_spool_that_was_killed_at_its_beginning_is_removed(shelf: Shelf, tmp_path: Path) -> None:
    """It holds nothing."""
    (tmp_path / "a.spool").write_bytes(b"")
    (tmp_path / "b.spool").write_bytes(b"RFX")
    delivery = Delivery(shelf.open, tmp_path)  # type: ignore[arg-type]
    delivery.start()
    assert delivery.flush(10) == 0
    delivery.close(5)
    assert list(tmp_path.glob("*.spool")) == []


@pytest.mark.parametrize("folder", ["spool", None])
def test_a_spool_is_bounded_in_turns_as_well(shelf: Shelf, tmp_path: Path, folder: str | None) -> None:
    """On disk and in memory: the oldest stay, the rest is refused and counted."""
    shelf.reachable.clear()
    place = tmp_path / folder if folder else None
    delivery = Delivery(shelf.open, place, max_records=3)  # type: ignore[arg-type]
    before = counters().get("turns_refused", 0)
    assert [delivery.put(a_turn(f"r{number}")) for number in range(5)] == [True] * 3 + [False] * 2
    assert counters()["turns_refused"] == before + 2
    shelf.reachable.set()
    assert delivery.flush(10) == 0
    assert delivery.put(a_turn("r5"))
    delivery.close(10)
    assert list(shelf.turns) == ["r0", "r1", "r2", "r5"]


def test_dead_letters_are_sent_again_once_their_cause_is_mended(
    delivery: Delivery, shelf: Shelf, tmp_path: Path
) -> None:
    """It says what became of each; those that are refused again stay, with their reason."""
    shelf.refused = {"r1", "r2"}
    for number in range(4):
        delivery.put(a_turn(f"r{number}"))
        assert delivery.flush(10) == 0
    letters = DeadLetters(tmp_path / "spool", 10_000)
    assert [(letter.request_id, letter.error, letter.at > 0) for letter in letters] == [
        ("r1", "refused", True),
        ("r2", "refused", True),
    ]
    shelf.refused = {"r2"}
    assert delivery.retry_dead_letters(10) == Resent(stored=1, refused=1)
    shelf.refused = set()
    assert delivery.retry_dead_letters(10) == Resent(stored=1)
    assert delivery.retry_dead_letters(10) == Resent()
    assert sorted(shelf.turns) == ["r0", "r1", "r2", "r3"]
    assert list((tmp_path / "spool").glob("dead_letters*")) == []


def test_a_letter_that_cannot_be_read_stays_with_its_reason(delivery: Delivery, shelf: Shelf, tmp_path: Path) -> None:
    """It is neither lost nor in the way of the others; a resending that was killed half-way goes on."""
    shelf.refused = {"r1"}
    delivery.put(a_turn("r1"))
    assert delivery.flush(10) == 0
    shelf.refused = set()
    file = tmp_path / "spool" / FILE
    file.rename(file.with_name("dead_letters.retrying"))
    file.write_bytes(b'not json\n{"error": "x", "turn": "{}"}\n')
    assert delivery.retry_dead_letters(10) == Resent(stored=1, refused=2)
    assert [letter.request_id for letter in DeadLetters(tmp_path / "spool", 10_000)] == ["", ""]
    assert list(shelf.turns) == ["r1"]
    assert file.stat().st_mode & 0o077 == 0


def test_no_letter_is_lost_while_others_are_forgotten(tmp_path: Path) -> None:
    """Whoever writes one down waits until the file is as it will be; other processes do the same."""
    letters = DeadLetters(tmp_path, 10_000_000)
    ended = threading.Event()

    def forget() -> None:
        while not ended.is_set():
            letters.add(orjson.dumps(dataclasses.replace(a_turn("r"), user_id="bob").to_json()), "refused")
            letters.forget(user_id="bob")

    forgetting = threading.Thread(target=forget)
    forgetting.start()
    for number in range(500):
        letters.add(orjson.dumps(a_turn(f"r{number}").to_json()), "refused")
    ended.set()
    forgetting.join()
    sent: list[str] = []
    assert letters.resend(lambda turn: sent.append(turn.request_id) is None) == (500, 0)
    assert sent == [f"r{number}" for number in range(500)]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [StoreCorruptError, SchemaTooNewError])
def test_turns_wait_for_a_home_that_is_damaged_or_too_new(
    delivery: Delivery, shelf: Shelf, tmp_path: Path, error: type[Exception]
) -> None:
    """That is no fault of theirs: they are not dead letters."""
    shelf.fault = error("not now")
    delivery.put(a_turn("r1"))
    assert delivery.flush(0.1) == 1
    assert delivery.last_error == "not now"
    shelf.fault = None
    assert delivery.flush(10) == 0
    assert list(shelf.turns) == ["r1"]
    assert not (tmp_path / "spool" / FILE).exists()


def test_flush_on_return_waits_until_the_turn_is_stored_but_not_for_ever(shelf: Shelf, tmp_path: Path) -> None:
    """Within its time; a stream that its reader left, or the garbage collector ended, is not waited for."""
    delivery = Delivery(shelf.open, tmp_path / "spool", flush_on_return=10.0)  # type: ignore[arg-type]
    for number in range(3):
        assert delivery.put(a_turn(f"r{number}"))
        assert f"r{number}" in shelf.turns
    shelf.reachable.clear()
    left = a_turn("left")
    left.status = "partial"
    assert delivery.put(left)
    delivery.close(0.1)
    hasty = Delivery(shelf.open, tmp_path / "other", flush_on_return=0.05)  # type: ignore[arg-type]
    assert hasty.put(a_turn("late"))
    assert hasty.pending == 1
    shelf.reachable.set()
    assert hasty.close(10) == 0
    assert "late" in shelf.turns


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
    environment["REFLEXIO_EXIT_TIMEOUT"] = "30"  # the first opening of a store takes seconds on a busy machine
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
