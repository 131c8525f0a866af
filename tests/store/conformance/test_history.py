"""The change log: what happened to learnings, forgotten with them and with the messages they came from."""

from __future__ import annotations

import pytest

from reflexio_store.contract import Change, Store
from reflexio_store.models import Evidence, Status, UserPlaybook, UserProfile
from tests.store.conformance.asking import MakeTurn, add, id_of, learn

pytestmark = pytest.mark.needs("history")


def told(store: Store, user_id: str = "ada") -> list[tuple[str, str]]:
    return [(entry.action, entry.content) for entry in store.history("profile", user_id=user_id)]


def test_it_tells_what_happened_and_forgets_with_the_messages(store: Store, turn: MakeTurn) -> None:
    """Its words go with the message that they came from."""
    learn(store, turn, "Likes coffee.")
    merged = learn(store, turn, "Loves coffee.")
    turned = learn(store, turn, "Hates coffee.")
    assert told(store) == [
        ("superseded", "Likes coffee."),
        ("added", "Hates coffee."),
        ("merged", "Loves coffee."),
        ("added", "Loves coffee."),
        ("added", "Likes coffee."),
    ]
    store.delete_requests([merged, turned])
    assert {content for _, content in told(store)} == {"Likes coffee."}
    store.delete_user("ada")
    assert store.history("profile") == []


def test_an_entry_names_its_learning_its_request_and_what_took_its_place(store: Store, turn: MakeTurn) -> None:
    """The latest first; of one learning, as many as are wanted."""
    first = learn(store, turn, "Likes coffee.")
    old = id_of(store)
    learn(store, turn, "Hates coffee.")
    new = id_of(store)
    [superseded, added] = store.history("profile", learning_id=old)
    assert (superseded.action, superseded.other_id, superseded.user_id) == ("superseded", new, "ada")
    assert (added.action, added.request_id, added.kind) == ("added", first, "profile")
    assert superseded.at_us > added.at_us
    assert store.history("profile", learning_id=old, limit=1) == [superseded]
    assert store.history("profile", learning_id="none") == []


def test_what_a_person_corrects_or_deletes_is_not_kept(store: Store, turn: MakeTurn) -> None:
    """The words before the correction are nowhere; a deleted learning has no history."""
    learn(store, turn, "Lives in Oslo.")
    store.update_learning("profile", id_of(store), {"content": "Lives in Bergen."}, user_id="ada")
    assert told(store) == [("changed", "Lives in Bergen.")]
    store.delete_learnings("profile", [id_of(store)], user_id="ada")
    assert told(store) == []


def test_kinds_and_users_are_kept_apart(store: Store, turn: MakeTurn) -> None:
    """A rule is told with its situation; nobody sees what happened to another's."""
    mine, other = turn(), turn(user_id="bob")
    store.add_turns([mine, other])
    store.apply("bob", [add("Likes tea.", (other.request_id, 0))])
    rule = UserPlaybook(user_id="ada", content="Run the tests.", trigger="a release")
    store.apply("ada", [Change("add", "user_playbook", rule, evidence=(Evidence(request_id=mine.request_id),))])
    assert [entry.content for entry in store.history("user_playbook", user_id="ada")] == ["a release: Run the tests."]
    assert told(store) == []
    assert told(store, "bob") == [("added", "Likes tea.")]
    assert [entry.user_id for entry in store.history("profile")] == ["bob"]


def test_pending_learnings_have_a_history_once_they_are_current(store: Store) -> None:
    """What a rerun makes is not told before it takes effect."""
    store.add_learnings([UserProfile(user_id="ada", content="Likes tea.", status=Status.PENDING)])
    assert told(store) == []
    store.promote("profile")
    assert told(store) == [("restored", "Likes tea.")]
