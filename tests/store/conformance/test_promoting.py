"""What every home promises of learnings made anew beside the current ones."""

from __future__ import annotations

import pytest

from reflexio_store.contract import Change, Promoted, Store
from reflexio_store.models import Evidence, LearningQuery, Status, UserPlaybook, UserProfile

from .asking import MakeTurn

pytestmark = pytest.mark.needs("extractors")


def learn(
    store: Store, turn: MakeTurn, content: str, *, status: Status | None = None, slot: str = "", user_id: str = "ada"
) -> None:
    made = turn(content, user_id=user_id)
    store.add_turns([made])
    evidence = (Evidence(request_id=made.request_id, interaction_index=0),)
    profile = UserProfile(user_id=user_id, content=content, tags=[slot] if slot else [])
    store.apply(user_id, [Change("add", "profile", profile, evidence=evidence)], status=status)


def standing(store: Store, user_id: str = "ada") -> dict[str | None, list[str]]:
    """The profiles of a user by status, sorted."""
    statuses = (None, Status.PENDING, Status.ARCHIVED, Status.SUPERSEDED)
    return {
        status: sorted(
            item.content
            for item in store.get_learnings("profile", LearningQuery(user_id=user_id, status_filter=[status]))
        )
        for status in statuses
    }


def test_what_is_made_beside_the_current_ones_touches_none_of_them(store: Store, turn: MakeTurn) -> None:
    """The same words stand in both, and once in each."""
    learn(store, turn, "Likes tea.")
    for _ in range(2):
        learn(store, turn, "Likes tea.", status=Status.PENDING)
    learn(store, turn, "Likes jam.", status=Status.PENDING)
    assert standing(store)[None] == ["Likes tea."]
    assert standing(store)[Status.PENDING] == ["Likes jam.", "Likes tea."]
    found = store.search_learnings("profile", LearningQuery(user_id="ada", query="jam"))
    assert found == []


def test_pending_ones_take_the_place_of_the_current_ones_and_give_it_back(store: Store, turn: MakeTurn) -> None:
    """Archived ones go at the next upgrade; search sees what is current."""
    learn(store, turn, "Old.")
    learn(store, turn, "New.", status=Status.PENDING)
    assert store.promote("profile", user_id="ada") == Promoted(deleted=0, archived=1, promoted=1)
    assert (standing(store)[None], standing(store)[Status.ARCHIVED]) == (["New."], ["Old."])
    assert [hit.learning.content for hit in store.search_learnings("profile", _asking("new"))] == ["New."]
    assert store.demote("profile", user_id="ada") == Promoted(archived=1, promoted=1)
    assert (standing(store)[None], standing(store)[Status.ARCHIVED]) == (["Old."], ["New."])
    learn(store, turn, "Newest.", status=Status.PENDING)
    assert store.promote("profile") == Promoted(deleted=1, archived=1, promoted=1)
    assert (standing(store)[None], standing(store)[Status.ARCHIVED]) == (["Newest."], ["Old."])
    assert store.promote("profile") == Promoted()


def test_of_the_values_of_a_slot_the_one_told_last_becomes_current(store: Store, turn: MakeTurn) -> None:
    """In whatever order they were learned anew."""
    first, second = turn("Rome", at=100), turn("Porto", at=200)
    store.add_turns([first, second])
    for made, city in ((second, "Porto"), (first, "Rome")):
        evidence = (Evidence(request_id=made.request_id, interaction_index=0),)
        profile = UserProfile(user_id="ada", content=f"Lives in {city}.", tags=["slot:home"])
        store.apply("ada", [Change("add", "profile", profile, evidence=evidence)], status=Status.PENDING)
    store.promote("profile")
    assert standing(store)[None] == ["Lives in Porto."]
    store.delete_requests([second.request_id])
    assert standing(store)[None] == ["Lives in Rome."]


def test_users_with_nothing_pending_keep_what_they_have(store: Store, turn: MakeTurn) -> None:
    """Unless all are asked for."""
    for user_id in ("ada", "bob"):
        learn(store, turn, "Old.", user_id=user_id)
    learn(store, turn, "New.", status=Status.PENDING)
    store.promote("profile")
    assert standing(store, "bob")[None] == ["Old."]
    assert store.promote("profile", only_affected=False) == Promoted(deleted=1, archived=2, promoted=0)
    assert standing(store, "bob")[Status.ARCHIVED] == ["Old."]


def test_playbooks_are_promoted_by_version_and_name(store: Store, turn: MakeTurn) -> None:
    """Others stay pending."""
    made = turn()
    store.add_turns([made])
    evidence = (Evidence(request_id=made.request_id, interaction_index=0),)
    for version in ("v1", "v2"):
        rule = UserPlaybook(user_id="ada", agent_version=version, content="Be brief.", playbook_name="tone")
        store.apply("ada", [Change("add", "user_playbook", rule, evidence=evidence)], status=Status.PENDING)
    assert store.promote("user_playbook", agent_version="v1", playbook_name="other") == Promoted()
    assert store.promote("user_playbook", agent_version="v1", playbook_name="tone").promoted == 1
    [current] = store.get_learnings("user_playbook", LearningQuery(user_id="ada"))
    assert isinstance(current, UserPlaybook) and current.agent_version == "v1"


def test_everybody_with_a_session_is_listed_once(store: Store, turn: MakeTurn) -> None:
    """In order, without nobody."""
    store.add_turns([turn(user_id=name, session_id=session) for name in ("bob", "ada", "") for session in "12"])
    assert store.user_ids() == ["ada", "bob"]


def _asking(words: str) -> LearningQuery:
    return LearningQuery(user_id="ada", query=words)
