"""Listing: order, filters, pages that stay stable while turns arrive."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from reflexio_store.contract import Store
from reflexio_store.errors import InvalidInputError
from reflexio_store.models import (
    GetRequestsRequest,
)
from tests.store.conformance.asking import (
    MakeTurn,
    pages,
    requests_of,
    sessions_of,
)


class TestListing:
    def test_sessions_come_by_their_newest_request(self, store: Store, turn: MakeTurn) -> None:
        """Sessions and requests newest first, interactions oldest first."""
        old, other, new = turn(session_id="a"), turn(session_id="b"), turn("1", "2", "3", session_id="a")
        store.add_turns([new, old, other])
        assert sessions_of(store) == ["a", "b"]
        assert requests_of(store, session_id="a") == [new.request_id, old.request_id]
        [data] = store.get_requests(GetRequestsRequest(request_id=new.request_id)).sessions[0].requests
        assert [item.content for item in data.interactions] == ["1", "2", "3"]
        assert [item.request.request_id for item in store.read_session("ada", "a")] == [old.request_id, new.request_id]

    @pytest.mark.needs("times")
    def test_every_filter_holds_for_each_request(self, store: Store, turn: MakeTurn) -> None:
        """By user, session, request, source and time; the window is half open."""
        first = turn(at=1000, source="web")
        second = turn(at=2000, source="mobile")
        third = turn(at=3000, user_id="bob", source="web")
        store.add_turns([first, second, third])
        at = {seconds: datetime.fromtimestamp(seconds, UTC) for seconds in (1000, 2000, 3000)}
        assert requests_of(store, user_id="ada") == [second.request_id, first.request_id]
        assert requests_of(store, source="web") == [third.request_id, first.request_id]
        assert requests_of(store, request_id=first.request_id, user_id="bob") == []
        assert requests_of(store, start_time=at[2000], end_time=at[3000]) == [second.request_id]
        assert requests_of(store, end_time=at[2000]) == [first.request_id]
        assert requests_of(store, session_id="s1", source="web", user_id="bob") == [third.request_id]

    def test_a_naive_time_is_local_time(self, store: Store, turn: MakeTurn) -> None:
        """The same moment, with and without a zone, finds the same requests."""
        stored = turn(at=1_700_000_000)
        store.add_turns([stored])
        aware = datetime.fromtimestamp(1_700_000_000, UTC)
        naive = aware.astimezone().replace(tzinfo=None)
        for moment in (aware, naive, aware.isoformat(), 1_700_000_000):
            assert requests_of(store, start_time=moment) == [stored.request_id]
            assert requests_of(store, end_time=moment) == []

    def test_a_session_id_shared_by_two_users_is_two_sessions(self, store: Store, turn: MakeTurn) -> None:
        """Users do not see each other in a session of the same name."""
        store.add_turns([turn("mine"), turn("yours", user_id="bob")])
        found = store.get_requests(GetRequestsRequest(session_id="s1")).sessions
        assert sorted(session.user_id for session in found) == ["ada", "bob"]
        assert all(len(session.requests) == 1 for session in found)

    @pytest.mark.parametrize("filters", [{}, {"user_id": "ada"}, {"source": "web"}])
    def test_pages_are_exact_and_complete(self, store: Store, turn: MakeTurn, filters: dict[str, str]) -> None:
        """Full pages, and no empty one after the last."""
        store.add_turns([turn(session_id=f"s{number}", source="web") for number in range(6)])
        assert pages(store, top_k=2, **filters) == [["s5", "s4"], ["s3", "s2"], ["s1", "s0"]]
        assert pages(store, top_k=6, **filters) == [["s5", "s4", "s3", "s2", "s1", "s0"]]
        assert sessions_of(store, top_k=2, offset=3, **filters) == ["s2", "s1"]
        assert not store.get_requests(GetRequestsRequest(top_k=2, offset=4, **filters)).has_more

    @pytest.mark.parametrize("filters", [{}, {"source": "web"}])
    def test_paging_repeats_and_skips_nothing_while_turns_arrive(
        self, store: Store, turn: MakeTurn, filters: dict[str, str]
    ) -> None:
        """New sessions arrive between two pages; the old ones still come once each."""
        store.add_turns([turn(session_id=f"old{number}", source="web") for number in range(5)])
        first = store.get_requests(GetRequestsRequest(top_k=2, **filters))
        store.add_turns([turn(session_id="new", source="web"), turn(session_id="old4", source="web")])
        second = store.get_requests(GetRequestsRequest(top_k=10, cursor=first.next_cursor, **filters))
        assert [item.session_id for item in first.sessions] == ["old4", "old3"]
        assert [item.session_id for item in second.sessions] == ["old2", "old1", "old0"]

    @pytest.mark.parametrize("cursor", ["x", "!!!", "e30", "WzEsMiwzXQ", "bnVsbA", "\u4e2d", "W10" * 3000])
    def test_a_malformed_cursor_is_refused(self, store: Store, cursor: str) -> None:
        """The error names the cursor and how to go on."""
        with pytest.raises(InvalidInputError, match="first page"):
            store.get_requests(GetRequestsRequest(cursor=cursor))

    def test_without_a_size_a_hundred_sessions_come(self, store: Store, turn: MakeTurn) -> None:
        """``top_k=None`` is 100."""
        store.add_turns([turn(session_id=f"s{number}") for number in range(101)])
        page = store.get_requests(GetRequestsRequest(top_k=None))
        assert (len(page.sessions), page.has_more) == (100, True)
