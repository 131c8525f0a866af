"""Learnings put in, read, changed and deleted by hand."""

from __future__ import annotations

from typing import Any

import pytest

from reflexio_store.contract import Store
from reflexio_store.errors import InvalidInputError
from reflexio_store.models import (
    AgentPlaybook,
    BlockingIssue,
    BlockingIssueKind,
    Evidence,
    LearningQuery,
    PlaybookStatus,
    ProfileTimeToLive,
    Status,
    UserPlaybook,
    UserProfile,
)
from tests.store.conformance.asking import (
    profiles_of,
    search_profiles,
)


class TestLearnings:
    @pytest.mark.needs("evidence")
    def test_a_learning_comes_back_as_it_was_given(self, store: Store) -> None:
        """All three kinds, with an id made for each."""
        profile = UserProfile(
            user_id="ada",
            content="Likes tea",
            custom_features={"a": 1},
            tags=["drink"],
            extractor_names=["statements"],
            source_interaction_ids=[1],
            profile_time_to_live=ProfileTimeToLive.ONE_YEAR,
            evidence=[Evidence(request_id="r", interaction_index=2)],
        )
        issue = BlockingIssue(kind=BlockingIssueKind.MISSING_TOOL, details="no kettle")
        rule = UserPlaybook(user_id="ada", trigger="make tea", content="Boil water", blocking_issue=issue, tags=["x"])
        shared = AgentPlaybook(agent_version="v1", content="Be kind", playbook_status=PlaybookStatus.APPROVED)
        made = store.add_learnings([profile, rule, shared])
        assert all(made)
        for kind, expected, name, number in (
            ("profile", profile, "profile_id", made[0]),
            ("user_playbook", rule, "user_playbook_id", int(made[1])),
            ("agent_playbook", shared, "agent_playbook_id", int(made[2])),
        ):
            [found] = store.get_learnings(kind, LearningQuery())  # type: ignore[arg-type]
            given = expected.model_copy(update={name: number})
            assert (found, repr(found)) == (given, repr(given))  # a word would equal the enum that it stands for

    @pytest.mark.needs("ids of each user")
    def test_a_known_id_is_replaced_for_its_user_only(self, store: Store) -> None:
        """Two users may use the same id, and neither touches the other's."""
        store.add_learnings([UserProfile(profile_id="p", user_id=user, content="old") for user in ("ada", "bob")])
        store.add_learnings([UserProfile(profile_id="p", user_id="ada", content="new")])
        assert (profiles_of(store, "ada"), profiles_of(store, "bob")) == (["new"], ["old"])
        assert search_profiles(store, "ada", "old") == [] and search_profiles(store, "ada", "new") == ["new"]

    def test_only_current_and_living_learnings_come_unasked(self, store: Store) -> None:
        """Others by status; expired ones never."""
        store.add_learnings(
            [
                UserProfile(user_id="ada", content="tea now"),
                UserProfile(user_id="ada", content="tea pending", status=Status.PENDING),
                UserProfile(user_id="ada", content="tea past", expiration_timestamp=1),
            ]
        )
        for look in (profiles_of, lambda *args, **query: search_profiles(args[0], args[1], "tea", **query)):
            assert look(store, "ada") == ["tea now"]
            assert look(store, "ada", status_filter=[Status.PENDING]) == ["tea pending"]
            assert sorted(look(store, "ada", status_filter=[None, Status.PENDING])) == ["tea now", "tea pending"]
            assert look(store, "ada", status_filter=[]) == []

    def test_filters_hold_together(self, store: Store) -> None:
        """Agent version, name, source, tags, time to live, ids, window and approval."""
        store.add_learnings(
            [
                UserPlaybook(user_playbook_id=1, user_id="ada", content="tea", tags=["a", "b"], agent_version="v1"),
                UserPlaybook(user_playbook_id=2, user_id="ada", content="tea", tags=["a"], agent_version="v2"),
                UserPlaybook(user_playbook_id=3, user_id="ada", content="tea", playbook_name="n", source="web"),
                UserPlaybook(user_playbook_id=4, user_id="ada", content="tea", created_at=50),
            ]
        )

        def found(**query: Any) -> set[int]:
            listed = store.get_learnings("user_playbook", LearningQuery(user_id="ada", **query))
            searched = store.search_learnings("user_playbook", LearningQuery(user_id="ada", query="tea", **query))
            ids_listed = {item.user_playbook_id for item in listed if isinstance(item, UserPlaybook)}
            assert ids_listed == {
                hit.learning.user_playbook_id for hit in searched if isinstance(hit.learning, UserPlaybook)
            }
            return ids_listed

        assert found(tags=["a"]) == {1, 2} and found(tags=["a", "b"]) == {1}
        assert found(agent_version="v2") == {2} and found(playbook_name="n", source="web") == {3}
        assert found(end_time=51) == {4} and found(ids=["2", "4", "no number", "-1", "9" * 30]) == {2, 4}
        assert found(source_request_id="r") == set() and found(ids=[]) == set()

    def test_an_update_changes_what_it_names(self, store: Store) -> None:
        """Content, with its full text; a profile then counts as modified now."""
        [made] = store.add_learnings([UserProfile(user_id="ada", content="Likes tea", last_modified_timestamp=5)])
        assert store.update_learning("profile", made, {"content": "Likes coffee"})
        [found] = store.get_learnings("profile", LearningQuery(user_id="ada"))
        assert isinstance(found, UserProfile)
        assert found.content == "Likes coffee" and found.last_modified_timestamp > 5
        assert search_profiles(store, "ada", "tea") == [] and search_profiles(store, "ada", "coffee") == [found.content]

    def test_an_update_of_the_status_moves_it_out_of_sight(self, store: Store) -> None:
        """An archived learning is neither listed nor found."""
        [made] = store.add_learnings([UserProfile(user_id="ada", content="Likes tea")])
        assert store.update_learning("profile", made, {"status": Status.ARCHIVED}, user_id="ada")
        assert profiles_of(store, "ada") == [] and search_profiles(store, "ada", "tea") == []
        assert search_profiles(store, "ada", "tea", status_filter=[Status.ARCHIVED]) == ["Likes tea"]

    def test_an_unknown_learning_is_not_updated(self, store: Store) -> None:
        """Nor one of another user, nor one whose id cannot be."""
        tea = UserProfile(user_id="ada", content="Likes tea")
        made, rule = store.add_learnings([tea, UserPlaybook(user_id="ada", content="Be brief.")])
        assert not store.update_learning("profile", "unknown", {"content": "x"})
        assert not store.update_learning("profile", made, {"content": "x"}, user_id="bob")
        for name in ("not a number", f"0{rule}"):
            assert not store.update_learning("user_playbook", name, {"content": "x"})
        assert profiles_of(store, "ada") == ["Likes tea"]

    def test_a_value_without_a_form_in_json_is_refused(self, store: Store) -> None:
        """Nothing of the batch is stored."""
        odd = UserProfile(user_id="ada", content="odd", custom_features={"a": object()})
        with pytest.raises(InvalidInputError, match="JSON"):
            store.add_learnings([UserProfile(user_id="ada", content="good"), odd])
        assert store.counts()["profiles"] == 0

    def test_a_whole_number_beyond_64_bits_keeps_all_its_digits(self, store: Store) -> None:
        """As text: databases' readers would round it. One that Python itself does not write is told by its size."""
        numbers = {"wei": 10**30 + 1, "n": -1, "yes": True, "endless": 1 << 20_000}
        store.add_learnings([UserProfile(user_id="ada", content="rich", custom_features=numbers)])
        [found] = store.get_learnings("profile", LearningQuery(user_id="ada"))
        kept = {"wei": f"{10**30 + 1}", "n": -1, "yes": True, "endless": "<int of 20001 bits>"}
        assert isinstance(found, UserProfile) and found.custom_features == kept

    @pytest.mark.parametrize("fields", [{"user_id": "bob"}, {"colour": 1}, {"content": ""}, {"status": "odd"}])
    def test_an_unusable_update_is_refused(self, store: Store, fields: dict[str, Any]) -> None:
        """The error names the field, and nothing changes."""
        [made] = store.add_learnings([UserProfile(user_id="ada", content="Likes tea")])
        with pytest.raises(InvalidInputError, match=next(iter(fields))):
            store.update_learning("profile", made, fields)
        assert profiles_of(store, "ada") == ["Likes tea"]

    @pytest.mark.needs("ids of each user")
    def test_an_update_without_a_user_never_guesses_between_two(self, store: Store) -> None:
        """The same id at two users needs a user."""
        store.add_learnings([UserProfile(profile_id="p", user_id=user, content="x") for user in ("ada", "bob")])
        with pytest.raises(InvalidInputError, match="user_id"):
            store.update_learning("profile", "p", {"content": "y"})
        assert store.update_learning("profile", "p", {"content": "y"}, user_id="bob")
        assert profiles_of(store, "ada") == ["x"]

    def test_deletes_count_what_was_there(self, store: Store) -> None:
        """By id, of a user, and all."""
        made = store.add_learnings([UserProfile(user_id=user, content="tea") for user in ("ada", "ada", "bob")])
        assert store.delete_learnings("profile", [made[0], "unknown"]) == 1
        assert store.delete_learnings("profile", [made[2]], user_id="ada") == 0
        assert store.delete_learnings("profile", None, user_id="ada") == 1
        assert store.delete_learnings("profile", None) == 1
        assert search_profiles(store, "ada", "tea") == []
