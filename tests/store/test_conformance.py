"""What every home promises, tested through the contract alone."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reflexio_store import ids
from reflexio_store.contract import Applied, Change, Receipt, Store
from reflexio_store.errors import InvalidInputError, StoreUnavailableError
from reflexio_store.models import (
    AgentPlaybook,
    Evidence,
    GetInteractionsRequest,
    GetRequestsRequest,
    LearningKind,
    LearningQuery,
    PlaybookStatus,
    ProfileTimeToLive,
    SearchInteractionRequest,
    Status,
    UserPlaybook,
    UserProfile,
)
from reflexio_store.records import InteractionRecord, TurnRecord

MakeTurn = Callable[..., TurnRecord]
quick = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def sessions_of(store: Store, **query: Any) -> list[str]:
    return [session.session_id for session in store.get_requests(GetRequestsRequest(**query)).sessions]


def requests_of(store: Store, **query: Any) -> list[str]:
    page = store.get_requests(GetRequestsRequest(**query))
    return [data.request.request_id for session in page.sessions for data in session.requests]


def pages(store: Store, **query: Any) -> list[list[str]]:
    found, cursor = [], None
    while True:
        page = store.get_requests(GetRequestsRequest(**query, cursor=cursor))
        found.append([session.session_id for session in page.sessions])
        assert page.has_more == (page.next_cursor is not None)
        if page.next_cursor is None:
            return found
        cursor = page.next_cursor


def profiles_of(store: Store, user_id: str, **query: Any) -> list[str]:
    return [item.content for item in store.get_learnings("profile", LearningQuery(user_id=user_id, **query))]


def search_profiles(store: Store, user_id: str | None, words: str, **query: Any) -> list[str]:
    found = store.search_learnings("profile", LearningQuery(user_id=user_id, query=words, **query))
    return [item.learning.content for item in found]


def add(content: str, *evidence: tuple[str, int], **fields: Any) -> Change:
    return Change(
        "add",
        "profile",
        UserProfile(user_id="whoever", content=content, **fields),
        evidence=tuple(Evidence(request_id=name, interaction_index=index) for name, index in evidence),
    )


class TestStoringTurns:
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
        answer = data.interactions[1].model_dump()
        assert answer.pop("interaction_id") == ids.interaction_id(stored.request_id, 1)
        assert (answer.pop("user_id"), answer.pop("request_id")) == ("ada", stored.request_id)
        item = stored.interactions[1]
        assert answer == {name: getattr(item, name) for name in answer}

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
        bad = turn("\ud83d cut", metadata={"cut": "\ude00"}, error="\ud800")
        bad.interactions[0].tools_used = [{"tool_name": "t", "tool_data": {"input": "\ud83d"}, "status": ""}]
        assert store.add_turns([bad, turn("good")]) == 2
        contents = [data.interactions[0].content for data in store.read_session("ada", "s1")]
        assert contents == ["\ufffd cut", "good"]

    def test_nothing_is_stored_of_nothing(self, store: Store) -> None:
        """An empty batch is no error."""
        assert store.add_turns([]) == 0
        assert set(store.counts().values()) == {0}


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
            assert [item.content for item in found] == ["the zebra walked"] * (number + 1)
            assert {item.user_id for item in found} == {"ada"}

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


class TestForgetting:
    def test_unknown_names_are_no_error(self, store: Store) -> None:
        """The receipt is empty."""
        assert store.delete_requests(["nothing"]) == Receipt()
        assert store.delete_requests([]) == Receipt()
        assert store.delete_session("nothing") == Receipt()
        assert store.delete_user("nobody") == Receipt()

    def test_a_request_goes_with_what_rested_on_it_alone(self, store: Store, turn: MakeTurn) -> None:
        """Shared learnings lose that evidence, manual ones stay, and the session is counted anew."""
        gone, stays = turn("I am called Ada", "Hello"), turn("I like tea", "Good")
        store.add_turns([gone, stays])
        changes = [
            add("Called Ada", (gone.request_id, 0)),
            add("Likes tea", (gone.request_id, 1), (stays.request_id, 0)),
        ]
        store.apply("ada", changes)
        store.add_learnings([UserProfile(user_id="ada", content="By hand")])
        receipt = store.delete_requests([gone.request_id])
        assert receipt == Receipt(requests=1, interactions=2, profiles=1)
        assert sorted(profiles_of(store, "ada")) == ["By hand", "Likes tea"]
        assert search_profiles(store, "ada", "called") == []
        [tea] = store.get_learnings("profile", LearningQuery(user_id="ada", source_request_id=stays.request_id))
        assert isinstance(tea, UserProfile)
        assert tea.evidence == [Evidence(request_id=stays.request_id, interaction_index=0)]
        assert tea.generated_from_request_id == stays.request_id
        assert tea.source_interaction_ids == [ids.interaction_id(stays.request_id, 0)]
        assert requests_of(store) == [stays.request_id]

    def test_a_request_of_another_user_is_not_deleted(self, store: Store, turn: MakeTurn) -> None:
        """Where a user is named, only theirs goes."""
        stored = turn(user_id="bob")
        store.add_turns([stored])
        assert store.delete_requests([stored.request_id], user_id="ada") == Receipt()
        assert store.delete_requests([stored.request_id], user_id="bob").requests == 1

    def test_a_session_goes_with_its_learnings_and_its_job(self, store: Store, turn: MakeTurn) -> None:
        """Of the named user only; of all users where none is named."""
        turns = [turn(user_id=user) for user in ("ada", "bob", "eve")]
        store.add_turns([*turns, turn(session_id="s2")], learn_after=0)
        store.apply("ada", [add("Fact", (turns[0].request_id, 0))])
        assert store.delete_session("s1", user_id="ada") == Receipt(requests=1, interactions=2, profiles=1, jobs=1)
        assert sorted(sessions_of(store)) == ["s1", "s1", "s2"]
        assert store.delete_session("s1") == Receipt(requests=2, interactions=4, jobs=2)
        assert sessions_of(store) == ["s2"]
        assert [state.key for state in store.job_states("learn")] == ["s2"]

    def test_a_user_goes_with_everything(self, store: Store, turn: MakeTurn) -> None:
        """More sessions than one transaction takes, learnings by hand, jobs; others keep theirs."""
        mine = [turn(session_id=f"s{number}") for number in range(120)]
        store.add_turns([*mine, turn("keep", user_id="bob")], learn_after=0)
        store.add_learnings([UserProfile(user_id=user, content="Fact") for user in ("ada", "bob")])
        store.add_learnings([UserPlaybook(user_id="ada", content="Rule")])
        receipt = store.delete_user("ada")
        assert receipt == Receipt(requests=120, interactions=240, profiles=1, user_playbooks=1, jobs=120)
        assert sessions_of(store, user_id="ada") == []
        assert profiles_of(store, "ada") == [] and profiles_of(store, "bob") == ["Fact"]
        assert store.counts()["jobs_ready"] == 1
        assert not [finding for finding in store.check() if finding.level == "error"]

    def test_a_session_after_a_partial_delete_stands_where_its_requests_say(self, store: Store, turn: MakeTurn) -> None:
        """Deleting the newest request moves the session back in the listing."""
        old, middle, new = turn(session_id="a"), turn(session_id="b"), turn(session_id="a")
        store.add_turns([old, middle, new])
        store.delete_requests([new.request_id])
        assert sessions_of(store) == ["b", "a"]
        store.delete_requests([old.request_id])
        assert sessions_of(store) == ["b"]


class TestLearnings:
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
        rule = UserPlaybook(user_id="ada", trigger="make tea", content="Boil water", blocking_issue=None, tags=["x"])
        shared = AgentPlaybook(agent_version="v1", content="Be kind", playbook_status=PlaybookStatus.APPROVED)
        made = store.add_learnings([profile, rule, shared])
        assert all(made)
        for kind, expected, name, number in (
            ("profile", profile, "profile_id", made[0]),
            ("user_playbook", rule, "user_playbook_id", int(made[1])),
            ("agent_playbook", shared, "agent_playbook_id", int(made[2])),
        ):
            [found] = store.get_learnings(kind, LearningQuery())  # type: ignore[arg-type]
            assert found == expected.model_copy(update={name: number})

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
        [made] = store.add_learnings([UserProfile(user_id="ada", content="Likes tea")])
        assert not store.update_learning("profile", "unknown", {"content": "x"})
        assert not store.update_learning("profile", made, {"content": "x"}, user_id="bob")
        assert not store.update_learning("user_playbook", "not a number", {"content": "x"})
        assert profiles_of(store, "ada") == ["Likes tea"]

    def test_a_value_without_a_form_in_json_is_refused(self, store: Store) -> None:
        """Nothing of the batch is stored."""
        odd = UserProfile(user_id="ada", content="odd", custom_features={"a": object()})
        with pytest.raises(InvalidInputError, match="JSON"):
            store.add_learnings([UserProfile(user_id="ada", content="good"), odd])
        assert store.counts()["profiles"] == 0

    @pytest.mark.parametrize("fields", [{"user_id": "bob"}, {"colour": 1}, {"content": ""}, {"status": "odd"}])
    def test_an_unusable_update_is_refused(self, store: Store, fields: dict[str, Any]) -> None:
        """The error names the field, and nothing changes."""
        [made] = store.add_learnings([UserProfile(user_id="ada", content="Likes tea")])
        with pytest.raises(InvalidInputError, match=next(iter(fields))):
            store.update_learning("profile", made, fields)
        assert profiles_of(store, "ada") == ["Likes tea"]

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


class TestSearch:
    def test_the_better_match_comes_first(self, store: Store) -> None:
        """More of the query's weight, and in the trigger rather than in the content."""
        rules = [
            UserPlaybook(user_id="ada", trigger="write a poem", content="deploy nothing"),
            UserPlaybook(user_id="ada", trigger="deploy the service", content="run the tests first"),
            UserPlaybook(user_id="ada", trigger="deploy", content="ask"),
        ]
        store.add_learnings(rules)
        found = store.search_learnings("user_playbook", LearningQuery(user_id="ada", query="Deploying our services!"))
        assert [hit.learning.content for hit in found] == ["run the tests first", "ask", "deploy nothing"]
        assert [hit.score for hit in found] == sorted((hit.score for hit in found), reverse=True)
        assert found[0].coverage == 1.0 and 0 < found[2].coverage < 1

    def test_an_unknown_word_lowers_the_coverage(self, store: Store) -> None:
        """What the query asks for and nobody knows counts as the rarest."""
        store.add_learnings([UserProfile(user_id="ada", content="Likes green tea")])
        query = LearningQuery(user_id="ada", query="tea")
        [alone] = store.search_learnings("profile", query)
        [beside] = store.search_learnings("profile", query.model_copy(update={"query": "tea xylophone zeppelin"}))
        assert alone.coverage == 1.0 and beside.coverage < 0.4

    @pytest.mark.parametrize(
        ("content", "words", "share"),
        [
            ("Likes green tea", "tea", 1 / 3),
            ("Tea, tea and tea", "tea", 1.0),
            ("\u4e2d\u6587\u4e66", "\u4e2d\u6587", 0.5),
        ],
    )
    def test_the_share_tells_how_much_of_a_learning_was_asked_for(
        self, store: Store, content: str, words: str, share: float
    ) -> None:
        """Different words, without stop words, counted alike on both sides."""
        store.add_learnings([UserProfile(user_id="ada", content=content)])
        [found] = store.search_learnings("profile", LearningQuery(user_id="ada", query=words))
        assert found.share == pytest.approx(share)

    @pytest.mark.parametrize(
        "words", ["", "   ", "the of and", "!!! ???", "\U0001f600\U0001f680", "\u0301", "\x00", "_"]
    )
    def test_a_query_that_says_nothing_finds_nothing(self, store: Store, words: str) -> None:
        """Stop words, signs and emoji are no words."""
        store.add_learnings([UserProfile(user_id="ada", content="the of and !!! \U0001f600 tea")])
        assert search_profiles(store, "ada", words) == []

    @pytest.mark.parametrize(
        ("content", "words"),
        [
            ("Uses NOT gates AND gates", "NOT"),
            ('Says "quoted" things', '"quoted"'),
            ("Runs build* daily", "build*"),
            ("NEAR the sea", "NEAR(sea, 2)"),
            ("\u6211\u559c\u6b22\u4e2d\u6587\u4e66", "\u4e2d\u6587"),
            ("\u6771\u4eac\u306b\u4f4f\u3080", "\u6771"),
            ("Caf\u00e9 in Z\u00fcrich", "cafe zurich"),
            ("\u043f\u0440\u0438\u0432\u0435\u0442 \u043c\u0438\u0440", "\u041c\u0418\u0420"),
            ("\u0627\u0644\u0639\u0631\u0628\u064a\u0629", "\u0627\u0644\u0639\u0631\u0628\u064a\u0629"),
            ("Owner's deploy_key v2.0", "deploy_key"),
        ],
    )
    def test_text_is_literal_in_any_script(self, store: Store, content: str, words: str) -> None:
        """Operators are words, and scripts without spaces are found by their parts."""
        store.add_learnings([UserProfile(user_id="ada", content=content)])
        assert search_profiles(store, "ada", words) == [content]

    @quick
    @given(content=st.text(min_size=1, max_size=60), words=st.text(max_size=60))
    def test_no_text_breaks_a_search(self, shared_store: Store, content: str, words: str) -> None:
        """Whatever is stored and asked for, the answer is a list within bounds."""
        user = ids.uuid7()
        shared_store.add_learnings([UserProfile(user_id=user, content=content)])
        found = shared_store.search_learnings("profile", LearningQuery(user_id=user, query=words))
        assert all(0 < hit.coverage <= 1 and hit.score > 0 for hit in found)

    @quick
    @given(content=st.text(alphabet=st.characters(categories=["L", "Nd"]), min_size=4, max_size=12))
    def test_a_word_finds_the_text_that_it_came_from(self, shared_store: Store, content: str) -> None:
        """In every script, whole and without loss."""
        user = ids.uuid7()
        content += "zq"  # no stop word ends so
        shared_store.add_learnings([UserProfile(user_id=user, content=f"x {content} y")])
        [hit] = shared_store.search_learnings("profile", LearningQuery(user_id=user, query=content)) or [None]
        assert hit is not None and hit.coverage == 1.0

    @quick
    @given(data=st.data())
    def test_no_user_is_ever_seen_by_another(self, shared_store: Store, data: st.DataObject) -> None:
        """Neither a learning nor a number: what others store changes nothing in one's own answers."""
        word = st.sampled_from(["tea", "coffee", "paris", "rome", "green", "AND", "u\x1fv"])
        text = st.lists(word, min_size=1, max_size=5).map(" ".join)
        ada, bob = (ids.uuid7() for _ in range(2))
        mine = data.draw(st.lists(text, min_size=1, max_size=5))
        query = LearningQuery(user_id=ada, query=data.draw(text))
        shared_store.add_learnings([UserProfile(user_id=ada, content=content) for content in mine])
        before = shared_store.search_learnings("profile", query)
        others = data.draw(st.lists(text, min_size=1, max_size=5))
        shared_store.add_learnings([UserProfile(user_id=bob, content=content) for content in others])
        assert shared_store.search_learnings("profile", query) == before
        assert all(hit.learning.user_id == ada for hit in before if isinstance(hit.learning, UserProfile))

    def test_without_a_user_nothing_personal_is_found(self, store: Store) -> None:
        """Not the learnings of all, and not those of nobody."""
        store.add_learnings([UserProfile(user_id="ada", content="tea"), UserPlaybook(user_id="", content="tea")])
        assert search_profiles(store, None, "tea") == []
        assert store.search_learnings("user_playbook", LearningQuery(user_id="", query="tea")) == []
        assert store.search_learnings("user_playbook", LearningQuery(query="tea")) == []

    def test_agent_playbooks_are_found_by_version(self, store: Store) -> None:
        """Within one version, or in all where none is named; approval is a filter."""
        store.add_learnings(
            [AgentPlaybook(agent_version=version, content=f"tea {version}") for version in ("v1", "v2")]
        )

        def found(**query: Any) -> list[str]:
            hits = store.search_learnings("agent_playbook", LearningQuery(query="tea", **query))
            return sorted(hit.learning.content for hit in hits)

        assert found() == ["tea v1", "tea v2"] and found(agent_version="v1") == ["tea v1"]
        assert found(playbook_status_filter=[PlaybookStatus.APPROVED]) == []

    def test_a_search_is_bounded(self, store: Store) -> None:
        """Ten without a size, and never more than a hundred."""
        store.add_learnings([UserProfile(user_id="ada", content=f"tea number {number}") for number in range(130)])
        assert len(search_profiles(store, "ada", "tea")) == 10
        assert len(search_profiles(store, "ada", "tea", top_k=1000)) == 100


class TestApplyingChanges:
    def test_what_is_added_names_its_origin(self, store: Store, turn: MakeTurn) -> None:
        """Request, interactions and evidence; under the user of the session, whatever the extractor wrote."""
        stored = turn()
        store.add_turns([stored])
        applied = store.apply("ada", [add("Likes tea", (stored.request_id, 0))])
        [found] = store.get_learnings("profile", LearningQuery(user_id="ada"))
        assert applied == Applied(profiles_added=1)
        assert isinstance(found, UserProfile)
        assert found.generated_from_request_id == stored.request_id
        assert found.source_interaction_ids == [ids.interaction_id(stored.request_id, 0)]
        assert found.evidence == [Evidence(request_id=stored.request_id, interaction_index=0)]

    def test_a_change_without_evidence_left_is_dropped(self, store: Store, turn: MakeTurn) -> None:
        """Deleted requests, requests of others, and nobody's turns teach nothing."""
        mine, theirs, nobodys = turn(), turn(user_id="bob"), turn(user_id="")
        store.add_turns([mine, theirs, nobodys])
        store.delete_requests([mine.request_id])
        changes = [add("a", (mine.request_id, 0)), add("b", (theirs.request_id, 0)), add("c")]
        assert store.apply("ada", changes) == Applied(dropped=3)
        assert store.apply("", [add("d", (nobodys.request_id, 0))]) == Applied(dropped=1)
        assert store.counts()["profiles"] == 0

    def test_the_same_words_again_are_more_evidence(self, store: Store, turn: MakeTurn) -> None:
        """Not a second learning; and without anything new, nothing at all."""
        first, second = turn(), turn()
        store.add_turns([first, second])
        store.apply("ada", [add("Likes green  tea.", (first.request_id, 0))])
        assert store.apply("ada", [add("likes green tea", (first.request_id, 0))]) == Applied()
        assert store.apply("ada", [add("Likes Green Tea!", (second.request_id, 0))]) == Applied(profiles_updated=1)
        [found] = store.get_learnings("profile", LearningQuery(user_id="ada"))
        assert isinstance(found, UserProfile)
        assert found.content == "Likes green  tea." and len(found.evidence) == 2

    def test_a_new_value_supersedes_the_old_one_of_its_slot(self, store: Store, turn: MakeTurn) -> None:
        """Of that user and slot alone; and repeating the whole session changes nothing more."""
        stored, other = turn(), turn(user_id="bob")
        store.add_turns([stored, other])
        slot = {"tags": ["slot:city"]}
        store.apply("bob", [add("Lives in Paris", (other.request_id, 0), **slot)])
        changes = [
            add("Lives in Paris", (stored.request_id, 0), **slot),
            add("Likes tea", (stored.request_id, 0)),
            add("Lives in Rome", (stored.request_id, 1), **slot),
        ]
        assert store.apply("ada", changes) == Applied(profiles_added=3)
        assert store.apply("ada", changes) == Applied()
        assert sorted(profiles_of(store, "ada")) == ["Likes tea", "Lives in Rome"]
        assert profiles_of(store, "bob") == ["Lives in Paris"]
        [old] = store.get_learnings("profile", LearningQuery(user_id="ada", status_filter=[Status.SUPERSEDED]))
        [new] = store.get_learnings("profile", LearningQuery(user_id="ada", tags=["slot:city"]))
        assert isinstance(old, UserProfile) and isinstance(new, UserProfile)
        assert old.superseded_by == new.profile_id
        assert search_profiles(store, "ada", "paris") == []

    def test_updates_and_retirements_reach_only_their_users_learnings(self, store: Store, turn: MakeTurn) -> None:
        """An unknown id, and one of another user, are dropped."""
        stored, theirs = turn(), turn(user_id="bob")
        store.add_turns([stored, theirs])
        [mine, other] = store.add_learnings([UserProfile(user_id=user, content="old") for user in ("ada", "bob")])
        evidence = (Evidence(request_id=stored.request_id),)

        def update(learning_id: str) -> Change:
            learning = UserProfile(profile_id=learning_id, user_id="ada", content="new")
            return Change("update", "profile", learning, evidence=evidence)

        assert store.apply("ada", [update(mine), update(other)]) == Applied(profiles_updated=1, dropped=1)
        assert (profiles_of(store, "ada"), profiles_of(store, "bob")) == (["new"], ["old"])
        retire = [Change("retire", "profile", learning_id=name, evidence=evidence) for name in (mine, other)]
        assert store.apply("ada", retire) == Applied(retired=1, dropped=1)
        assert (profiles_of(store, "ada"), profiles_of(store, "bob")) == ([], ["old"])

    def test_playbooks_are_the_same_by_trigger_content_and_version(self, store: Store, turn: MakeTurn) -> None:
        """Another agent version is another rule."""
        stored = turn()
        store.add_turns([stored])
        evidence = (Evidence(request_id=stored.request_id),)
        rules = [
            UserPlaybook(trigger="deploy", content="Run tests", agent_version=version) for version in ("v1", "v1", "v2")
        ]
        changes = [Change("add", "user_playbook", rule, evidence=evidence) for rule in rules]
        assert store.apply("ada", changes) == Applied(playbooks_added=2)
        [first] = store.get_learnings("user_playbook", LearningQuery(user_id="ada", agent_version="v2"))
        assert isinstance(first, UserPlaybook)
        assert (first.request_id, first.user_id) == (stored.request_id, "ada")


NAME = {"tags": ["slot:name"]}


def tell(store: Store, turn: MakeTurn, content: str, session_id: str, **fields: Any) -> Change:
    """Store a turn in which a name is told; the change that an extractor proposes for it."""
    stored = turn(content, session_id=session_id, **fields)
    store.add_turns([stored], learn_after=None)
    return add(content, (stored.request_id, 0), **NAME)


def id_of(store: Store, kind: LearningKind = "profile", **query: Any) -> str:
    [found] = store.get_learnings(kind, LearningQuery(user_id="ada", **query))
    return found.profile_id if isinstance(found, UserProfile) else str(getattr(found, f"{kind}_id"))


class TestCorrectingByHand:
    def test_what_was_deleted_is_not_learned_again_from_the_same_messages(self, store: Store, turn: MakeTurn) -> None:
        """Not by the next run, not in other spelling; only a new message says it anew."""
        first, second = tell(store, turn, "Likes tea", "s1"), tell(store, turn, "likes tea.", "s2")
        store.apply("ada", [first])
        assert store.delete_learnings("profile", [id_of(store)], user_id="ada") == 1
        assert store.apply("ada", [first]) == Applied()
        assert store.apply("ada", [Change("add", "profile", second.learning, evidence=first.evidence)]) == Applied()
        assert profiles_of(store, "ada") == []
        assert store.apply("ada", [second]) == Applied(profiles_added=1)
        assert store.apply("ada", [first]) == Applied(profiles_updated=1)

    @pytest.mark.parametrize("owner", [None, "ada"])
    def test_deleting_all_of_a_kind_is_remembered_too(self, store: Store, turn: MakeTurn, owner: str | None) -> None:
        """Of the user, or of everyone."""
        told = tell(store, turn, "Likes tea", "s1")
        store.apply("ada", [told])
        assert store.delete_learnings("profile", None, user_id=owner) == 1
        assert store.apply("ada", [told]) == Applied()

    def test_what_was_corrected_stays_corrected(self, store: Store, turn: MakeTurn) -> None:
        """However often the session is learned from again, and although the two share a slot."""
        told, later = tell(store, turn, "Name: Eve", "s1"), tell(store, turn, "Name: Adam", "s2", at=4_000_000_000)
        store.apply("ada", [told])
        for content in ("Name: Eva", "Name: Ewa"):
            assert store.update_learning("profile", id_of(store), {"content": content}, user_id="ada")
            assert store.apply("ada", [told]) == Applied()
            assert profiles_of(store, "ada") == [content]
        assert search_profiles(store, "ada", "eve") == []
        assert store.apply("ada", [later]) == Applied(profiles_added=1)
        assert profiles_of(store, "ada") == ["Name: Adam"]

    def test_a_rule_whose_trigger_was_corrected_stays_corrected(self, store: Store, turn: MakeTurn) -> None:
        """A change of its tags alone is no correction of what it says."""
        stored = turn()
        store.add_turns([stored])
        evidence = (Evidence(request_id=stored.request_id),)
        change = Change("add", "user_playbook", UserPlaybook(trigger="deploy", content="Run tests"), evidence=evidence)
        store.apply("ada", [change])
        name = id_of(store, "user_playbook")
        assert store.update_learning("user_playbook", name, {"tags": ["mine"]})
        assert store.update_learning("user_playbook", name, {"trigger": "release"})
        assert store.apply("ada", [change]) == Applied()
        assert id_of(store, "user_playbook") == name

    def test_users_do_not_correct_each_other(self, store: Store, turn: MakeTurn) -> None:
        """The same words from the same request id, deleted for one, are learned for the other."""
        mine = turn(request_id="same")
        store.add_turns([mine, turn(user_id="bob", request_id="same")])
        change = add("Likes tea", ("same", 0))
        store.apply("ada", [change])
        store.delete_learnings("profile", None, user_id="ada")
        assert store.apply("bob", [change]) == Applied(profiles_added=1)

    @pytest.mark.parametrize("forget", ["request", "session", "user"])
    def test_a_correction_is_forgotten_with_the_messages_it_names(
        self, store: Store, turn: MakeTurn, forget: str
    ) -> None:
        """The same request stored anew is a new one."""
        stored = turn()
        change = add("Likes tea", (stored.request_id, 0))
        store.add_turns([stored])
        store.apply("ada", [change])
        store.delete_learnings("profile", None, user_id="ada")
        if forget == "request":
            store.delete_requests([stored.request_id])
        else:
            assert (store.delete_session("s1") if forget == "session" else store.delete_user("ada")).requests == 1
        store.add_turns([stored])
        assert store.apply("ada", [change]) == Applied(profiles_added=1)

    def test_what_a_run_retired_may_be_deleted_with_its_session_and_learned_again(
        self, store: Store, turn: MakeTurn
    ) -> None:
        """Forgetting and retiring are no corrections by hand."""
        first, second = tell(store, turn, "Likes tea", "s1"), tell(store, turn, "Likes tea", "s2")
        store.apply("ada", [first])
        store.apply("ada", [Change("retire", "profile", learning_id=id_of(store), evidence=first.evidence)])
        store.delete_session("s1")
        assert store.apply("ada", [second]) == Applied(profiles_added=1)


class TestSucceeding:
    def test_forgetting_a_correction_restores_what_it_corrected(self, store: Store, turn: MakeTurn) -> None:
        """Current, searchable, and superseded by nothing."""
        store.apply("ada", [tell(store, turn, "Name: Eve", "e1"), tell(store, turn, "Name: Adam", "e2")])
        assert search_profiles(store, "ada", "eve") == []
        assert store.delete_session("e2").profiles == 1
        [found] = store.get_learnings("profile", LearningQuery(user_id="ada"))
        assert isinstance(found, UserProfile)
        assert (found.content, found.status, found.superseded_by) == ("Name: Eve", None, None)
        assert search_profiles(store, "ada", "eve") == ["Name: Eve"]

    @pytest.mark.parametrize("order", [[0, 1, 2], [2, 1, 0], [0, 2, 1], [1, 2, 0]])
    @pytest.mark.parametrize(
        ("gone", "left"), [("e1", "Name: C"), ("e2", "Name: C"), ("e3", "Name: B"), ("e2 e3", "Name: A")]
    )
    def test_whatever_goes_the_newest_that_is_left_is_current(
        self, store: Store, turn: MakeTurn, order: list[int], gone: str, left: str
    ) -> None:
        """One alone, in whatever order the three were learned."""
        told = [
            tell(store, turn, f"Name: {name}", session) for name, session in zip("ABC", ("e1", "e2", "e3"), strict=True)
        ]
        for number in order:
            store.apply("ada", [told[number]])
        for session in gone.split():
            store.delete_session(session)
        assert profiles_of(store, "ada") == [left]
        assert store.apply("ada", told).profiles_added == 0
        assert profiles_of(store, "ada") == [left]

    def test_a_value_told_twice_is_restored_once(self, store: Store, turn: MakeTurn) -> None:
        """The two that said it, learned in an order that kept both, do not both become current."""
        old, again, new = (tell(store, turn, name, session) for name, session in (("A", "1"), ("A", "2"), ("B", "3")))
        for change in (old, new, again):
            store.apply("ada", [change])
        store.delete_session("3")
        assert profiles_of(store, "ada") == ["A"]

    def test_rules_follow_one_another_within_their_agent_version(self, store: Store, turn: MakeTurn) -> None:
        """By the time of their messages, and back again when the newer one is forgotten."""
        turns = [turn(session_id=name) for name in ("old", "new")]
        store.add_turns(turns)
        old, new, other = (
            Change(
                "add",
                "user_playbook",
                UserPlaybook(content=content, agent_version=version, tags=["slot:language"]),
                evidence=(Evidence(request_id=stored.request_id),),
            )
            for content, version, stored in (
                ("German", "v1", turns[0]),
                ("Greek", "v1", turns[1]),
                ("Thai", "v2", turns[0]),
            )
        )
        assert store.apply("ada", [new, old, other]) == Applied(playbooks_added=3)

        def current() -> list[str]:
            return sorted(item.content for item in store.get_learnings("user_playbook", LearningQuery(user_id="ada")))

        assert current() == ["Greek", "Thai"]
        assert store.delete_session("new").user_playbooks == 1
        assert current() == ["German", "Thai"]

    def test_deleting_the_newer_value_by_hand_restores_the_older(self, store: Store, turn: MakeTurn) -> None:
        """And the next run changes nothing."""
        told = [tell(store, turn, "Name: Eve", "e1"), tell(store, turn, "Name: Adam", "e2")]
        store.apply("ada", told)
        store.delete_learnings("profile", [id_of(store)], user_id="ada")
        assert profiles_of(store, "ada") == ["Name: Eve"]
        assert store.apply("ada", told) == Applied()
        assert search_profiles(store, "ada", "name") == ["Name: Eve"]

    def test_a_value_told_earlier_but_learned_later_is_not_current(self, store: Store, turn: MakeTurn) -> None:
        """It is kept as superseded, and learning it again changes nothing."""
        old, new = tell(store, turn, "Name: Eve", "e1"), tell(store, turn, "Name: Adam", "e2")
        store.apply("ada", [new])
        assert store.apply("ada", [old]) == Applied(profiles_added=1)
        assert store.apply("ada", [old, new]) == Applied()
        assert profiles_of(store, "ada") == ["Name: Adam"]
        assert search_profiles(store, "ada", "eve") == []
        [found] = store.get_learnings("profile", LearningQuery(user_id="ada", status_filter=[Status.SUPERSEDED]))
        assert isinstance(found, UserProfile)
        assert (found.content, found.superseded_by) == ("Name: Eve", id_of(store))

    def test_a_value_confirmed_late_is_as_old_as_the_message_that_confirms_it(
        self, store: Store, turn: MakeTurn
    ) -> None:
        """Not as new as the run that learned so."""
        told = [tell(store, turn, name, session) for name, session in (("Eve", "1"), ("Eve", "2"), ("Adam", "3"))]
        for change in told:
            store.apply("ada", [change])
        assert profiles_of(store, "ada") == ["Adam"]

    def test_of_two_turns_in_one_second_the_later_one_counts(self, store: Store, turn: MakeTurn) -> None:
        """Down to the microsecond; and within a turn, by the order of its messages."""
        old = tell(store, turn, "Name: Eve", "e1", at=1_700_000_500.000_001)
        new = tell(store, turn, "Name: Adam", "e2", at=1_700_000_500.000_002)
        store.apply("ada", [new])
        store.apply("ada", [old])
        assert profiles_of(store, "ada") == ["Name: Adam"]

    def test_a_statement_made_before_an_edit_by_hand_does_not_undo_it(self, store: Store, turn: MakeTurn) -> None:
        """The edit is the newest statement."""
        first, second = tell(store, turn, "Name: Eve", "e1"), tell(store, turn, "Name: Adam", "e2")
        store.apply("ada", [first])
        store.update_learning("profile", id_of(store), {"content": "Name: Eva"}, user_id="ada")
        store.apply("ada", [second])
        assert profiles_of(store, "ada") == ["Name: Eva"]


class TestJobs:
    def test_a_turn_asks_for_the_learning_of_its_session(self, store: Store, turn: MakeTurn) -> None:
        """Once for each session, with the number of turns; not for nobody, not for evaluations."""
        silent = [turn(user_id=""), turn(session_id="eval", options={"evaluation_only": True})]
        store.add_turns([turn(), turn(), *silent])
        store.add_turns([turn(session_id="quiet")], learn_after=None)
        job = store.claim_job("learn", lease_seconds=60)
        assert job is not None
        assert (job.user_id, job.key, job.generation, job.attempts) == ("ada", "s1", 2, 1)
        assert store.claim_job("learn", lease_seconds=60) is None
        assert store.finish_job(job, {"profiles_added": 1})
        [state] = store.job_states("learn")
        assert (state.state, state.result) == ("done", {"profiles_added": 1})

    def test_a_waiting_job_is_put_off_by_each_turn_until_it_is_hastened(self, store: Store, turn: MakeTurn) -> None:
        """Debounce; ``hasten_jobs`` makes it due now."""
        store.add_turns([turn()], learn_after=60)
        [first] = store.job_states("learn", states=["ready"])
        store.add_turns([turn()], learn_after=120)
        [second] = store.job_states("learn", user_id="ada", key="s1")
        assert second.due_us > first.due_us + 50_000_000
        assert store.claim_job("learn", lease_seconds=60) is None
        assert store.hasten_jobs("learn", user_id="bob") == 0
        assert store.hasten_jobs("learn", user_id="ada", key="s1") == 1
        assert store.claim_job("learn", lease_seconds=60) is not None

    @pytest.mark.parametrize("option", ["force_extraction", "session_finished"])
    def test_a_forced_job_is_due_at_once_and_stays_so(self, store: Store, turn: MakeTurn, option: str) -> None:
        """A later turn does not put it off."""
        store.add_turns([turn(options={option: True})], learn_after=3600)
        store.add_turns([turn()], learn_after=3600)
        assert store.claim_job("learn", lease_seconds=60) is not None

    def test_a_job_asked_for_while_it_runs_is_ready_again(self, store: Store, turn: MakeTurn) -> None:
        """With the due time of the newer turn."""
        store.add_turns([turn()])
        job = store.claim_job("learn", lease_seconds=60)
        assert job is not None
        store.add_turns([turn()], learn_after=3600)
        assert store.claim_job("learn", lease_seconds=60) is None
        assert store.finish_job(job, {})
        [state] = store.job_states("learn")
        assert state.state == "ready"
        assert store.claim_job("learn", lease_seconds=60) is None
        assert store.hasten_jobs("learn") == 1

    def test_a_job_whose_lease_ran_out_is_taken_over(self, store: Store, turn: MakeTurn) -> None:
        """The first holder has lost it: nothing that it notes counts."""
        store.add_turns([turn()])
        lost = store.claim_job("learn", lease_seconds=0)
        taken = store.claim_job("learn", lease_seconds=60)
        assert lost is not None and taken is not None
        assert (taken.key, taken.attempts) == (lost.key, 2)
        assert not store.extend_job(lost, lease_seconds=60)
        assert not store.finish_job(lost, {})
        assert not store.fail_job(lost, "late", retry_after=None)
        assert store.extend_job(taken, lease_seconds=60) and store.finish_job(taken, {})

    def test_an_extended_lease_is_not_taken_over(self, store: Store, turn: MakeTurn) -> None:
        """Also when it had run out, as long as nobody took the job."""
        store.add_turns([turn()])
        job = store.claim_job("learn", lease_seconds=0)
        assert job is not None and store.extend_job(job, lease_seconds=60)
        assert store.claim_job("learn", lease_seconds=60) is None

    def test_a_failed_job_is_tried_again_or_dead(self, store: Store, turn: MakeTurn) -> None:
        """Dead ones wait for ``retry_dead_jobs``."""
        store.add_turns([turn()])
        job = store.claim_job("learn", lease_seconds=60)
        assert job is not None and store.fail_job(job, "try later", retry_after=0)
        again = store.claim_job("learn", lease_seconds=60)
        assert again is not None and again.attempts == 2
        assert store.fail_job(again, "never", retry_after=None)
        [state] = store.job_states("learn", states=["dead"])
        assert (state.last_error, store.counts()["jobs_dead"]) == ("never", 1)
        assert store.claim_job("learn", lease_seconds=60) is None
        assert any(finding.level == "warning" and "dead" in finding.message for finding in store.check())
        assert store.retry_dead_jobs("learn") == 1
        retried = store.claim_job("learn", lease_seconds=60)
        assert retried is not None and retried.attempts == 1

    def test_a_new_turn_wakes_a_dead_job(self, store: Store, turn: MakeTurn) -> None:
        """What is new may succeed."""
        store.add_turns([turn()])
        job = store.claim_job("learn", lease_seconds=60)
        assert job is not None and store.fail_job(job, "never", retry_after=None)
        store.add_turns([turn()])
        assert store.claim_job("learn", lease_seconds=60) is not None

    def test_workers_never_hold_the_same_job(self, store: Store, turn: MakeTurn) -> None:
        """Six threads claim thirty jobs until none is left."""
        store.add_turns([turn(session_id=f"s{number}") for number in range(30)])
        held: list[str] = []

        def work() -> None:
            while (job := store.claim_job("learn", lease_seconds=60)) is not None:
                held.append(job.key)
                store.finish_job(job, {})

        threads = [threading.Thread(target=work) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(held) == sorted(f"s{number}" for number in range(30))

    def test_jobs_come_in_the_order_in_which_they_fell_due(self, store: Store, turn: MakeTurn) -> None:
        """The one that has waited longest first."""
        for name in ("first", "second", "third"):
            store.add_turns([turn(session_id=name)])
        keys = [job.key for _ in range(3) if (job := store.claim_job("learn", lease_seconds=60)) is not None]
        assert keys == ["first", "second", "third"]


class TestAHome:
    def test_a_home_keeps_the_contract(self, store: Store) -> None:
        """It names itself, and its health check finds no error."""
        assert isinstance(store, Store)
        assert store.url.startswith(store.kind)
        assert [finding for finding in store.check() if finding.level == "error"] == []

    def test_a_closed_home_says_so(self, store: Store, turn: MakeTurn) -> None:
        """Closing twice is fine; using it is not."""
        store.close()
        store.close()
        for use in (store.counts, lambda: store.add_turns([turn()]), lambda: store.read_session("a", "b")):
            with pytest.raises(StoreUnavailableError, match="closed"):
                use()
