"""Storing turns: every field, each turn once."""

from __future__ import annotations

import threading

import pytest

from reflexio_store import ids
from reflexio_store.contract import Store
from reflexio_store.models import (
    GetRequestsRequest,
)
from reflexio_store.records import InteractionRecord
from tests.store.conformance.asking import (
    MakeTurn,
)


class TestStoringTurns:
    @pytest.mark.needs("status")
    def test_a_turn_comes_back_as_it_was_stored(self, store: Store, turn: MakeTurn) -> None:
        """Every field of a turn and its interactions survives."""
        stored = turn("find it", "found", source="web_app", status="error", error="boom", metadata={"a": [1]})
        stored.options["evaluation_only"] = True
        stored.retrieval_experiment_id, stored.retrieval_experiment_arm = "x", "holdout"
        stored.interactions[1] = InteractionRecord(
            role="Assistant",
            content="found",
            created_at=1_700_000_000,
            tools_used=[{"tool_name": "grep", "tool_data": {"input": {"q": "it"}}, "status": "success"}],
            citations=[{"kind": "profile", "real_id": "p1", "tag": "t", "title": ""}],
            retrieved_learnings=[{"kind": "profile", "learning_id": "p1", "exposure_receipt": None}],
            user_action="click",
            user_action_description="the button",
            interacted_image_url="https://example.com/a.png",
            shadow_content="other",
            expert_content="best",
        )
        assert store.add_turns([stored]) == 1
        [session] = store.get_requests(GetRequestsRequest(user_id="ada")).sessions
        [data] = session.requests
        assert (session.session_id, session.user_id) == ("s1", "ada")
        assert data.request.model_dump(exclude={"created_at"}) == {
            "request_id": stored.request_id,
            "user_id": "ada",
            "source": "web_app",
            "agent_version": "v1",
            "session_id": "s1",
            "evaluation_only": True,
            "retrieval_experiment_id": "x",
            "retrieval_experiment_arm": "holdout",
            "status": "error",
            "error": "boom",
            "metadata": {"a": [1]},
        }
        assert data.request.created_at == stored.created_at_us // 1_000_000
        answer = data.interactions[1].model_dump(exclude={"retrieved_learnings"})
        assert answer.pop("interaction_id") == ids.interaction_id(stored.request_id, 1)
        assert (answer.pop("user_id"), answer.pop("request_id")) == ("ada", stored.request_id)
        item = stored.interactions[1]
        assert answer == {name: getattr(item, name) for name in answer}
        shown = [learning.model_dump(exclude_unset=True) for learning in data.interactions[1].retrieved_learnings]
        assert shown == item.retrieved_learnings

    def test_a_turn_is_stored_once_however_often_it_is_sent(self, store: Store, turn: MakeTurn) -> None:
        """Within one batch, in the next one, and with other words: the first one stays."""
        first = turn("original")
        again = turn("changed", request_id=first.request_id)
        assert store.add_turns([first, first]) == 1
        assert store.add_turns([again, turn("new")]) == 1
        assert store.counts()["requests"] == 2
        found = store.read_session("ada", "s1")
        assert [data.interactions[0].content for data in found] == ["original", "new"]

    def test_threads_that_send_the_same_turns_store_each_once(self, store: Store, turn: MakeTurn) -> None:
        """Eight threads, the same forty turns, in different orders."""
        turns = [turn("same", session_id=f"s{number % 4}") for number in range(40)]
        stored: list[int] = []

        def send(shift: int) -> None:
            order = turns[shift:] + turns[:shift]
            stored.extend(store.add_turns(order[at : at + 10]) for at in range(0, 40, 10))

        threads = [threading.Thread(target=send, args=(5 * number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        counts = store.counts()
        assert sum(stored) == 40
        assert (counts["requests"], counts["interactions"], counts["sessions"]) == (40, 40, 4)

    def test_half_a_surrogate_pair_does_not_lose_the_batch(self, store: Store, turn: MakeTurn) -> None:
        """Text that no database can hold is mended, and its neighbours are stored."""
        odd = {"error": "\ud800", "retrieval_experiment_id": "\udbff", "retrieval_experiment_arm": "treatment"}
        bad = turn("\ud83d cut", metadata={"cut": "\ude00"}, **odd)
        bad.interactions[0].tools_used = [{"tool_name": "t", "tool_data": {"input": "\ud83d"}, "status": ""}]
        assert store.add_turns([bad, turn("good")]) == 2
        contents = [data.interactions[0].content for data in store.read_session("ada", "s1")]
        assert contents == ["\ufffd cut", "good"]

    def test_nothing_is_stored_of_nothing(self, store: Store) -> None:
        """An empty batch is no error."""
        assert store.add_turns([]) == 0
        assert set(store.counts().values()) == {0}
