"""What every home promises of how far extractors have read, and of what models took."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reflexio_store import ids
from reflexio_store.contract import Reading, Store, Unlearned, Usage
from reflexio_store.homes import open_store
from reflexio_store.moving import JobRecord

from .asking import MakeTurn, quick

pytestmark = pytest.mark.needs("extractors")


def names(reading: Reading) -> list[str]:
    """The requests of a reading in order, the new ones in capitals."""
    shown = [data.request.request_id for data in reading.requests]
    assert reading.new <= set(shown)
    return [name.upper() if name in reading.new else name for name in shown]


def read(store: Store, extractor: str = "", *, context: int = 2, limit: int = 10, **options: object) -> list[str]:
    return names(store.read_unlearned("ada", "s1", extractor, context=context, limit=limit, **options))  # type: ignore[arg-type]


class TestReading:
    def test_only_what_is_new_is_read_with_a_little_before_it(self, store: Store, turn: MakeTurn) -> None:
        """The requests before it are shown, as many as are asked for."""
        store.add_turns([turn(request_id=name) for name in "abcd"])
        assert read(store) == ["A", "B", "C", "D"]
        store.mark_learned("ada", "s1", "", ["a", "b", "c", "d"])
        assert read(store) == []
        store.add_turns([turn(request_id="e")])
        assert read(store) == ["c", "d", "E"]
        assert read(store, context=0) == ["E"]

    def test_a_turn_that_arrives_late_is_not_passed_over(self, store: Store, turn: MakeTurn) -> None:
        """Its place in the session is its own time; what was read around it is shown, up to the last new one."""
        store.add_turns([turn(request_id=name, at=100 * at) for at, name in enumerate("abcdef", 1)])
        store.mark_learned("ada", "s1", "", list("abcdef"))
        store.add_turns([turn(request_id="x", at=250)])
        assert read(store) == ["a", "b", "X"]
        store.add_turns([turn(request_id="y", at=450)])
        assert read(store) == ["a", "b", "X", "c", "d", "Y"]
        assert read(store, limit=2) == ["a", "b", "X"]
        store.mark_learned("ada", "s1", "", ["x"])
        assert read(store) == ["c", "d", "Y"]

    def test_a_piece_that_is_passed_over_stays_unread(self, store: Store, turn: MakeTurn) -> None:
        """The next one is read meanwhile."""
        store.add_turns([turn(request_id=name) for name in "abc"])
        assert read(store, limit=2) == ["A", "B"]
        assert read(store, limit=2, skip=["a", "b"]) == ["a", "b", "C"]
        assert store.read_unlearned("ada", "s1", "", context=0, limit=2).more
        assert not store.read_unlearned("ada", "s1", "", context=0, limit=3).more
        assert len(store.unlearned("ada", "s1")) == 3

    def test_nobodys_turns_and_evaluations_are_not_unread(self, store: Store, turn: MakeTurn) -> None:
        """Nor what is stored while learning is off."""
        store.add_turns([turn(user_id=""), turn(options={"evaluation_only": True})])
        store.add_turns([turn()], learn_after=None)
        assert store.unlearned("ada", "s1") == store.unlearned("", "s1") == []

    def test_what_is_deleted_is_read_by_nobody(self, store: Store, turn: MakeTurn) -> None:
        """Neither a request nor a user leaves anything."""
        store.add_turns([turn(request_id=name) for name in "ab"])
        store.delete_requests(["a"])
        assert read(store) == ["B"]
        store.delete_user("ada")
        assert read(store) == []
        assert store.unlearned("ada", "s1") == []

    def test_a_turn_is_stored_and_unread_once(self, store: Store, turn: MakeTurn) -> None:
        """Also when it is delivered again after it was read."""
        made = turn(request_id="a")
        store.add_turns([made])
        store.mark_learned("ada", "s1", "", ["a"])
        store.add_turns([made])
        assert store.unlearned("ada", "s1") == []


class TestHandingOver:
    def test_each_extractor_reads_at_its_own_pace(self, store: Store, turn: MakeTurn) -> None:
        """What is handed over is unread for each of them, and marked for each alone."""
        store.add_turns([turn("one", "two", "three", request_id="a"), turn(request_id="b")])
        store.hand_over("ada", "s1", ["x", "y"])
        store.hand_over("ada", "s1", ["x", "y"])
        assert read(store) == []
        store.mark_learned("ada", "s1", "x", ["a"])
        assert (read(store, "x"), read(store, "y")) == (["a", "B"], ["A", "B"])
        store.add_turns([turn(request_id="c", options={"force_extraction": True})])
        store.hand_over("ada", "s1", ["x"])
        waiting = store.unlearned("ada", "s1")
        assert waiting[0] == Unlearned("x", "b", 2, False)
        assert Unlearned("x", "c", 2, True) in waiting and Unlearned("y", "a", 3, False) in waiting
        assert len(waiting) == 4

    def test_handing_over_to_nobody_forgets_what_was_new(self, store: Store, turn: MakeTurn) -> None:
        """There is nobody to read it."""
        store.add_turns([turn()])
        store.hand_over("ada", "s1", [])
        assert store.unlearned("ada", "s1") == []

    def test_forcing_makes_all_that_waits_due(self, store: Store, turn: MakeTurn) -> None:
        """The jobs of every extractor, of the user and the session that are named."""
        store.add_turns([turn(), turn(session_id="s2"), turn(user_id="bob")], learn_after=3600)
        store.hand_over("ada", "s1", ["llm"])
        store.put_job("learn.llm", "s1", user_id="ada", due_after=3600)
        assert store.force_learning(user_id="eve") == 0
        assert store.force_learning(user_id="ada", session_id="s1") == 1
        assert [turn.forced for turn in store.unlearned("ada", "s1")] == [True]
        due = [job.kind for kind in ("learn", "learn.llm") if (job := store.claim_job(kind, lease_seconds=60))]
        assert due == ["learn", "learn.llm"]
        assert store.claim_job("learn", lease_seconds=60) is None
        assert store.force_learning() == 3

    @quick
    @given(arrivals=st.lists(st.tuples(st.integers(1, 40), st.booleans()), min_size=1, max_size=25))
    def test_every_turn_is_read_exactly_once_in_whatever_order_they_come(
        self, shared_store: Store, turn: MakeTurn, arrivals: list[tuple[int, bool]]
    ) -> None:
        """By each extractor, in pieces of any size."""
        user, read_by, stored = ids.uuid7(), {"x": [], "y": []}, []  # type: ignore[var-annotated]
        for at, read_now in arrivals:
            made = turn(user_id=user, at=float(at))
            shared_store.add_turns([made])
            stored.append(made.request_id)
            for name in read_by if read_now else ():
                shared_store.hand_over(user, "s1", ["x", "y"])
                piece = shared_store.read_unlearned(user, "s1", name, context=1, limit=3)
                shared_store.mark_learned(user, "s1", name, sorted(piece.new))
                read_by[name] += piece.new
        shared_store.hand_over(user, "s1", ["x", "y"])
        for name, seen in read_by.items():
            while (piece := shared_store.read_unlearned(user, "s1", name, context=1, limit=3)).new:
                shared_store.mark_learned(user, "s1", name, sorted(piece.new))
                seen += piece.new
            assert sorted(seen) == sorted(stored)


class TestUsage:
    def test_calls_of_a_day_are_summed(self, store: Store) -> None:
        """By user, extractor and model."""
        one = Usage("ada", "2026-01-02", "llm", "m", 1, 10, 2, 5)
        for usage in (one, one, Usage("bob", "2026-01-02", "llm", "m", 1, 1, 1, 1)):
            store.add_usage(usage)
        store.add_usage(Usage("ada", "2026-01-01", "llm", "n", 1, 7, 7, 7))
        assert store.spent("2026-01-02") == (26, 11)
        assert store.spent("2026-01-02", user_id="ada") == (24, 10)
        assert store.spent("2026-01-03") == (0, 0)
        assert store.get_usage(since="2026-01-01", user_id="ada") == [
            Usage("ada", "2026-01-02", "llm", "m", 2, 20, 4, 10),
            Usage("ada", "2026-01-01", "llm", "n", 1, 7, 7, 7),
        ]
        assert len(store.get_usage(since="2026-01-02")) == 2

    def test_what_was_spent_on_a_user_who_is_forgotten_stays_in_the_sums(self, store: Store) -> None:
        """Without the user's name."""
        for user in ("ada", "bob"):
            store.add_usage(Usage(user, "2026-01-02", "llm", "m", 1, 10, 2, 5))
            store.delete_user(user)
        assert store.get_usage(since="2026-01-01") == [Usage("", "2026-01-02", "llm", "m", 2, 20, 4, 10)]


class TestMoving:
    def test_a_session_of_which_it_is_not_known_what_was_read_is_unread_as_a_whole(
        self, store: Store, turn: MakeTurn
    ) -> None:
        """By the extractors that have an open job; with one that is done, none of it is."""
        store.add_turns([turn(request_id="a"), turn(request_id="b", session_id="s2")])
        job = store.claim_job("learn", lease_seconds=60)
        assert job is not None
        store.mark_learned(job.user_id, job.key, "", ["a", "b"])
        assert store.finish_job(job, {})
        store.put_job("learn.llm", job.key, user_id="ada")
        with closing(open_store("sqlite://")) as other:
            for page in (store.read_records("request"), store.read_records("job")):
                other.put_records(
                    [replace(item, rereads=True) if isinstance(item, JobRecord) else item for item in page.records]
                )
            unread = [
                (one.extractor, one.interactions) for name in ("s1", "s2") for one in other.unlearned("ada", name)
            ]
        assert sorted(unread) == [("", 2), ("llm", 2)]


class TestFreshMessages:
    def test_what_is_unread_is_found_by_a_word_at_the_end_of_a_long_message(self, store: Store, turn: MakeTurn) -> None:
        """A message has more words than a query may have."""
        store.add_turns([turn(f"{' '.join(f'word{number}' for number in range(60))} parachute")])
        [found] = store.fresh_messages("ada", "my parachute", except_session="", limit=10)
        assert (found.coverage, round(found.share, 3)) == (1.0, round(1 / 61, 3))

    def test_what_is_unread_of_other_sessions_is_found_by_its_words(self, store: Store, turn: MakeTurn) -> None:
        """Newest first, of this user alone, only what the user said; gone as soon as it is read."""
        store.add_turns(
            [
                turn("the red train leaves", "the train, I see", at=10, request_id="r1", session_id="s1"),
                turn("trains are late", "so they are", at=30, request_id="r2", session_id="s2"),
                turn("the train is here", "good", at=40, request_id="r3", session_id="here"),
                turn("a train of mine", "yes", at=50, user_id="bob"),
            ]
        )

        def found() -> list[str]:
            fresh = store.fresh_messages("ada", "red trains", except_session="here", limit=10)
            return [item.message.content for item in fresh]

        assert found() == ["trains are late", "the red train leaves"]
        best = store.fresh_messages("ada", "red trains", except_session="here", limit=10)[1]
        assert (best.coverage, round(best.share, 2)) == (1.0, 0.67)
        assert len(store.fresh_messages("ada", "train", except_session="", limit=1)) == 1
        assert store.fresh_messages("ada", "?!", except_session="", limit=1) == []
        store.hand_over("ada", "s2", ["statements", "llm"])
        assert found() == ["trains are late", "the red train leaves"]
        for extractor in ("statements", "llm"):
            store.mark_learned("ada", "s2", extractor, ["r2"])
        assert found() == ["the red train leaves"]
        store.delete_user("ada")
        assert found() == []
