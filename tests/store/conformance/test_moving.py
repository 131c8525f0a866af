"""Giving and taking in all that a home keeps."""

from __future__ import annotations

from contextlib import closing

import pytest

from reflexio_store import ids
from reflexio_store.contract import Store
from reflexio_store.errors import InvalidInputError
from reflexio_store.homes import open_store
from reflexio_store.models import (
    AgentPlaybook,
    Evidence,
    LearningQuery,
    SessionOutcome,
    Status,
    UserPlaybook,
    UserProfile,
)
from reflexio_store.moving import (
    RECORD_KINDS,
    Dismissal,
    Erasure,
    Event,
    JobRecord,
    OptOut,
    Record,
    RecordKind,
    Stored,
    Support,
)
from reflexio_store.records import TurnRecord
from reflexio_store.terms import Supporter, Unlearned, Usage
from tests.store.conformance.asking import MakeTurn, search_profiles

whole = pytest.mark.needs("whole records")


def everything(store: Store, limit: int = 500, user_id: str | None = None) -> dict[RecordKind, list[Record]]:
    read: dict[RecordKind, list[Record]] = {}
    for kind in RECORD_KINDS:
        read[kind], cursor = [], None
        while True:
            page = store.read_records(kind, user_id=user_id, cursor=cursor, limit=limit)
            assert len(page.records) <= limit
            read[kind] += page.records
            cursor = page.next_cursor
            if cursor is None:
                break
    return read


def told(read: dict[RecordKind, list[Record]]) -> list[str]:
    return sorted(repr(record) for records in read.values() for record in records)


def some(turn: MakeTurn, user: str) -> list[Record]:
    made = turn("I like tea", "Good", user_id=user, at=1_700_000_000.123456, options={"force_extraction": True})
    place = Evidence(request_id=made.request_id, interaction_index=0)
    return [
        made,
        UserProfile(profile_id="a", user_id=user, content="Likes tea.", evidence=[place], expiration_timestamp=1),
        UserProfile(profile_id="b", user_id=user, content="Liked tea.", status=Status.SUPERSEDED, superseded_by="a"),
        UserPlaybook(user_playbook_id=1, user_id=user, content="Offer tea.", evidence=[place], status=Status.ARCHIVED),
        Dismissal(user, "profile", "digest", made.request_id, 0),
        SessionOutcome(session_id="s1", user_id=user, outcome="success", occurred_at=7, created_at=8, value=0.5),
        OptOut(user, 9),
        Event(user, "e1", 10, "profile", "b", "superseded", "Liked tea.", "a", made.request_id),
        Usage(user, "2026-01-01", "llm", "small", 1, 2, 3, 4),
        JobRecord(user, "learn", "s1", "dead", 5, 6, "it broke", {"a": 1}, {"b": 2}),
    ]


SHARED = AgentPlaybook(agent_playbook_id=1, agent_version="v1", content="Warm the pot.", trigger="tea")
RESTS_ON = Support("v1", 1, 2, "digest", (Supporter("ada", 1, "digest"), Supporter("bob", 1, "digest")))


@whole
def test_what_was_put_is_read_as_it_was(store: Store, turn: MakeTurn) -> None:
    """Each record whole, and each once, however small the pages."""
    records = [*some(turn, "ada"), *some(turn, "bob"), SHARED, RESTS_ON]
    records += [Erasure("digest", 11), Usage("", "2026-01-01", "llm", "small", 5)]
    assert store.put_records(records) == Stored(new=24)
    records[records.index(SHARED)] = SHARED.model_copy(update={"support": 2})
    for limit in (1, 2, 500):
        assert told(everything(store, limit)) == sorted(map(repr, records))
    assert store.losses() == []


@whole
def test_of_one_user_only_what_is_held_on_this_user_is_read(store: Store, turn: MakeTurn) -> None:
    """Agent playbooks are nobody's."""
    mine = some(turn, "ada")
    store.put_records([*mine, *some(turn, "bob"), SHARED])
    assert told(everything(store, user_id="ada")) == sorted(map(repr, mine))


@whole
def test_putting_again_changes_nothing(store: Store, turn: MakeTurn) -> None:
    """Within one call, too."""
    records = [*some(turn, "ada"), SHARED, RESTS_ON]
    assert store.put_records([*records, *records]) == Stored(new=12, same=12)
    before = everything(store)
    assert store.put_records(records) == Stored(same=12)
    assert everything(store) == before


@whole
def test_another_value_replaces_a_learning_and_no_request(store: Store, turn: MakeTurn) -> None:
    """Its evidence and its full text follow; dismissals and jobs stay as they are."""
    old = turn("one", "two")
    new = turn("three", request_id=old.request_id)
    store.put_records([old, UserProfile(profile_id="a", user_id="ada", content="Likes tea.")])
    store.put_records([JobRecord("ada", "learn", "s1", "done")])
    place = [Evidence(request_id=old.request_id, interaction_index=1)]
    profile = UserProfile(profile_id="a", user_id="ada", content="Likes coffee.", evidence=place)
    assert store.put_records([new, profile, JobRecord("ada", "learn", "s1")]) == Stored(same=1, replaced=1, differ=1)
    assert search_profiles(store, "ada", "tea") == [] and search_profiles(store, "ada", "coffee") == ["Likes coffee."]
    assert store.get_learnings("profile", LearningQuery(user_id="ada")) == [profile]
    assert len(store.read_session("ada", "s1")[0].interactions) == 2
    assert store.job_states("learn")[0].state == "done"


@whole
def test_the_learnings_of_two_users_with_one_id_stay_apart(store: Store) -> None:
    """What is put for one never takes the place of another's."""
    for user in ("ada", "bob"):
        assert store.put_records([UserProfile(profile_id="a", user_id=user, content=f"Is {user}.")]) == Stored(new=1)
    assert search_profiles(store, "ada", "ada bob") == ["Is ada."]


@whole
def test_no_work_is_asked_for_but_that_of_the_jobs(store: Store, turn: MakeTurn) -> None:
    """A job that ran elsewhere is ready here, and can be finished."""
    store.put_records([turn()])
    assert store.job_states("learn") == []
    store.put_records([JobRecord("ada", "learn", "s1")])
    job = store.claim_job("learn", lease_seconds=60)
    assert job is not None and store.finish_job(job, {})
    assert store.job_states("learn")[0].state == "done"


@whole
def test_of_sums_and_erasures_the_larger_value_counts(store: Store) -> None:
    """In whatever order they come, and however often."""
    used = Usage("ada", "2026-01-01", "llm", "small", calls=5, prompt_tokens=10)
    store.put_records([used, Erasure("digest", 7)])
    older = Usage("ada", "2026-01-01", "llm", "small", calls=4, prompt_tokens=20)
    assert store.put_records([older, older, Erasure("digest", 6)]) == Stored(replaced=1, same=2)
    both = Usage("ada", "2026-01-01", "llm", "small", calls=5, prompt_tokens=20)
    assert everything(store)["usage"] == [both] and everything(store)["erasure"] == [Erasure("digest", 7)]
    assert store.put_records([older, used, Erasure("digest", 8)]) == Stored(replaced=1, same=2)
    assert everything(store)["erasure"] == [Erasure("digest", 8)]


@whole
def test_what_was_erased_is_refused_where_the_digest_arrives(store: Store, turn: MakeTurn) -> None:
    """A turn of it that waits in some spool is not stored; one that moves in on purpose is."""
    late = turn("forget this")
    store.add_turns([late], learn_after=None)
    store.delete_user("ada")
    (noted,) = everything(store)["erasure"]
    assert isinstance(noted, Erasure)
    with closing(open_store("sqlite://")) as other:
        other.put_records([noted])
        assert other.add_turns([late]) == 0 and other.counts()["erasures"] == 1
        assert other.put_records([late]) == Stored(new=1)


@whole
def test_only_what_was_unread_is_unread_where_it_arrives(store: Store, turn: MakeTurn) -> None:
    """By the extractors that had not read it; and a turn that is there is not unread once more."""
    read, fresh, private = turn("one"), turn("two", options={"force_extraction": True}), turn("three")
    store.add_turns([read, fresh])
    store.hand_over("ada", "s1", ["facts", "llm"])
    store.mark_learned("ada", "s1", "facts", [read.request_id, fresh.request_id])
    store.mark_learned("ada", "s1", "llm", [read.request_id])
    store.add_turns([private], learn_after=None)
    records = [record for kind in RECORD_KINDS for record in everything(store)[kind]]
    with closing(open_store("sqlite://")) as other:
        other.put_records(records)
        unread = [Unlearned("llm", fresh.request_id, 1, forced=True)]
        assert other.unlearned("ada", "s1") == unread == store.unlearned("ada", "s1")
        assert told(everything(other)) == told(everything(store))
        other.mark_learned("ada", "s1", "llm", [fresh.request_id])
        other.put_records(records)
        assert other.unlearned("ada", "s1") == []


@whole
def test_a_turn_that_is_unread_is_learned_from_though_its_session_was_learned_here(
    store: Store, turn: MakeTurn
) -> None:
    """Its agent spoke here before the older turns moved in; a second time nothing is asked for."""
    old, new = turn("said before", at=1_700_000_000), turn("said here", at=1_700_000_100)
    with closing(open_store("sqlite://")) as other:
        other.add_turns([old])
        records = [record for kind in RECORD_KINDS for record in everything(other)[kind]]
    store.add_turns([new])
    for _ in range(2):
        job = store.claim_job("learn", lease_seconds=60)
        assert job is not None and store.finish_job(job, {})
        store.mark_learned("ada", "s1", "", [old.request_id, new.request_id])
        store.put_records(records)
        assert store.job_states("learn")[0].state == ("ready" if store.unlearned("ada", "s1") else "done")
        if store.job_states("learn")[0].state == "done":
            break
    else:
        pytest.fail("the session is asked for again and again")


@whole
def test_moving_in_is_no_event_of_its_own(store: Store, turn: MakeTurn) -> None:
    """The history of a learning is the one it came with."""
    store.put_records(some(turn, "ada"))
    assert [entry.action for entry in store.history("profile", user_id="ada")] == ["superseded"]
    assert store.counts()["events"] == 1


@whole
def test_a_message_that_was_deleted_leaves_its_place_empty(store: Store, turn: MakeTurn) -> None:
    """The others are where they were, wherever the request goes: their evidence would name others else."""
    stored = turn("one", "two", "three")
    store.add_turns([stored], learn_after=None)
    store.delete_interaction("ada", ids.interaction_id(stored.request_id, 1))
    [moved] = everything(store)["request"]
    assert isinstance(moved, TurnRecord) and [item.place for item in moved.interactions] == [None, 2]
    store.delete_requests([stored.request_id])
    assert store.put_records([moved]) == Stored(new=1)
    [data] = store.read_session("ada", "s1")
    assert [item.interaction_id for item in data.interactions] == [
        ids.interaction_id(stored.request_id, place) for place in (0, 2)
    ]


@pytest.mark.parametrize("cursor", ["x", "", "W10=", "bnVsbA=="])
def test_a_cursor_that_is_none_is_refused(store: Store, cursor: str) -> None:
    """With what to do instead."""
    with pytest.raises(InvalidInputError, match="is not a next_cursor"):
        store.read_records("profile", cursor=cursor)
