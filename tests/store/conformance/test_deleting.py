"""Deleting turns, and what rested on them alone."""

from __future__ import annotations

import time

import pytest

from reflexio_store import ids
from reflexio_store.contract import Receipt, Store
from reflexio_store.models import (
    Evidence,
    LearningQuery,
    UserPlaybook,
    UserProfile,
)
from tests.store.conformance.asking import (
    MakeTurn,
    add,
    profiles_of,
    requests_of,
    search_profiles,
    sessions_of,
)


class TestForgetting:
    def test_unknown_names_are_no_error(self, store: Store) -> None:
        """The receipt is empty."""
        assert store.delete_requests(["nothing"]) == Receipt()
        assert store.delete_requests([]) == Receipt()
        assert store.delete_session("nothing") == Receipt()
        assert store.delete_user("nobody") == Receipt()

    @pytest.mark.needs("evidence")
    def test_a_request_goes_with_what_rested_on_it_alone(self, store: Store, turn: MakeTurn) -> None:
        """Shared learnings lose that evidence, manual ones stay, and the session is counted anew."""
        gone, stays = turn("I am called Ada", "Hello"), turn("I like tea", "Good")
        store.add_turns([gone, stays])
        changes = [
            add("Called Ada", (gone.request_id, 0)),
            add("Likes tea", (gone.request_id, 1), (stays.request_id, 0)),
        ]
        store.apply("ada", changes)
        store.add_learnings([UserProfile(user_id="ada", content="By hand")])
        receipt = store.delete_requests([gone.request_id])
        assert receipt == Receipt(requests=1, interactions=2, profiles=1)
        assert sorted(profiles_of(store, "ada")) == ["By hand", "Likes tea"]
        assert search_profiles(store, "ada", "called") == []
        [tea] = store.get_learnings("profile", LearningQuery(user_id="ada", source_request_id=stays.request_id))
        assert isinstance(tea, UserProfile)
        assert tea.evidence == [Evidence(request_id=stays.request_id, interaction_index=0)]
        assert tea.generated_from_request_id == stays.request_id
        assert tea.source_interaction_ids == [ids.interaction_id(stays.request_id, 0)]
        assert requests_of(store) == [stays.request_id]

    def test_a_request_of_another_user_is_not_deleted(self, store: Store, turn: MakeTurn) -> None:
        """Where a user is named, only theirs goes."""
        stored = turn(user_id="bob")
        store.add_turns([stored])
        assert store.delete_requests([stored.request_id], user_id="ada") == Receipt()
        assert store.delete_requests([stored.request_id], user_id="bob").requests == 1

    @pytest.mark.needs("evidence", "jobs")
    def test_a_session_goes_with_its_learnings_and_its_job(self, store: Store, turn: MakeTurn) -> None:
        """Of the named user only; of all users where none is named."""
        turns = [turn(user_id=user) for user in ("ada", "bob", "eve")]
        store.add_turns([*turns, turn(session_id="s2")], learn_after=0)
        store.apply("ada", [add("Fact", (turns[0].request_id, 0))])
        assert store.delete_session("s1", user_id="ada") == Receipt(requests=1, interactions=2, profiles=1, jobs=1)
        assert sorted(sessions_of(store)) == ["s1", "s1", "s2"]
        assert store.delete_session("s1") == Receipt(requests=2, interactions=4, jobs=2)
        assert sessions_of(store) == ["s2"]
        assert [state.key for state in store.job_states("learn")] == ["s2"]

    @pytest.mark.needs("jobs")
    def test_a_user_goes_with_everything(self, store: Store, turn: MakeTurn) -> None:
        """More sessions than one transaction takes, learnings by hand, jobs; others keep theirs."""
        mine = [turn(session_id=f"s{number}") for number in range(120)]
        store.add_turns([*mine, turn("keep", user_id="bob")], learn_after=0)
        store.add_learnings([UserProfile(user_id=user, content="Fact") for user in ("ada", "bob")])
        store.add_learnings([UserPlaybook(user_id="ada", content="Rule")])
        receipt = store.delete_user("ada")
        assert receipt == Receipt(requests=120, interactions=240, profiles=1, user_playbooks=1, jobs=120)
        assert sessions_of(store, user_id="ada") == []
        assert profiles_of(store, "ada") == [] and profiles_of(store, "bob") == ["Fact"]
        assert store.counts()["jobs_ready"] == 1
        assert not [finding for finding in store.check() if finding.level == "error"]

    @pytest.mark.needs("jobs")
    def test_what_nobody_said_goes_and_the_work_for_all_stays(self, store: Store, turn: MakeTurn) -> None:
        """Its jobs are nobody's as well."""
        store.add_turns([turn(user_id="")])
        store.put_job("aggregate", "v1")
        assert store.delete_user("") == Receipt(requests=1, interactions=2)
        assert [job.key for job in store.job_states("aggregate")] == ["v1"]

    def test_a_session_after_a_partial_delete_stands_where_its_requests_say(self, store: Store, turn: MakeTurn) -> None:
        """Deleting the newest request moves the session back in the listing."""
        old, middle, new = turn(session_id="a"), turn(session_id="b"), turn(session_id="a")
        store.add_turns([old, middle, new])
        store.delete_requests([new.request_id])
        assert sessions_of(store) == ["b", "a"]
        store.delete_requests([old.request_id])
        assert sessions_of(store) == ["b"]


@pytest.mark.parametrize("user_id", ["ada", None])
@pytest.mark.parametrize("what", ["request", "session", "all"])
def test_a_turn_is_deleted_before_it_is_stored(store: Store, turn: MakeTurn, what: str, user_id: str | None) -> None:
    """It still waits in some spool, and is refused; what is not deleted, and what is said later, is not."""
    waiting, other = turn(request_id="r1"), turn(session_id="s2", user_id="ben")
    receipt = {
        "request": lambda: store.delete_requests(["r0", "r1"], user_id=user_id),
        "session": lambda: store.delete_session("s1", user_id=user_id),
        "all": lambda: store.delete_requests(None, user_id=user_id),
    }[what]()
    assert receipt == Receipt()
    spared = [] if what == "all" and user_id is None else [other]
    assert store.add_turns([waiting, other]) == len(spared)
    assert store.add_turns([turn("later", request_id="r1", at=time.time() + 60)]) == 1


@pytest.mark.parametrize("what", ["request", "session", "all"])
def test_what_waits_of_another_user_is_stored_though_the_same_is_deleted_of_one(
    store: Store, turn: MakeTurn, what: str
) -> None:
    """Users may name their sessions and requests alike."""
    if what == "request":
        store.delete_requests(["r1"], user_id="ada")
    elif what == "session":
        store.delete_session("s1", user_id="ada")
    else:
        store.delete_requests(None, user_id="ada")
    assert store.add_turns([turn(request_id="r1", user_id="ben")]) == 1
