"""What becomes of a learning that repeats, refines or contradicts an old one, and what is left when it is forgotten."""

from __future__ import annotations

import pytest

from reflexio_store.contract import Change, Store
from reflexio_store.models import Evidence, LearningQuery, Status, UserPlaybook, UserProfile
from tests.store.conformance.asking import EVERY, MakeTurn, id_of, learn, learn_from

pytestmark = pytest.mark.needs("extractors")


def current(store: Store, statuses: list[Status | None] | None = None) -> list[str]:
    found = store.get_learnings("profile", LearningQuery(user_id="ada", status_filter=statuses))
    return sorted(item.content for item in found)


def test_other_words_for_the_same_are_merged(store: Store, turn: MakeTurn) -> None:
    """The first wording stays; and however often they are said again, no row is added."""
    learn(store, turn, "Likes coffee.")
    for _ in range(5):
        learn(store, turn, "Loves coffee.")
        learn(store, turn, "Really likes coffee.")
    assert current(store) == ["Likes coffee."]
    assert current(store, EVERY) == ["Likes coffee.", "Loves coffee.", "Really likes coffee."]


def test_what_was_merged_takes_the_place_of_what_is_forgotten(store: Store, turn: MakeTurn) -> None:
    """The fact stays as long as any message says it, in the words of a message that is left."""
    first = learn(store, turn, "Likes coffee.")
    second = learn(store, turn, "Loves coffee.")
    third = learn(store, turn, "Really likes coffee.")
    store.delete_requests([first])
    assert len(current(store)) == 1
    assert "Likes coffee." not in current(store, EVERY)
    store.delete_requests([second])
    assert current(store, EVERY) == ["Really likes coffee."]
    store.delete_requests([third])
    assert current(store, EVERY) == []


def test_a_contradiction_supersedes_and_is_forgotten_again(store: Store, turn: MakeTurn) -> None:
    """Without any slot; in whatever order the two are learned."""
    early, late = turn("I like coffee"), turn("I do not like coffee")
    store.add_turns([early, late])
    learn_from(store, late.request_id, "Does not like coffee.")
    learn_from(store, early.request_id, "Likes coffee.")
    assert current(store) == ["Does not like coffee."]
    store.delete_requests([late.request_id])
    assert current(store) == ["Likes coffee."]


def test_an_addition_takes_the_place_of_the_shorter(store: Store, turn: MakeTurn) -> None:
    """Whichever was said first."""
    learn(store, turn, "Has a dog.")
    longer = learn(store, turn, "Has a dog called Rex.")
    learn(store, turn, "Has a cat, a tabby.")
    learn(store, turn, "Has a cat.")
    assert current(store) == ["Has a cat, a tabby.", "Has a dog called Rex."]
    store.delete_requests([longer])
    assert current(store) == ["Has a cat, a tabby.", "Has a dog."]


def test_different_facts_stay_side_by_side(store: Store, turn: MakeTurn) -> None:
    """Numbers, names and conditions make other facts."""
    facts = ["Has a dog called Bella.", "Has a dog called Rex.", "Has two cats.", "Likes tea at work.", "Likes tea."]
    for fact in facts:
        learn(store, turn, fact)
    assert current(store) == facts


def test_a_fact_deleted_by_hand_takes_all_its_shorter_wordings_along(store: Store, turn: MakeTurn) -> None:
    """Also those that were merged into one which was merged itself later."""
    for fact in ("Has a dog.", "Has a dog called Rex.", "Has a dog called Rex and a cat."):
        learn(store, turn, fact)
    assert store.delete_learnings("profile", [id_of(store)], user_id="ada") == 3
    assert current(store, EVERY) == []


def test_a_wording_stays_merged_where_the_one_between_is_forgotten(store: Store, turn: MakeTurn) -> None:
    """So it goes with the fact that is deleted by hand."""
    _, between, _ = (
        learn(store, turn, fact) for fact in ("Has a dog.", "Has a dog called Rex.", "Has a dog called Rex and a cat.")
    )
    store.delete_requests([between])
    assert current(store, [Status.MERGED]) == ["Has a dog."]
    assert store.delete_learnings("profile", [id_of(store)], user_id="ada") == 2
    assert current(store, EVERY) == []


def test_a_fact_deleted_by_hand_does_not_come_back_in_other_words(store: Store, turn: MakeTurn) -> None:
    """What was merged into it goes with it, and is not learned again from the same messages."""
    learn(store, turn, "Likes coffee.")
    other = learn(store, turn, "Loves coffee.")
    (kept,) = store.get_learnings("profile", LearningQuery(user_id="ada"))
    assert isinstance(kept, UserProfile)
    assert store.delete_learnings("profile", [kept.profile_id], user_id="ada") == 2
    learn_from(store, other, "Loves coffee.")
    assert current(store, EVERY) == []


def test_an_update_keeps_what_was_said_before_for_when_it_is_forgotten(store: Store, turn: MakeTurn) -> None:
    """No word of a deleted message stays, and what it had changed is as it was."""
    learn(store, turn, "Likes tea.")
    (old,) = store.get_learnings("profile", LearningQuery(user_id="ada"))
    assert isinstance(old, UserProfile)
    said = turn("with lemon")
    store.add_turns([said])
    new = UserProfile(user_id="ada", profile_id=old.profile_id, content="Likes tea with lemon.")
    store.apply("ada", [Change("update", "profile", new, evidence=(Evidence(request_id=said.request_id),))])
    (now,) = store.get_learnings("profile", LearningQuery(user_id="ada"))
    assert isinstance(now, UserProfile)
    assert (now.profile_id, now.content) == (old.profile_id, "Likes tea with lemon.")
    store.delete_requests([said.request_id])
    assert current(store, EVERY) == ["Likes tea."]


def test_rules_are_merged_in_their_situation_only(store: Store, turn: MakeTurn) -> None:
    """The same words for another situation are another rule."""
    for content, trigger in (
        ("Answer in German.", "a letter"),
        ("Please reply in German.", "a letter"),
        ("Answer in German.", "a phone call"),
    ):
        said = turn(content)
        store.add_turns([said])
        rule = UserPlaybook(user_id="ada", agent_version="v1", content=content, trigger=trigger)
        store.apply("ada", [Change("add", "user_playbook", rule, evidence=(Evidence(request_id=said.request_id),))])
    found = store.get_learnings("user_playbook", LearningQuery(user_id="ada"))
    assert sorted((item.content, item.trigger) for item in found if isinstance(item, UserPlaybook)) == [
        ("Answer in German.", "a letter"),
        ("Answer in German.", "a phone call"),
    ]
