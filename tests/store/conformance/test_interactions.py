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
        assert [item.content for item in found] == ["zebra", "yes well", "hm"]

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
