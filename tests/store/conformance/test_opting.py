"""Users who want to be left alone."""

from __future__ import annotations

import pytest

from reflexio_store.contract import Applied, Store
from reflexio_store.models import UserPlaybook
from tests.store.conformance.asking import MakeTurn, add, profiles_of

pytestmark = pytest.mark.needs("opting out")


def test_who_opted_out_stays_so_until_they_opt_in(store: Store) -> None:
    """Each says whether it changed anything; nobody else is concerned."""
    assert (store.opt_out("ada"), store.opt_out("ada")) == (True, False)
    assert (store.opted_out("ada"), store.opted_out("bob")) == (True, False)
    assert (store.opt_in("ada"), store.opt_in("ada"), store.opted_out("ada")) == (True, False, False)


def test_nothing_is_learned_of_them_and_what_was_learned_stays(store: Store, turn: MakeTurn) -> None:
    """Turns are stored all the same, and can be learned from when they opt in again."""
    first, second = turn(), turn()
    store.add_turns([first])
    store.apply("ada", [add("Likes tea.", (first.request_id, 0))])
    store.opt_out("ada")
    assert store.add_turns([second]) == 1
    change = add("Likes jazz.", (second.request_id, 0))
    assert store.apply("ada", [change]) == Applied(dropped=1)
    assert profiles_of(store, "ada") == ["Likes tea."]
    store.opt_in("ada")
    assert store.apply("ada", [change]) == Applied(profiles_added=1)


def test_what_they_said_is_no_voice(store: Store) -> None:
    """It supports nothing that is shared; see the tests of sharing."""
    rules = [UserPlaybook(user_id=user, agent_version="v1", content="Be brief.") for user in ("ada", "bob")]
    store.add_learnings(rules)
    store.opt_out("ada")
    assert [voice.playbook.user_id for voice in store.voices("v1")] == ["bob"]
    store.opt_in("ada")
    assert sorted(voice.playbook.user_id for voice in store.voices("v1")) == ["ada", "bob"]


def test_the_wish_outlives_what_they_said(store: Store, turn: MakeTurn) -> None:
    """Deleting a user takes back no wish: what they say later is not learned from either."""
    store.add_turns([turn()])
    store.opt_out("ada")
    store.delete_user("ada")
    assert store.opted_out("ada")
