"""What only the SQLite home can get wrong: files, folders, locks, processes."""

from __future__ import annotations

import os
import shutil
import sys
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from reflexio_store.contract import Change, Meaning
from reflexio_store.errors import (
    InvalidInputError,
    SchemaTooNewError,
    StoreCorruptError,
    StoreUnavailableError,
    StoreURLError,
)
from reflexio_store.homes import open_store
from reflexio_store.models import (
    Evidence,
    GetRequestsRequest,
    LearningQuery,
    SearchInteractionRequest,
    Status,
    UserProfile,
)
from reflexio_store.records import InteractionRecord, TurnRecord
from reflexio_store.sql.dialects.sqlite_driver import driver as sqlite3
from reflexio_store.sql.home import SqlStore
from tests.store.conftest import wait_until
from tests.store.test_processes import answer, run

MakeTurn = Callable[..., TurnRecord]


class TestURLs:
    @pytest.mark.parametrize(
        "url",
        [
            *("sqlite:///", "sqlite:////", "sqlite://host/a.db", "sqlite://a.db", "sqlite:///folder/"),
            *("sqlite:///a.db?synchronous=off", "sqlite:///a.db?colour=red", "sqlite:///a.db?timeout=soon"),
            *("sqlite:a.db", "mysql://a/b", "", "   "),
        ],
    )
    def test_a_url_that_is_not_understood_is_refused(self, url: str) -> None:
        """The error lists the forms that are."""
        with pytest.raises(StoreURLError, match=r"sqlite://|option"):
            open_store(url).close()

    def test_a_relative_path_is_fixed_when_opened(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Missing folders are made, and a later change of the working directory does not matter."""
        monkeypatch.chdir(tmp_path)
        store = open_store("sqlite:///a/b/c.db?synchronous=full")
        assert store.url == f"sqlite:///{tmp_path}/a/b/c.db"
        store.close()
        assert (tmp_path / "a/b/c.db").exists()

    def test_the_home_folder_is_known(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """``~`` is expanded; odd characters in a name are just that."""
        monkeypatch.setenv("HOME", str(tmp_path))
        store = open_store("sqlite:///~/a b#%41'.db")
        store.close()
        assert (tmp_path / "a b#%41'.db").exists()

    def test_homes_in_memory_are_apart(self, turn: MakeTurn) -> None:
        """Each is its own, and gone when closed."""
        one, other = open_store("sqlite://"), open_store("sqlite://")
        one.add_turns([turn()])
        assert (one.counts()["requests"], other.counts()["requests"]) == (1, 0)
        assert one.url == "sqlite://"
        one.close()
        other.close()


class TestBadFiles:
    def test_a_file_of_another_kind_is_left_alone(self, tmp_path: Path) -> None:
        """The error says what to do, and the file is as it was."""
        path = tmp_path / "notes.txt"
        path.write_text("these are my notes\n" * 500)
        with pytest.raises(StoreCorruptError, match=r"notes\.txt is damaged or is no SQLite database"):
            open_store(f"sqlite:///{path}")
        assert path.read_text() == "these are my notes\n" * 500

    @pytest.mark.parametrize("damage", ["truncated", "overwritten"])
    def test_a_damaged_file_is_named(self, tmp_path: Path, turn: MakeTurn, damage: str) -> None:
        """Wherever the damage shows first: when opening, reading or searching."""
        path = tmp_path / "home.db"
        store = open_store(f"sqlite:///{path}")
        store.add_turns([turn("words " * 200, session_id=f"s{number}") for number in range(100)])
        store.close()
        data = path.read_bytes()
        path.write_bytes(
            data[: len(data) // 3] if damage == "truncated" else data[:4096] + b"\xff" * (len(data) - 4096)
        )
        with pytest.raises(StoreCorruptError, match="restore a backup"):
            _use(open_store(f"sqlite:///{path}"))

    def test_a_folder_that_cannot_be_made_is_named(self, tmp_path: Path) -> None:
        """A file stands where the folder should be."""
        (tmp_path / "file").write_text("x")
        with pytest.raises(StoreUnavailableError, match="check its folder"):
            open_store(f"sqlite:///{tmp_path}/file/home.db")

    def test_a_folder_is_no_database(self, tmp_path: Path) -> None:
        """The path is a folder's."""
        (tmp_path / "home.db").mkdir()
        with pytest.raises(StoreUnavailableError, match="cannot be opened"):
            open_store(f"sqlite:///{tmp_path}/home.db")

    @pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
    def test_a_folder_that_is_not_writable_is_named(self, tmp_path: Path) -> None:
        """Permissions."""
        folder = tmp_path / "locked"
        folder.mkdir(mode=0o500)
        with pytest.raises(StoreUnavailableError, match="writable"):
            open_store(f"sqlite:///{folder}/home.db")

    def test_a_newer_schema_is_refused_untouched(self, tmp_path: Path) -> None:
        """The error says which release to get; the file is as it was."""
        path = tmp_path / "home.db"
        open_store(f"sqlite:///{path}").close()
        with sqlite3.connect(path) as connection:
            connection.execute("UPDATE reflexio_alembic_version SET version_num = '9999'")
        connection.close()
        before = path.read_bytes()
        with pytest.raises(SchemaTooNewError, match=r"Upgrade reflexio-middleware"):
            open_store(f"sqlite:///{path}")
        assert path.read_bytes() == before


class TestLocks:
    def test_a_lock_held_too_long_is_explained(self, tmp_path: Path, turn: MakeTurn) -> None:
        """Nothing is lost: the same turns are stored once the lock is gone, and reading works meanwhile."""
        path = tmp_path / "home.db"
        store = open_store(f"sqlite:///{path}?timeout=0.05")
        holder = sqlite3.connect(path, isolation_level=None)
        holder.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailableError, match=r"locked for longer than 0\.05 s"):
            store.add_turns([turn()])
        assert store.counts()["requests"] == 0
        holder.close()
        assert store.add_turns([turn()]) == 1
        store.close()

    def test_a_delete_leaves_the_waiting_for_other_writers_to_us(self, tmp_path: Path, turn: MakeTurn) -> None:
        """SQLite's own waiting looks so seldom that it may miss every moment in which nobody writes."""
        with closing(SqlStore(f"sqlite:///{tmp_path / 'home.db'}")) as store:
            store.add_turns([turn()])
            store.delete_session("s1")
            with store._database.write() as connection:
                assert connection.exec_driver_sql("PRAGMA busy_timeout").scalar() == 0


@pytest.mark.skipif(sys.platform == "win32", reason="Windows removes no open file")
class TestAFileThatIsGone:
    @pytest.mark.parametrize("then", ["removed", "replaced"])
    def test_nothing_is_stored_in_a_file_that_nobody_will_open_again(
        self, tmp_path: Path, turn: MakeTurn, then: str
    ) -> None:
        """The turn is not acknowledged, so it waits in the spool; opened anew, the store takes it."""
        path = tmp_path / "home.db"
        with closing(open_store(f"sqlite:///{path}")) as store:
            store.add_turns([turn()])
        shutil.copy(path, tmp_path / "backup.db")
        store = open_store(f"sqlite:///{path}")
        store.add_turns([turn()])
        path.unlink()
        if then == "replaced":
            (tmp_path / "backup.db").rename(path)
        late = turn("said later")
        with pytest.raises(StoreUnavailableError, match="removed or replaced while it was open"):
            store.add_turns([late])
        store.close()
        for left in tmp_path.glob("home.db-*"):
            left.unlink()
        with closing(open_store(f"sqlite:///{path}")) as store:
            assert store.add_turns([late]) == 1 and store.counts()["requests"] == (2 if then == "replaced" else 1)


class TestForgettingOnDisk:
    def test_no_word_of_a_deleted_user_stays_in_the_file(self, tmp_path: Path, turn: MakeTurn) -> None:
        """Neither in the rows nor in the pages of the full-text index."""
        path = tmp_path / "home.db"
        store = open_store(f"sqlite:///{path}")
        store.add_turns([turn("the xylophonist sleeps"), turn("keep me", user_id="bob")])
        store.add_learnings([UserProfile(user_id="ada", content="plays the zitherquartz")])
        store.search_interactions(SearchInteractionRequest(user_id="ada", query="xylophonist"))
        store.delete_user("ada")
        store.close()
        left = b"".join(file.read_bytes() for file in tmp_path.iterdir())
        assert b"keep me" in left
        assert b"xylophonist" not in left and b"zitherquartz" not in left

    @pytest.mark.parametrize("end", ["store.close()", "os._exit(0)"])
    def test_the_words_leave_a_large_index_soon_whatever_becomes_of_the_process(
        self, tmp_path: Path, turn: MakeTurn, end: str
    ) -> None:
        """The delete does not wait for it; a process that ends meanwhile leaves it to the next one."""
        path = tmp_path / "home.db"
        with closing(open_store(f"sqlite:///{path}")) as store:
            words = [f"word{number}" for number in range(4000)]
            store.add_turns([turn(*(" ".join(words[at : at + 40]) for at in range(0, 4000, 40))) for _ in range(10)])
            store.add_turns([turn("the xylophonist sleeps", session_id="s2")])
            store.search_interactions(SearchInteractionRequest(user_id="ada", query="xylophonist"))
        deleting = f"store = open_store(sys.argv[1]); assert store.delete_session('s2').requests == 1; {end}"
        answer(run(f"import os, sys\nfrom reflexio_store.homes import open_store\n{deleting}", f"sqlite:///{path}"))
        store = open_store(f"sqlite:///{path}")
        assert isinstance(store, SqlStore)
        assert store.wait_for_compaction(20)
        store.close()
        assert b"xylophonist" not in b"".join(file.read_bytes() for file in tmp_path.iterdir())

    def test_a_large_index_is_compacted_in_steps(self, tmp_path: Path, turn: MakeTurn) -> None:
        """What remains to be done is noted with the delete, among the jobs, and is gone from them when it is done."""
        with closing(SqlStore(f"sqlite:///{tmp_path / 'home.db'}")) as store:
            texts = [" ".join(f"word{number}" for number in range(at, at + 40)) for at in range(0, 8000, 40)]
            store.add_turns([turn(*texts) for _ in range(10)])
            store.search_interactions(SearchInteractionRequest(user_id="ada", query="word1"))
            store.delete_requests([store.read_session("ada", "s1")[0].request.request_id])
            assert store.counts()["jobs_ready"] in (1, 2)
            assert store.wait_for_compaction(20)
            assert store.counts()["jobs_ready"] == 1
            assert store.job_states("learn")[0].key == "s1"

    def test_words_that_go_while_others_are_made_away_with_follow_them(self, tmp_path: Path, turn: MakeTurn) -> None:
        """Nobody has to delete something else before they leave the pages of their index."""
        with closing(SqlStore(f"sqlite:///{tmp_path / 'home.db'}")) as store:
            texts = [" ".join(f"word{number}" for number in range(at, at + 40)) for at in range(0, 8000, 40)]
            store.add_turns([turn(*texts, session_id=f"s{number}") for number in range(20)], learn_after=None)
            old = UserProfile(user_id="ada", profile_id="p", content="plays the zitherquartz")
            store.add_learnings([old])
            store.search_interactions(SearchInteractionRequest(user_id="ada", query="word1"))
            store.delete_session("s1")
            store.add_learnings([old.model_copy(update={"content": "plays the flute"})])
            wait_until(lambda: b"zitherquartz" not in b"".join(map(Path.read_bytes, tmp_path.iterdir())))

    def test_a_learning_that_is_deleted_leaves_the_pages_as_well(self, tmp_path: Path) -> None:
        """The history, which keeps what it said before it was reworded, goes with it."""
        with closing(open_store(f"sqlite:///{tmp_path / 'home.db'}")) as store:
            said = ("plays the zitherquartz", "lives in Xanthippolis")
            ids = store.add_learnings([UserProfile(user_id="ada", content=text) for text in said])
            store.delete_learnings("profile", ids[:1])
            store.update_learning("profile", ids[1], {"content": "lives in Bonn"})
            store.delete_learnings("profile", ids[1:])
        left = b"".join(file.read_bytes() for file in tmp_path.iterdir()).lower()
        assert b"zitherquartz" not in left and b"xanthippoli" not in left and b"bonn" not in left

    @pytest.mark.parametrize("replace", ["add", "import", "promote"])
    def test_words_that_were_replaced_leave_the_pages_soon(self, tmp_path: Path, replace: str) -> None:
        """As those that were deleted do, without anybody waiting for it."""
        old = UserProfile(user_id="ada", profile_id="p", content="plays the zitherquartz")
        new = old.model_copy(update={"content": "plays the flute"})
        with closing(SqlStore(f"sqlite:///{tmp_path / 'home.db'}")) as store:
            store.add_learnings([old])
            if replace == "add":
                store.add_learnings([new])
            elif replace == "import":
                assert store.put_records([new]).replaced == 1
            else:
                store.update_learning("profile", "p", {"status": Status.ARCHIVED})
                store.add_learnings([new.model_copy(update={"profile_id": "q", "status": Status.PENDING})])
                assert store.promote("profile").deleted == 1
            assert store.wait_for_compaction(20)
        left = b"".join(file.read_bytes() for file in tmp_path.iterdir())
        assert b"zitherquartz" not in left and b"flute" in left

    def test_a_home_that_made_away_with_words_closes_twice(self, tmp_path: Path) -> None:
        """Closing again asks no more what is owed."""
        store = open_store(f"sqlite:///{tmp_path / 'home.db'}")
        for content in ("plays the zither", "plays the flute"):
            store.add_learnings([UserProfile(user_id="ada", profile_id="p", content=content)])
        store.close()
        store.close()

    def test_only_words_that_go_are_a_reason_to_rewrite_the_index(self, turn: MakeTurn) -> None:
        """Not what is added, confirmed, merged or superseded."""
        with closing(SqlStore("sqlite://")) as store:
            for number, content in enumerate(("Likes tea.", "Likes tea.", "Loves tea.", "Hates tea.")):
                store.add_turns([turn(request_id=str(number))], learn_after=None)
                learning = UserProfile(user_id="ada", content=content)
                evidence = (Evidence(request_id=str(number)),)
                store.apply("ada", [Change("add", "profile", learning, evidence=evidence)])
            assert store.counts()["jobs_ready"] == 0

    def test_an_index_that_another_connection_rewrote_is_no_damage(self, tmp_path: Path, turn: MakeTurn) -> None:
        """A check finds a sound file sound, though this reader knew other pages of it."""
        query = SearchInteractionRequest(user_id="ada", query="tea")
        with closing(open_store(f"sqlite:///{tmp_path / 'home.db'}")) as store:
            for number in range(3):
                store.add_turns([turn("tea please", session_id=f"s{number}")])
                store.search_interactions(query)
            store.delete_session("s1")
            assert [finding.message for finding in store.check() if finding.level == "error"] == []


class TestDeletes:
    def test_a_delete_of_many_lets_others_write_in_between(self, tmp_path: Path, turn: MakeTurn) -> None:
        """Also of one session, and of requests by their ids: another connection gets its turns in before the end."""
        with closing(open_store(f"sqlite:///{tmp_path / 'home.db'}")) as store:
            store.add_turns([turn() for _ in range(1500)])
            with closing(open_store(f"sqlite:///{tmp_path / 'home.db'}")) as other:
                deleting = threading.Thread(target=store.delete_session, args=("s1",))
                deleting.start()
                written = 0
                while deleting.is_alive():
                    written += other.add_turns([turn(user_id="bob", session_id="s9")])
                deleting.join()
            assert written > 3
            assert store.counts()["requests"] == written

    def test_a_delete_of_many_counts_all_it_deleted(self, tmp_path: Path, turn: MakeTurn) -> None:
        """Over several transactions, and the session's job once."""
        with closing(open_store(f"sqlite:///{tmp_path / 'home.db'}")) as store:
            turns = [turn() for _ in range(250)]
            store.add_turns(turns)
            assert store.delete_requests([one.request_id for one in turns[:150]]).requests == 150
            receipt = store.delete_session("s1")
            assert (receipt.requests, receipt.interactions, receipt.jobs) == (100, 200, 1)
            assert store.counts()["sessions"] == 0


class TestValues:
    def test_a_profile_expires_when_its_time_has_come(self) -> None:
        """By the clock of the home."""
        now = [1_000_000_000_000_000]
        store = SqlStore("sqlite://", clock=lambda: now[0])
        lives = UserProfile(user_id="ada", content="tea", last_modified_timestamp=1, expiration_timestamp=1_000_000_010)
        store.add_learnings([lives])
        query = LearningQuery(user_id="ada", query="tea")
        assert len(store.search_learnings("profile", query)) == 1
        now[0] += 10_000_000
        assert store.search_learnings("profile", query) == [] and store.get_learnings("profile", query) == []
        store.close()

    @pytest.mark.parametrize("name", ["half \ud83d pair"])
    def test_half_a_surrogate_pair_in_a_question_is_refused(self, name: str) -> None:
        """It cannot be stored, so it cannot be asked for."""
        store = open_store("sqlite://")
        with pytest.raises(InvalidInputError, match="surrogate"):
            store.read_session(name, "s1")
        store.close()

    def test_a_time_beyond_64_bits_does_not_lose_the_turn(self, turn: MakeTurn) -> None:
        """It is bounded."""
        store = open_store("sqlite://")
        odd = turn()
        odd.interactions = [InteractionRecord("User", "hello", created_at=10**30)]
        assert store.add_turns([odd]) == 1
        store.close()


def _use(store: object) -> None:
    assert isinstance(store, SqlStore)
    try:
        store.counts()
        store.get_requests(GetRequestsRequest(top_k=1000))
        store.search_interactions(SearchInteractionRequest(user_id="ada", query="words"))
    finally:
        store.close()


def test_vectors_beyond_the_memory_for_them_are_compared_in_pieces(tmp_path: Path) -> None:
    """The same answers, and nothing kept that does not fit."""
    learnings = [UserProfile(user_id="ada", profile_id=str(n), content=f"n{n}") for n in range(40)]
    asked, meaning = LearningQuery(user_id="ada", query="", top_k=5), Meaning("m", [1.0, 0.0, 0.0])
    answers = []
    for number, most in enumerate((0, 200, 100_000)):
        with closing(SqlStore(f"sqlite:///{tmp_path / str(number)}.db", vector_bytes=most)) as store:
            store.add_learnings(learnings)
            lacking = store.unembedded("m")
            store.put_vectors("m", {item.number: [1.0, float(item.text[1:]), 0.5] for item in lacking})
            for _ in range(2):
                hits = store.search({"profile": asked}, meaning=meaning, mode="vector")["profile"]
                answers.append([(hit.learning.content, hit.cosine) for hit in hits])
    assert answers[0][0][0] == "n0" and all(answer == answers[0] for answer in answers)
