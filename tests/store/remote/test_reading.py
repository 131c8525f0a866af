"""Reading from a server, and deleting there: only what was asked for, and all of it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reflexio_store.contract import Receipt, Store
from reflexio_store.errors import InvalidInputError, StoreError, StoreUnavailableError
from reflexio_store.homes import open_store
from reflexio_store.models import (
    AgentPlaybook,
    GetInteractionsRequest,
    GetRequestsRequest,
    GetSessionOutcomesRequest,
    LearningKind,
    LearningQuery,
    PlaybookStatus,
    SearchInteractionRequest,
    Status,
    UserPlaybook,
    UserProfile,
)
from reflexio_store.records import TurnRecord
from reflexio_store.remote.pages import walk
from reflexio_store.remote.wire import window
from tests.reflexio_server import Fault, ReflexioServer

MakeTurn = Callable[..., TurnRecord]
EARLIEST, LATEST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)


def test_sessions_of_one_name_are_told_apart_by_user(home: Store, turn: MakeTurn) -> None:
    """The server merges them; and its unscoped delete is not used."""
    home.add_turns([turn("mine"), turn("yours", user_id="bob"), turn("mine, too")])
    found = home.get_requests(GetRequestsRequest(session_id="s1")).sessions
    assert sorted((item.user_id, len(item.requests)) for item in found) == [("ada", 2), ("bob", 1)]
    assert home.delete_session("s1", user_id="bob") == Receipt(requests=1, interactions=1)
    assert [item.user_id for item in home.get_requests(GetRequestsRequest()).sessions] == ["ada"]


@settings(max_examples=60, deadline=None)
@given(
    names=st.lists(st.integers(0, 30), min_size=1, max_size=30),
    size=st.integers(1, 6),
    data=st.data(),
)
def test_pages_are_complete_while_sessions_come_and_go(names: list[int], size: int, data: st.DataObject) -> None:
    """Whatever is added and deleted between two pages: what stayed in its place comes exactly once."""
    places = {name: number for number, name in enumerate(names)}

    def ask(offset: int, count: int) -> list[dict[str, Any]]:
        order = sorted(places, key=lambda name: (places[name], f"{name:02}"), reverse=True)
        return [_row(name, places[name]) for name in order[offset : offset + count]]

    before, seen, cursor = dict(places), [], None
    untouched = set(places)
    while True:
        page = []
        for item in walk(ask, lambda found: True, size, cursor):
            page.append(item)
            if len(page) == size:
                break
        seen += [int(item.session.session_id) for item in page]
        if len(page) < size:
            break
        cursor = page[-1].cursor
        for name in data.draw(st.lists(st.integers(0, 40), max_size=3)):
            untouched.discard(name)
            if name in places and data.draw(st.booleans()):
                del places[name]
            else:
                places[name] = 100 + len(seen) + name
    assert len(seen) == len(set(seen))
    assert untouched <= set(seen) <= set(before) | set(range(41))
    assert [name for name in seen if name in untouched] == sorted(
        untouched, key=lambda name: (before[name], f"{name:02}"), reverse=True
    )


def _row(name: int, at: int) -> dict[str, Any]:
    request = {"request_id": f"r{name}", "user_id": "ada", "session_id": f"{name:02}", "created_at": at}
    return {"session_id": f"{name:02}", "requests": [{"request": request}]}


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        (1000, 1001, ("1970-01-01T00:16:40+00:00", "1970-01-01T00:16:40.500000+00:00")),
        (1000.2, 1003.2, ("1970-01-01T00:16:41+00:00", "1970-01-01T00:16:43.500000+00:00")),
        (1000.2, 1000.8, None),
    ],
)
def test_a_window_is_half_open_on_a_server_that_counts_its_end(
    start: float, end: float, expected: tuple[str, str] | None
) -> None:
    """In whole seconds, with a zone, and never one that the server refuses."""
    found = window(datetime.fromtimestamp(start, UTC), datetime.fromtimestamp(end, UTC))
    assert found == (None if expected is None else {"start_time": expected[0], "end_time": expected[1]})


@pytest.mark.parametrize("ends", [{"start_time": LATEST}, {"end_time": EARLIEST}], ids=str)
def test_nothing_lies_beyond_the_end_of_time(home: Store, turn: MakeTurn, ends: dict[str, datetime]) -> None:
    """Nor before its beginning; all lies between."""
    home.add_turns([turn()])
    assert home.get_requests(GetRequestsRequest(**ends)).sessions == []
    assert len(home.get_requests(GetRequestsRequest(start_time=EARLIEST, end_time=LATEST)).sessions) == 1


def test_profiles_of_all_users_are_cut_after_they_were_looked_through(home: Store) -> None:
    """The route that lists them knows neither source nor time to live."""
    home.add_learnings(
        [
            UserProfile(user_id="ada", content="old", source="web", profile_time_to_live="one_year",
                        last_modified_timestamp=1_700_000_000, expiration_timestamp=4_000_000_000),
            UserProfile(user_id="bob", content="new", source="app", last_modified_timestamp=1_700_000_009),
        ]
    )  # fmt: skip
    for query in (LearningQuery(source="web", top_k=1), LearningQuery(profile_time_to_live="one_year", top_k=1)):
        assert [item.content for item in home.get_learnings("profile", query)] == ["old"]


def test_an_id_that_no_text_can_have_is_of_nothing(home: Store) -> None:
    """Half a character, and what stands for something in an address."""
    home.add_learnings([UserProfile(user_id="ada", content="tea", profile_id="a/b?c=d&e#\xfc")])
    assert home.delete_learnings("profile", ["\ud800", "a/b", "a/b?c=d&e#\xfc"], user_id="ada") == 1


def test_interactions_of_one_second_come_newest_first(home: Store, turn: MakeTurn) -> None:
    """The server cuts them oldest first: more are asked for until the cut is right."""
    home.add_turns([turn(*(f"{number}" for number in range(300)), at=1000), turn("last", at=999)])
    found = home.get_interactions(GetInteractionsRequest(user_id="ada", top_k=3))
    assert [item.content for item in found] == ["299", "298", "297"]


KINDS: list[LearningKind] = ["profile", "user_playbook", "agent_playbook"]


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_not_current_never_comes_unasked(home: Store, kind: LearningKind) -> None:
    """The server hands out pending and archived playbooks where no status is named."""
    statuses = [None, Status.PENDING, Status.ARCHIVED]
    if kind == "agent_playbook":
        home.add_learnings([AgentPlaybook(agent_version="v1", content="tea")])
        statuses = [None]
    elif kind == "profile":
        home.add_learnings([UserProfile(user_id="ada", content="tea", status=status) for status in statuses])
    else:
        home.add_learnings([UserPlaybook(user_id="ada", content="tea", status=status) for status in statuses])
    assert [item.status for item in home.get_learnings(kind, LearningQuery())] == [None]
    query = LearningQuery(user_id="ada", query="tea")
    assert [hit.learning.status for hit in home.search_learnings(kind, query)] == [None]
    if kind != "agent_playbook":
        archived = LearningQuery(user_id="ada", query="tea", status_filter=[Status.ARCHIVED])
        assert [hit.learning.status for hit in home.search_learnings(kind, archived)] == [Status.ARCHIVED]


def test_nothing_personal_is_searched_without_a_user(server: ReflexioServer, home: Store) -> None:
    """The server would hand out the playbooks of all users: it is not even asked."""
    home.add_learnings([UserPlaybook(user_id="bob", content="tea")])
    asked = len(server.calls)
    for kind in ("profile", "user_playbook"):
        for user_id in (None, ""):
            assert home.search_learnings(kind, LearningQuery(user_id=user_id, query="tea")) == []  # type: ignore[arg-type]
    assert len(server.calls) == asked


def test_rows_of_others_are_dropped_whatever_the_server_answers(server: ReflexioServer, home: Store) -> None:
    """A server that ignored every filter would still leak nothing."""
    server.routes.ignores_filters = True
    home.add_learnings([UserPlaybook(user_id=user, agent_version=version, content="tea")
                        for user in ("ada", "bob") for version in ("v1", "v2")])  # fmt: skip
    home.add_learnings([UserProfile(user_id=user, content="tea") for user in ("ada", "bob")])
    query = LearningQuery(user_id="ada", agent_version="v1", query="tea")
    for kind in ("profile", "user_playbook"):
        listed = home.get_learnings(kind, query)  # type: ignore[arg-type]
        searched = [hit.learning for hit in home.search_learnings(kind, query)]  # type: ignore[arg-type]
        for found in (listed, searched):
            assert [getattr(item, "user_id", "") for item in found] == ["ada"]
            assert all(getattr(item, "agent_version", "v1") == "v1" for item in found)


def test_the_profile_of_another_user_is_not_taken_over(home: Store) -> None:
    """On the server, storing a known id takes it from whoever had it."""
    [name] = home.add_learnings([UserProfile(user_id="bob", content="Bob's")])
    with pytest.raises(InvalidInputError, match="another user"):
        home.add_learnings([UserProfile(profile_id=name, user_id="ada", content="mine")])
    assert [item.content for item in home.get_learnings("profile", LearningQuery(user_id="bob"))] == ["Bob's"]


@pytest.mark.parametrize(
    ("kind", "fault"),
    [
        *(("profile", fault) for fault in ("break after", "status after")),
        *(("user_playbook", fault) for fault in ("break after", "status after", "silence after")),
    ],
)
def test_a_learning_whose_answer_was_lost_is_stored_once(
    server: ReflexioServer, home: Store, kind: LearningKind, fault: Any
) -> None:
    """It is looked up by what was sent, and has its id."""
    made = (
        UserProfile(user_id="ada", content="tea") if kind == "profile" else UserPlaybook(user_id="ada", content="tea")
    )
    server.faults.script(Fault(fault), path="/api/add_user")
    [name] = home.add_learnings([made])
    [found] = home.get_learnings(kind, LearningQuery(user_id="ada"))
    assert str(getattr(found, f"{kind}_id")) == name


def test_a_session_goes_with_what_names_it_alone_as_its_source(
    server: ReflexioServer, home: Store, turn: MakeTurn
) -> None:
    """The server leaves what it learned: what rests on other messages, or was added by hand, stays."""
    home.add_turns([turn("a", "b"), turn("c", session_id="s2")])
    first, second, other = (item.interaction_id for item in home.get_interactions(
        GetInteractionsRequest(user_id="ada"))[::-1])  # fmt: skip
    home.add_learnings(
        [
            UserProfile(user_id="ada", content="Both", source_interaction_ids=[first, other]),
            UserProfile(user_id="ada", content="Alone", source_interaction_ids=[first, second]),
            UserProfile(user_id="ada", content="By hand"),
            UserPlaybook(user_id="ada", content="Rule", source_interaction_ids=[second]),
        ]
    )
    assert home.delete_session("s1") == Receipt(requests=1, interactions=2, profiles=1, user_playbooks=1)
    left = home.get_learnings("profile", LearningQuery(user_id="ada"))
    assert sorted(item.content for item in left) == ["Both", "By hand"]
    assert home.get_learnings("user_playbook", LearningQuery(user_id="ada")) == []


def test_an_unknown_playbook_is_not_updated_whatever_the_server_says(home: Store) -> None:
    """It says success for a user playbook, and hands out a traceback for an agent playbook."""
    for kind in ("user_playbook", "agent_playbook"):
        assert not home.update_learning(kind, "77", {"content": "x"})  # type: ignore[arg-type]
    [name] = home.add_learnings([AgentPlaybook(agent_version="v1", content="Be kind")])
    assert home.update_learning("agent_playbook", name, {"playbook_status": PlaybookStatus.APPROVED})
    [found] = home.get_learnings("agent_playbook", LearningQuery(playbook_status_filter=[PlaybookStatus.APPROVED]))
    assert found.content == "Be kind"
    with pytest.raises(InvalidInputError, match="tags"):
        home.update_learning("agent_playbook", name, {"tags": ["x"]})


@pytest.mark.parametrize("kind", ["user_playbook", "agent_playbook"])
def test_what_a_server_cannot_empty_is_refused(home: Store, kind: LearningKind) -> None:
    """To it null means that nothing changes; a profile is stored anew."""
    model = UserPlaybook if kind == "user_playbook" else AgentPlaybook
    owner = {"user_id": "ada"} if kind == "user_playbook" else {}
    made = [model(agent_version="v1", trigger="tea", content="Warm the pot.", **owner),
            UserProfile(user_id="ada", content="tea", custom_features={"cups": 2})]  # fmt: skip
    rule, fact = home.add_learnings(made)
    with pytest.raises(InvalidInputError, match="trigger"):
        home.update_learning(kind, rule, {"trigger": None, "content": "Warm it."})
    assert home.update_learning(kind, rule, {"rationale": None, "content": "Warm it."})
    assert home.update_learning("profile", fact, {"custom_features": None})
    [profile] = home.get_learnings("profile", LearningQuery())
    assert isinstance(profile, UserProfile) and profile.custom_features is None


@pytest.mark.parametrize("user_id", ["ada", None])
def test_many_profiles_are_deleted_at_once(user_id: str | None) -> None:
    """Also where the server limits how many may be looked up in a minute; others stay."""
    with ReflexioServer(limited=True) as server, closing(open_store(f"{server.url}?timeout=0.5")) as home:
        names = home.add_learnings([UserProfile(user_id="ada", content=f"Fact {number}.") for number in range(40)])
        home.add_learnings([UserProfile(user_id="bob", content="tea")])
        assert home.delete_learnings("profile", [*names, "unknown"], user_id=user_id) == 40
        assert [item["user_id"] for item in server.data.learnings("profiles")] == ["bob"]


def read_all(home: Store) -> None:
    home.get_interactions(GetInteractionsRequest(user_id="ada"))
    home.get_learnings("profile", LearningQuery(user_id="ada"))
    home.get_requests(GetRequestsRequest())
    home.get_outcomes(GetSessionOutcomesRequest())


@pytest.mark.parametrize("listed", [None, []])
def test_a_list_that_is_not_there_is_empty(server: ReflexioServer, home: Store, listed: object) -> None:
    """The server leaves out what is null; so may what stands before it."""
    answer = {
        "success": True,
        **dict.fromkeys(("interactions", "user_profiles", "sessions", "session_outcomes"), listed),
    }
    for route in ("get_interactions", "get_profiles", "get_requests", "get_session_outcomes"):
        setattr(server.routes, route, lambda body: answer)
    read_all(home)


@pytest.mark.parametrize(
    ("route", "rows"),
    [
        ("get_interactions", {"interactions": [{"user_id": "ada", "retrieved_learnings": [{"kind": "of tomorrow"}]}]}),
        ("get_interactions", {"interactions": {"ada": "tea"}}),
        ("get_profiles", {"user_profiles": ["tea"]}),
        ("get_session_outcomes", {"session_outcomes": [{"outcome": "of tomorrow"}]}),
        ("get_requests", {"sessions": [{"session_id": "s", "requests": [{"request": {
            "request_id": "r", "user_id": "ada", "created_at": 1, "retrieval_experiment_arm": "of tomorrow"}}]}]}),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_told_as_an_error_of_the_server(
    server: ReflexioServer, home: Store, route: str, rows: dict[str, object]
) -> None:
    """Not as one of Python's or of pydantic's."""
    setattr(server.routes, route, lambda body: {"success": True, **rows})
    with pytest.raises(StoreError, match=r"The server's .* cannot be read"):
        read_all(home)


def test_a_refusal_is_told_in_one_line(server: ReflexioServer, home: Store) -> None:
    """Of a traceback only the end."""
    told = {"success": False, "msg": "Traceback (most recent call last):\n  File x\nValueError: odd"}
    server.routes.whoami = lambda body: told  # type: ignore[method-assign]
    [finding] = home.check()
    assert finding.level == "error" and "ValueError: odd" in finding.message and "Traceback" not in finding.message


@pytest.mark.parametrize("fault", [Fault("break before"), Fault("status before", 503, "0"), Fault("garbage")])
def test_a_read_is_tried_again(server: ReflexioServer, home: Store, turn: MakeTurn, fault: Fault) -> None:
    """What may pass is not shown."""
    home.add_turns([turn()])
    server.faults.script(fault, path="/api/get_requests")
    assert len(home.get_requests(GetRequestsRequest()).sessions) == 1


def test_a_read_ends_in_time(server: ReflexioServer, home: Store) -> None:
    """A server that never answers is given up, with its address in the error."""
    server.faults.script(Fault("silence before"), times=5, path="/api/get_requests")
    with pytest.raises(StoreUnavailableError, match=server.url):
        home.get_requests(GetRequestsRequest())


def test_searching_rests_after_failures_and_is_tried_again(server: ReflexioServer, home: Store) -> None:
    """An agent does not wait again and again for a server that does not answer."""
    query = LearningQuery(user_id="ada", query="tea")
    server.faults.script(Fault("silence before"), times=100, path="/api/search")
    for _ in range(3):
        with pytest.raises(StoreUnavailableError, match="no answer"):
            home.search_learnings("profile", query)
    asked = len(server.calls)
    with pytest.raises(StoreUnavailableError, match="rests"):
        home.search_learnings("profile", query)
    assert len(server.calls) == asked


def test_operators_in_a_query_are_words(home: Store, turn: MakeTurn) -> None:
    """To the server upper-case ones are operators, and such a query finds nothing."""
    home.add_learnings([UserProfile(user_id="ada", content="Drinks tea AND coffee")])
    assert home.search_learnings("profile", LearningQuery(user_id="ada", query="NOT tea AND OR coffee"))
    home.add_turns([turn("I drink tea.")])
    assert home.search_interactions(SearchInteractionRequest(user_id="ada", query="NOT tea AND OR coffee"))


def test_changes_of_an_extractor_are_refused(home: Store) -> None:
    """The server learns itself; there is no job either."""
    with pytest.raises(StoreError, match="learns itself"):
        home.apply("ada", [])
    assert home.learns_itself and home.claim_job("learn", lease_seconds=1) is None
    assert home.counts()["jobs_ready"] == 0
