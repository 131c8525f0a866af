"""Single messages of one user: the newest ones, and those that match."""

from __future__ import annotations

import pytest

from reflexio_store.contract import Store
from reflexio_store.models import (
    GetInteractionsRequest,
    SearchInteractionRequest,
)
from tests.store.conformance.asking import (
    MakeTurn,
)


class TestInteractions:
    def test_interactions_come_newest_first(self, store: Store, turn: MakeTurn) -> None:
        """Of one user, within a window, and no more than asked for."""
        store.add_turns([turn("a", "b", at=1000), turn("c", "d", at=2000), turn("x", user_id="bob")])
        everything = store.get_interactions(GetInteractionsRequest(user_id="ada"))
        assert [item.content for item in everything] == ["d", "c", "b", "a"]
        some = store.get_interactions(GetInteractionsRequest(user_id="ada", top_k=1, end_time=2000))
        assert [item.content for item in some] == ["b"]

    def test_what_was_stored_before_a_search_is_found(self, store: Store, turn: MakeTurn) -> None:
        """Search, store more, search again: each time everything stored is found."""
        for number in range(3):
            store.add_turns([turn("the zebra walked", f"answer {number}"), turn("zebra", user_id="bob")])
            found = store.search_interactions(SearchInteractionRequest(user_id="ada", query="zebras walking"))
            assert [item.content for item in found if "zebra" in item.content] == ["the zebra walked"] * (number + 1)
            assert {item.user_id for item in found} == {"ada"}

    @pytest.mark.needs("neighbours")
    def test_the_answer_to_what_matches_is_found_too(self, store: Store, turn: MakeTurn) -> None:
        """A message is found by what was said around it in its session, after those that say it themselves."""
        store.add_turns([turn("where do zebras live", "in africa", at=1000), turn("and lions", "there too", at=1001)])
        store.add_turns([turn("nothing of that", "indeed", at=1002, session_id="s2")])
        found = store.search_interactions(SearchInteractionRequest(user_id="ada", query="zebras"))
        assert [item.content for item in found] == ["where do zebras live", "in africa", "and lions"]

    @pytest.mark.needs("neighbours")
    def test_a_short_message_comes_before_the_short_ones_around_it(self, store: Store, turn: MakeTurn) -> None:
        """Of one or two words each, and in turns of their own."""
        store.add_turns([turn(said, at=1000 + at) for at, said in enumerate(["hm", "zebra", "yes well"])])
        found = store.search_interactions(SearchInteractionRequest(user_id="ada", query="zebra"))
        assert found[0].content == "zebra"
        assert len(found) == 3

    @pytest.mark.needs("neighbours")
    def test_the_answer_to_what_matches_is_found_by_its_day_too(self, store: Store, turn: MakeTurn) -> None:
        """In a turn of its own, which has none of the words."""
        days = {"may": 1_683_547_200, "june": 1_687_000_000}
        for name, at in days.items():
            store.add_turns([turn("the zebra", at=at, session_id=name), turn("here", at=at + 1, session_id=name)])
        query = SearchInteractionRequest(user_id="ada", query="zebra in may 2023")
        found = store.search_interactions(query)
        assert {item.created_at for item in found[:2]} == {days["may"], days["may"] + 1}

    @pytest.mark.needs("neighbours")
    def test_a_message_is_found_by_its_day(self, store: Store, turn: MakeTurn) -> None:
        """Of two that say the same, the one of the day that is named."""
        days = {"may": 1_683_547_200, "june": 1_687_000_000}
        store.add_turns([turn("the zebra", at=at, session_id=name) for name, at in days.items()])
        for name, at in days.items():
            query = SearchInteractionRequest(user_id="ada", query=f"zebra in {name} 2023")
            assert store.search_interactions(query)[0].created_at == at

    @pytest.mark.needs("neighbours")
    def test_an_answer_comes_before_what_else_was_said_around_a_match(self, store: Store, turn: MakeTurn) -> None:
        """It is found by the question, though it has none of its words."""
        asked = ["here we are", "where do the zebras live?", "in Africa, all of them"]
        store.add_turns([turn(said, at=1000 + at) for at, said in enumerate(asked)])
        found = store.search_interactions(SearchInteractionRequest(user_id="ada", query="zebras"))
        assert [item.content for item in found][-1] == "here we are"

    @pytest.mark.needs("neighbours")
    @pytest.mark.parametrize("asked", ["zebra on the hill?", "zebra on the hill?! :-)", "zebra on the hill\uff1f"])
    def test_what_tells_comes_before_what_asks(self, store: Store, turn: MakeTurn, asked: str) -> None:
        """Of two that match alike."""
        for at, said in enumerate(["zebra on the hill", asked]):
            store.add_turns([turn(said, at=1000 + at, session_id=f"s{at}")])
        found = store.search_interactions(SearchInteractionRequest(user_id="ada", query="zebra"))
        assert [item.content for item in found] == ["zebra on the hill", asked]

    @pytest.mark.needs("neighbours")
    @pytest.mark.parametrize("name", ["Maria", "Maria Lopez", "Z\u00f6e", "\u738b\u82b3"])
    def test_what_the_named_one_said_comes_first(self, store: Store, turn: MakeTurn, name: str) -> None:
        """Where messages begin with who says them: before what was said to the one who is named."""
        for at, said in enumerate([f"{name}: a zebra, Tom", f"Tom: a zebra, {name}"]):
            store.add_turns([turn(said, at=1000 + at, session_id=f"s{at}")])
        query = SearchInteractionRequest(user_id="ada", query=f"Which animal did {name} see, a zebra?")
        assert store.search_interactions(query)[0].content == f"{name}: a zebra, Tom"

    @pytest.mark.needs("neighbours")
    def test_a_role_that_is_a_name_tells_who_says_it(self, store: Store, turn: MakeTurn) -> None:
        """As in conversations of several people; ``User`` and ``assistant`` name nobody."""
        for at, role in enumerate(["Maria", "User"]):
            said = turn("a zebra", at=1000 + at, session_id=f"s{at}")
            said.interactions[0].role = role
            store.add_turns([said])
        query = SearchInteractionRequest(user_id="ada", query="Which animal did Maria, the user, see, a zebra?")
        assert [item.role for item in store.search_interactions(query)] == ["Maria", "User"]

    @pytest.mark.needs("neighbours")
    def test_irregular_forms_are_found_as_their_words(self, store: Store, turn: MakeTurn) -> None:
        """Whichever of them was said, and whichever is asked."""
        store.add_turns([turn("we bought two teeth", at=1000), turn("nothing", at=2000, session_id="s2")])
        for query in ("buy", "tooth", "buying teeth"):
            found = store.search_interactions(SearchInteractionRequest(user_id="ada", query=query))
            assert [item.content for item in found] == ["we bought two teeth"]

    def test_a_search_keeps_to_its_request_and_window(self, store: Store, turn: MakeTurn) -> None:
        """Also where better matches lie outside."""
        inside, outside = turn("zebra and lion", at=1000), turn("zebra zebra zebra", at=2000)
        store.add_turns([inside, outside])
        within = {"user_id": "ada", "query": "zebra"}
        by_request = store.search_interactions(SearchInteractionRequest(**within, request_id=inside.request_id))
        by_time = store.search_interactions(SearchInteractionRequest(**within, end_time=2000, top_k=1))
        assert [item.request_id for item in by_request] == [inside.request_id]
        assert [item.request_id for item in by_time] == [inside.request_id]

    def test_without_a_query_the_most_recent_come(self, store: Store, turn: MakeTurn) -> None:
        """``most_recent_k`` newest; nothing where neither is given."""
        store.add_turns([turn("a", "b"), turn("c", "d")])
        recent = store.search_interactions(SearchInteractionRequest(user_id="ada", most_recent_k=3))
        assert [item.content for item in recent] == ["d", "c", "b"]
        assert store.search_interactions(SearchInteractionRequest(user_id="ada")) == []

    def test_deleted_interactions_are_not_found(self, store: Store, turn: MakeTurn) -> None:
        """They leave the full-text index with their request."""
        stored = turn("the zebra")
        store.add_turns([stored, turn("another zebra")])
        query = SearchInteractionRequest(user_id="ada", query="zebra")
        assert len(store.search_interactions(query)) == 2
        store.delete_requests([stored.request_id])
        assert [item.content for item in store.search_interactions(query)] == ["another zebra"]
