"""Which of several values is current, and that a person's word is last."""

from __future__ import annotations

import pytest

from reflexio_store.contract import Applied, Change, Store
from reflexio_store.models import (
    Evidence,
    LearningQuery,
    Status,
    UserPlaybook,
    UserProfile,
)
from tests.store.conformance.asking import (
    MakeTurn,
    add,
    id_of,
    profiles_of,
    search_profiles,
    tell,
)


@pytest.mark.needs("evidence")
class TestCorrectingByHand:
    def test_what_was_deleted_is_not_learned_again_from_the_same_messages(self, store: Store, turn: MakeTurn) -> None:
        """Not by the next run, not in other spelling; only a new message says it anew."""
        first, second = tell(store, turn, "Likes tea", "s1"), tell(store, turn, "likes tea.", "s2")
        store.apply("ada", [first])
        assert store.delete_learnings("profile", [id_of(store)], user_id="ada") == 1
        assert store.apply("ada", [first]) == Applied()
        assert store.apply("ada", [Change("add", "profile", second.learning, evidence=first.evidence)]) == Applied()
        assert profiles_of(store, "ada") == []
        assert store.apply("ada", [second]) == Applied(profiles_added=1)
        assert store.apply("ada", [first]) == Applied(profiles_updated=1)

    @pytest.mark.parametrize("owner", [None, "ada"])
    def test_deleting_all_of_a_kind_is_remembered_too(self, store: Store, turn: MakeTurn, owner: str | None) -> None:
        """Of the user, or of everyone."""
        told = tell(store, turn, "Likes tea", "s1")
        store.apply("ada", [told])
        assert store.delete_learnings("profile", None, user_id=owner) == 1
        assert store.apply("ada", [told]) == Applied()

    def test_what_was_corrected_stays_corrected(self, store: Store, turn: MakeTurn) -> None:
        """However often the session is learned from again, and although the two share a slot."""
        told, later = tell(store, turn, "Name: Eve", "s1"), tell(store, turn, "Name: Adam", "s2", at=4_000_000_000)
        store.apply("ada", [told])
        for content in ("Name: Eva", "Name: Ewa"):
            assert store.update_learning("profile", id_of(store), {"content": content}, user_id="ada")
            assert store.apply("ada", [told]) == Applied()
            assert profiles_of(store, "ada") == [content]
        assert search_profiles(store, "ada", "eve") == []
        assert store.apply("ada", [later]) == Applied(profiles_added=1)
        assert profiles_of(store, "ada") == ["Name: Adam"]

    def test_a_rule_whose_trigger_was_corrected_stays_corrected(self, store: Store, turn: MakeTurn) -> None:
        """A change of its tags alone is no correction of what it says."""
        stored = turn()
        store.add_turns([stored])
        evidence = (Evidence(request_id=stored.request_id),)
        change = Change("add", "user_playbook", UserPlaybook(trigger="deploy", content="Run tests"), evidence=evidence)
        store.apply("ada", [change])
        name = id_of(store, "user_playbook")
        assert store.update_learning("user_playbook", name, {"tags": ["mine"]})
        assert store.update_learning("user_playbook", name, {"trigger": "release"})
        assert store.apply("ada", [change]) == Applied()
        assert id_of(store, "user_playbook") == name

    def test_users_do_not_correct_each_other(self, store: Store, turn: MakeTurn) -> None:
        """The same words from the same request id, deleted for one, are learned for the other."""
        mine = turn(request_id="same")
        store.add_turns([mine, turn(user_id="bob", request_id="same")])
        change = add("Likes tea", ("same", 0))
        store.apply("ada", [change])
        store.delete_learnings("profile", None, user_id="ada")
        assert store.apply("bob", [change]) == Applied(profiles_added=1)

    @pytest.mark.parametrize("forget", ["request", "session", "user"])
    def test_a_correction_is_forgotten_with_the_messages_it_names(
        self, store: Store, turn: MakeTurn, forget: str
    ) -> None:
        """The same request stored anew is a new one."""
        stored = turn()
        change = add("Likes tea", (stored.request_id, 0))
        store.add_turns([stored])
        store.apply("ada", [change])
        store.delete_learnings("profile", None, user_id="ada")
        if forget == "request":
            store.delete_requests([stored.request_id])
        else:
            assert (store.delete_session("s1") if forget == "session" else store.delete_user("ada")).requests == 1
        store.add_turns([stored], restore=True)
        assert store.apply("ada", [change]) == Applied(profiles_added=1)

    def test_what_a_run_retired_may_be_deleted_with_its_session_and_learned_again(
        self, store: Store, turn: MakeTurn
    ) -> None:
        """Forgetting and retiring are no corrections by hand."""
        first, second = tell(store, turn, "Likes tea", "s1"), tell(store, turn, "Likes tea", "s2")
        store.apply("ada", [first])
        store.apply("ada", [Change("retire", "profile", learning_id=id_of(store), evidence=first.evidence)])
        store.delete_session("s1")
        assert store.apply("ada", [second]) == Applied(profiles_added=1)


@pytest.mark.needs("evidence")
class TestSucceeding:
    def test_forgetting_a_correction_restores_what_it_corrected(self, store: Store, turn: MakeTurn) -> None:
        """Current, searchable, and superseded by nothing."""
        store.apply("ada", [tell(store, turn, "Name: Eve", "e1"), tell(store, turn, "Name: Adam", "e2")])
        assert search_profiles(store, "ada", "eve") == []
        assert store.delete_session("e2").profiles == 1
        [found] = store.get_learnings("profile", LearningQuery(user_id="ada"))
        assert isinstance(found, UserProfile)
        assert (found.content, found.status, found.superseded_by) == ("Name: Eve", None, None)
        assert search_profiles(store, "ada", "eve") == ["Name: Eve"]

    @pytest.mark.parametrize("order", [[0, 1, 2], [2, 1, 0], [0, 2, 1], [1, 2, 0]])
    @pytest.mark.parametrize(
        ("gone", "left"), [("e1", "Name: C"), ("e2", "Name: C"), ("e3", "Name: B"), ("e2 e3", "Name: A")]
    )
    def test_whatever_goes_the_newest_that_is_left_is_current(
        self, store: Store, turn: MakeTurn, order: list[int], gone: str, left: str
    ) -> None:
        """One alone, in whatever order the three were learned."""
        told = [
            tell(store, turn, f"Name: {name}", session) for name, session in zip("ABC", ("e1", "e2", "e3"), strict=True)
        ]
        for number in order:
            store.apply("ada", [told[number]])
        for session in gone.split():
            store.delete_session(session)
        assert profiles_of(store, "ada") == [left]
        assert store.apply("ada", told).profiles_added == 0
        assert profiles_of(store, "ada") == [left]

    def test_a_value_told_twice_is_restored_once(self, store: Store, turn: MakeTurn) -> None:
        """The two that said it, learned in an order that kept both, do not both become current."""
        old, again, new = (tell(store, turn, name, session) for name, session in (("A", "1"), ("A", "2"), ("B", "3")))
        for change in (old, new, again):
            store.apply("ada", [change])
        store.delete_session("3")
        assert profiles_of(store, "ada") == ["A"]

    def test_rules_follow_one_another_within_their_agent_version(self, store: Store, turn: MakeTurn) -> None:
        """By the time of their messages, and back again when the newer one is forgotten."""
        turns = [turn(session_id=name) for name in ("old", "new")]
        store.add_turns(turns)
        old, new, other = (
            Change(
                "add",
                "user_playbook",
                UserPlaybook(content=content, agent_version=version, tags=["slot:language"]),
                evidence=(Evidence(request_id=stored.request_id),),
            )
            for content, version, stored in (
                ("German", "v1", turns[0]),
                ("Greek", "v1", turns[1]),
                ("Thai", "v2", turns[0]),
            )
        )
        assert store.apply("ada", [new, old, other]) == Applied(playbooks_added=3)

        def current() -> list[str]:
            return sorted(item.content for item in store.get_learnings("user_playbook", LearningQuery(user_id="ada")))

        assert current() == ["Greek", "Thai"]
        assert store.delete_session("new").user_playbooks == 1
        assert current() == ["German", "Thai"]

    def test_deleting_the_newer_value_by_hand_restores_the_older(self, store: Store, turn: MakeTurn) -> None:
        """And the next run changes nothing."""
        told = [tell(store, turn, "Name: Eve", "e1"), tell(store, turn, "Name: Adam", "e2")]
        store.apply("ada", told)
        store.delete_learnings("profile", [id_of(store)], user_id="ada")
        assert profiles_of(store, "ada") == ["Name: Eve"]
        assert store.apply("ada", told) == Applied()
        assert search_profiles(store, "ada", "name") == ["Name: Eve"]

    def test_a_value_told_earlier_but_learned_later_is_not_current(self, store: Store, turn: MakeTurn) -> None:
        """It is kept as superseded, and learning it again changes nothing."""
        old, new = tell(store, turn, "Name: Eve", "e1"), tell(store, turn, "Name: Adam", "e2")
        store.apply("ada", [new])
        assert store.apply("ada", [old]) == Applied(profiles_added=1)
        assert store.apply("ada", [old, new]) == Applied()
        assert profiles_of(store, "ada") == ["Name: Adam"]
        assert search_profiles(store, "ada", "eve") == []
        [found] = store.get_learnings("profile", LearningQuery(user_id="ada", status_filter=[Status.SUPERSEDED]))
        assert isinstance(found, UserProfile)
        assert (found.content, found.superseded_by) == ("Name: Eve", id_of(store))

    def test_a_value_confirmed_late_is_as_old_as_the_message_that_confirms_it(
        self, store: Store, turn: MakeTurn
    ) -> None:
        """Not as new as the run that learned so."""
        told = [tell(store, turn, name, session) for name, session in (("Eve", "1"), ("Eve", "2"), ("Adam", "3"))]
        for change in told:
            store.apply("ada", [change])
        assert profiles_of(store, "ada") == ["Adam"]

    def test_of_two_turns_in_one_second_the_later_one_counts(self, store: Store, turn: MakeTurn) -> None:
        """Down to the microsecond; and within a turn, by the order of its messages."""
        old = tell(store, turn, "Name: Eve", "e1", at=1_700_000_500.000_001)
        new = tell(store, turn, "Name: Adam", "e2", at=1_700_000_500.000_002)
        store.apply("ada", [new])
        store.apply("ada", [old])
        assert profiles_of(store, "ada") == ["Name: Adam"]

    def test_a_statement_made_before_an_edit_by_hand_does_not_undo_it(self, store: Store, turn: MakeTurn) -> None:
        """The edit is the newest statement."""
        first, second = tell(store, turn, "Name: Eve", "e1"), tell(store, turn, "Name: Adam", "e2")
        store.apply("ada", [first])
        store.update_learning("profile", id_of(store), {"content": "Name: Eva"}, user_id="ada")
        store.apply("ada", [second])
        assert profiles_of(store, "ada") == ["Name: Eva"]
