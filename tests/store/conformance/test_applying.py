"""Applying what an extractor proposes."""

from __future__ import annotations

import pytest

from reflexio_store import ids
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
    profiles_of,
    search_profiles,
)


@pytest.mark.needs("evidence")
class TestApplyingChanges:
    def test_what_is_added_names_its_origin(self, store: Store, turn: MakeTurn) -> None:
        """Request, interactions and evidence; under the user of the session, whatever the extractor wrote."""
        stored = turn()
        store.add_turns([stored])
        applied = store.apply("ada", [add("Likes tea", (stored.request_id, 0))])
        [found] = store.get_learnings("profile", LearningQuery(user_id="ada"))
        assert applied == Applied(profiles_added=1)
        assert isinstance(found, UserProfile)
        assert found.generated_from_request_id == stored.request_id
        assert found.source_interaction_ids == [ids.interaction_id(stored.request_id, 0)]
        assert found.evidence == [Evidence(request_id=stored.request_id, interaction_index=0)]

    def test_a_change_without_evidence_left_is_dropped(self, store: Store, turn: MakeTurn) -> None:
        """Deleted requests, requests of others, and nobody's turns teach nothing."""
        mine, theirs, nobodys = turn(), turn(user_id="bob"), turn(user_id="")
        store.add_turns([mine, theirs, nobodys])
        store.delete_requests([mine.request_id])
        changes = [add("a", (mine.request_id, 0)), add("b", (theirs.request_id, 0)), add("c")]
        assert store.apply("ada", changes) == Applied(dropped=3)
        assert store.apply("", [add("d", (nobodys.request_id, 0))]) == Applied(dropped=1)
        assert store.counts()["profiles"] == 0

    def test_the_same_words_again_are_more_evidence(self, store: Store, turn: MakeTurn) -> None:
        """Not a second learning; and without anything new, nothing at all."""
        first, second = turn(), turn()
        store.add_turns([first, second])
        store.apply("ada", [add("Likes green  tea.", (first.request_id, 0))])
        assert store.apply("ada", [add("likes green tea", (first.request_id, 0))]) == Applied()
        assert store.apply("ada", [add("Likes Green Tea!", (second.request_id, 0))]) == Applied(profiles_updated=1)
        [found] = store.get_learnings("profile", LearningQuery(user_id="ada"))
        assert isinstance(found, UserProfile)
        assert found.content == "Likes green  tea." and len(found.evidence) == 2

    def test_a_new_value_supersedes_the_old_one_of_its_slot(self, store: Store, turn: MakeTurn) -> None:
        """Of that user and slot alone; and repeating the whole session changes nothing more."""
        stored, other = turn(), turn(user_id="bob")
        store.add_turns([stored, other])
        slot = {"tags": ["slot:city"]}
        store.apply("bob", [add("Lives in Paris", (other.request_id, 0), **slot)])
        changes = [
            add("Lives in Paris", (stored.request_id, 0), **slot),
            add("Likes tea", (stored.request_id, 0)),
            add("Lives in Rome", (stored.request_id, 1), **slot),
        ]
        assert store.apply("ada", changes) == Applied(profiles_added=3)
        assert store.apply("ada", changes) == Applied()
        assert sorted(profiles_of(store, "ada")) == ["Likes tea", "Lives in Rome"]
        assert profiles_of(store, "bob") == ["Lives in Paris"]
        [old] = store.get_learnings("profile", LearningQuery(user_id="ada", status_filter=[Status.SUPERSEDED]))
        [new] = store.get_learnings("profile", LearningQuery(user_id="ada", tags=["slot:city"]))
        assert isinstance(old, UserProfile) and isinstance(new, UserProfile)
        assert old.superseded_by == new.profile_id
        assert search_profiles(store, "ada", "paris") == []

    def test_updates_and_retirements_reach_only_their_users_learnings(self, store: Store, turn: MakeTurn) -> None:
        """An unknown id, and one of another user, are dropped."""
        stored, theirs = turn(), turn(user_id="bob")
        store.add_turns([stored, theirs])
        [mine, other] = store.add_learnings([UserProfile(user_id=user, content="old") for user in ("ada", "bob")])
        evidence = (Evidence(request_id=stored.request_id),)

        def update(learning_id: str) -> Change:
            learning = UserProfile(profile_id=learning_id, user_id="ada", content="new")
            return Change("update", "profile", learning, evidence=evidence)

        assert store.apply("ada", [update(mine), update(other)]) == Applied(profiles_updated=1, dropped=1)
        assert (profiles_of(store, "ada"), profiles_of(store, "bob")) == (["new"], ["old"])
        retire = [Change("retire", "profile", learning_id=name, evidence=evidence) for name in (mine, other)]
        assert store.apply("ada", retire) == Applied(retired=1, dropped=1)
        assert (profiles_of(store, "ada"), profiles_of(store, "bob")) == ([], ["old"])

    def test_playbooks_are_the_same_by_trigger_content_and_version(self, store: Store, turn: MakeTurn) -> None:
        """Another agent version is another rule."""
        stored = turn()
        store.add_turns([stored])
        evidence = (Evidence(request_id=stored.request_id),)
        rules = [
            UserPlaybook(trigger="deploy", content="Run tests", agent_version=version) for version in ("v1", "v1", "v2")
        ]
        changes = [Change("add", "user_playbook", rule, evidence=evidence) for rule in rules]
        assert store.apply("ada", changes) == Applied(playbooks_added=2)
        [first] = store.get_learnings("user_playbook", LearningQuery(user_id="ada", agent_version="v2"))
        assert isinstance(first, UserPlaybook)
        assert (first.request_id, first.user_id) == (stored.request_id, "ada")
