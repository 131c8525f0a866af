"""Time to live: what is true for a time only is never shown after it, and is deleted soon."""

from __future__ import annotations

import time

import pytest

from reflexio_store.contract import Store
from reflexio_store.models import LearningQuery, Status, UserProfile
from tests.store.conformance.asking import EVERY, MakeTurn, id_of, learn, learn_from, profiles_of, search_profiles

NOW = int(time.time())
DAY = 86_400


@pytest.mark.needs("times")
class TestExpiring:
    @pytest.mark.parametrize(
        ("lifetime", "days"),
        [("one_day", 1), ("one_week", 7), ("one_month", 30), ("one_quarter", 90), ("one_year", 365)],
    )
    def test_a_profile_is_shown_for_as_long_as_it_lives(self, store: Store, lifetime: str, days: int) -> None:
        """Counted from when it was last confirmed, to within the minute that this test may take."""
        for content, said in (("Lived.", NOW - days * DAY - 60), ("Lives.", NOW - days * DAY + 600)):
            fields = {"content": content, "profile_time_to_live": lifetime, "last_modified_timestamp": said}
            store.add_learnings([UserProfile.model_validate({"user_id": "ada", **fields})])
        assert profiles_of(store, "ada") == profiles_of(store, "ada", status_filter=EVERY) == ["Lives."]
        assert search_profiles(store, "ada", "lived lives") == ["Lives."]

    def test_what_never_expires_stays(self, store: Store) -> None:
        """However old it is."""
        store.add_learnings([UserProfile(user_id="ada", content="Old.", last_modified_timestamp=1)])
        assert store.purge_expired() == 0
        assert profiles_of(store, "ada") == ["Old."]


@pytest.mark.needs("extractors")
class TestPurging:
    def test_what_expired_is_purged_and_nothing_comes_back(self, store: Store, turn: MakeTurn) -> None:
        """It is neither found, counted nor kept, and is not learned again from the old message."""
        learn(store, turn, "Lives in Porto.", tags=["slot:home"])
        week = {"tags": ["slot:home"], "profile_time_to_live": "one_week"}
        said = learn(store, turn, "Lives in Rome this week.", **week)
        assert profiles_of(store, "ada") == ["Lives in Porto."]  # said in 2023: the week was over before it was learned
        store.add_learnings([UserProfile(user_id="ada", content="Is in Oslo today.", expiration_timestamp=NOW - DAY)])
        assert (store.counts()["profiles"], profiles_of(store, "ada")) == (1, ["Lives in Porto."])
        assert search_profiles(store, "ada", "Oslo") == []
        assert (store.purge_expired(), store.purge_expired()) == (1, 0)
        learn_from(store, said, "Lives in Rome this week.", **week)
        assert profiles_of(store, "ada", status_filter=EVERY) == ["Lives in Porto."]
        assert store.history("profile", user_id="ada")[0].action == "expired"
        assert store.history("profile", user_id="ada")[0].content == ""

    def test_the_purge_is_asked_for_when_the_first_profile_ends(self, store: Store, turn: MakeTurn) -> None:
        """One job for all users, brought forward by what ends sooner, and never put off."""
        for ends in (NOW + 5 * DAY, NOW + 2 * DAY, NOW + 9 * DAY):
            profile = UserProfile(user_id=f"of {ends}", content="For a while.", expiration_timestamp=ends)
            store.add_learnings([profile])
        [job] = store.job_states("purge")
        assert (job.user_id, job.state, job.due_us) == ("", "ready", (NOW + 2 * DAY + 1) * 1_000_000)

    def test_confirming_it_lets_it_live_on(self, store: Store, turn: MakeTurn) -> None:
        """From the newer message."""
        fields = {"profile_time_to_live": "one_week"}
        for at in (NOW - 6 * DAY, NOW - DAY):
            said = turn("hello", at=at)
            store.add_turns([said])
            learn_from(store, said.request_id, "Is on holiday.", **fields)
        [found] = store.get_learnings("profile", LearningQuery(user_id="ada"))
        assert isinstance(found, UserProfile)
        assert found.expiration_timestamp == NOW + 6 * DAY

    def test_a_superseded_one_expires_too(self, store: Store, turn: MakeTurn) -> None:
        """So that forgetting the newer one does not bring back what is over."""
        store.add_learnings([
            UserProfile(user_id="ada", content="Over.", status=Status.SUPERSEDED, expiration_timestamp=NOW - 1)
        ])  # fmt: skip
        assert store.purge_expired() == 1
        learn(store, turn, "Likes tea.")
        store.delete_learnings("profile", [id_of(store)], user_id="ada")
        assert profiles_of(store, "ada", status_filter=EVERY) == []
