"""Deleting single messages, and what rested on them alone."""

from __future__ import annotations

import pytest

from reflexio_store import ids
from reflexio_store.contract import Applied, Receipt, Store
from reflexio_store.models import (
    Evidence,
    GetInteractionsRequest,
    GetRequestsRequest,
    LearningQuery,
    SearchInteractionRequest,
    UserProfile,
)
from reflexio_store.records import TurnRecord
from tests.store.conformance.asking import MakeTurn, add, profiles_of, search_profiles, sessions_of


def message(turn: TurnRecord, place: int) -> int:
    return ids.interaction_id(turn.request_id, place)


def found(store: Store, words: str) -> list[str]:
    """The messages that say one of the words themselves, of those that a search finds."""
    query = SearchInteractionRequest(user_id="ada", query=words)
    said = [item.content for item in store.search_interactions(query)]
    return [text for text in said if set(words.lower().split()) & set(text.lower().split())]


@pytest.mark.needs("ids of messages")
class TestForgettingAMessage:
    def test_it_goes_with_what_rested_on_it_alone(self, store: Store, turn: MakeTurn) -> None:
        """Shared learnings lose that evidence; the other messages stay, where they were, and are still found."""
        stored = turn("I am called Ada", "Hello", "I like tea", "Good")
        store.add_turns([stored])
        name = stored.request_id
        store.apply("ada", [add("Called Ada", (name, 0)), add("Likes tea", (name, 0), (name, 2))])
        assert found(store, "called") == ["I am called Ada"]
        receipt = store.delete_interaction("ada", message(stored, 0))
        assert receipt == Receipt(interactions=1, profiles=1)
        assert profiles_of(store, "ada") == ["Likes tea"] and search_profiles(store, "ada", "called") == []
        [tea] = store.get_learnings("profile", LearningQuery(user_id="ada"))
        assert isinstance(tea, UserProfile)
        assert tea.evidence == [Evidence(request_id=name, interaction_index=2)]
        assert (tea.source_interaction_ids, tea.source_span) == ([message(stored, 2)], None)
        left = store.read_session("ada", "s1")[0].interactions
        assert [item.content for item in left] == ["Hello", "I like tea", "Good"]
        assert [item.interaction_id for item in left] == [message(stored, place) for place in (1, 2, 3)]
        assert found(store, "called") == [] and found(store, "tea") == ["I like tea"]
        assert [finding for finding in store.check() if finding.level == "error"] == []

    def test_the_last_message_takes_its_request_with_it(self, store: Store, turn: MakeTurn) -> None:
        """A session without a request goes, too."""
        stored = turn("one", "two")
        store.add_turns([stored], learn_after=0)
        assert store.delete_interaction("ada", message(stored, 0)) == Receipt(interactions=1)
        assert store.delete_interaction("ada", message(stored, 1)) == Receipt(requests=1, interactions=1, jobs=1)
        assert sessions_of(store) == []

    @pytest.mark.parametrize("user", ["bob", "", "nobody"])
    def test_it_is_deleted_for_its_own_user_only(self, store: Store, turn: MakeTurn, user: str) -> None:
        """Nor is an unknown id an error."""
        stored = turn("one", "two")
        store.add_turns([stored])
        assert store.delete_interaction(user, message(stored, 0)) == Receipt()
        assert store.delete_interaction("ada", 5) == Receipt()
        assert store.counts()["interactions"] == 2

    def test_it_teaches_nothing_any_more(self, store: Store, turn: MakeTurn) -> None:
        """A change that was under way while it was deleted is not applied."""
        stored = turn("I am called Ada", "Hello")
        store.add_turns([stored])
        store.delete_interaction("ada", message(stored, 0))
        assert store.apply("ada", [add("Called Ada", (stored.request_id, 0))]) == Applied(dropped=1)

    def test_what_it_had_superseded_is_current_again(self, store: Store, turn: MakeTurn) -> None:
        """As when its request is deleted."""
        stored = turn("I am called Ada", "Hello", "No, Eve", "Sorry")
        store.add_turns([stored])
        for content, place in (("Called Ada", 0), ("Called Eve", 2)):
            store.apply("ada", [add(content, (stored.request_id, place), tags=["slot:name"])])
        assert profiles_of(store, "ada") == ["Called Eve"]
        store.delete_interaction("ada", message(stored, 2))
        assert profiles_of(store, "ada") == ["Called Ada"]

    def test_its_dismissal_goes_with_it(self, store: Store, turn: MakeTurn) -> None:
        """Nothing that was made of its words remains."""
        stored = turn("I am called Ada", "Hello", "I like tea", "Good")
        store.add_turns([stored])
        for content, place in (("Called Ada", 0), ("Likes tea", 2)):
            store.apply("ada", [add(content, (stored.request_id, place))])
        store.delete_learnings("profile", None, user_id="ada")
        assert store.counts()["dismissals"] == 2
        store.delete_interaction("ada", message(stored, 0))
        assert store.counts()["dismissals"] == 1

    def test_it_no_longer_counts_as_shown(self, store: Store, turn: MakeTurn) -> None:
        """What recall put into it was shown nowhere else."""
        stored = turn("one", "two")
        stored.interactions[0].retrieved_learnings = [{"kind": "profile", "learning_id": "p1"}]
        stored.interactions[1].retrieved_learnings = [{"kind": "profile", "learning_id": "p2"}]
        store.add_turns([stored])
        store.delete_interaction("ada", message(stored, 0))
        assert {name: use.shown for name, use in store.uses("profile", ["p1", "p2"]).items()} == {"p2": 1}


class TestAllOfThem:
    def test_all_requests_are_deleted_where_none_is_named(self, store: Store, turn: MakeTurn) -> None:
        """Those of a user, or of everybody; what was added by hand stays."""
        store.add_turns([turn(user_id=user, session_id=f"s{at}") for user in ("ada", "bob") for at in range(60)])
        store.add_learnings([UserProfile(user_id="ada", content="By hand")])
        assert store.delete_requests(None, user_id="ada").requests == 60
        assert store.delete_requests(None).interactions == 120
        assert store.get_requests(GetRequestsRequest()).sessions == []
        assert profiles_of(store, "ada") == ["By hand"]

    def test_the_newest_messages_of_all_users_come_by_their_requests(self, store: Store, turn: MakeTurn) -> None:
        """The newest request first, its last message first."""
        store.add_turns([turn(f"q{at}", f"a{at}", user_id=user) for at, user in enumerate(("ada", "bob", "eve"))])
        newest = store.get_interactions(GetInteractionsRequest(top_k=3))
        assert [(item.user_id, item.content) for item in newest] == [("eve", "a2"), ("eve", "q2"), ("bob", "a1")]
