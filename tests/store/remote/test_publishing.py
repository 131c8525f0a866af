"""Publishing to a server: exactly once, whatever goes wrong."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reflexio_store.contract import Store
from reflexio_store.errors import InvalidInputError, StoreAccessError, StoreUnavailableError
from reflexio_store.homes import open_store
from reflexio_store.models import GetInteractionsRequest, GetRequestsRequest
from reflexio_store.records import TurnRecord
from reflexio_store.remote.circuit import Circuit
from reflexio_store.remote.home import RemoteStore
from reflexio_store.remote.http import Http
from reflexio_store.remote.publish import Publisher
from tests.reflexio_server import Fault, ReflexioServer
from tests.reflexio_server.validation import RefusedError
from tests.store.conftest import wait_until

MakeTurn = Callable[..., TurnRecord]
UNCLEAR = [Fault("break before"), Fault("break after"), Fault("status before"), Fault("status after"),
           Fault("silence before"), Fault("silence after"), Fault("garbage"), Fault("status after", 504),
           Fault("status before", 408), Fault("status before", 407), Fault("status before", 425)]  # fmt: skip
CLEAR = [Fault("refuse"), Fault("status before", 503, retry_after="0"), Fault("status before", 429, retry_after="0"),
         Fault("slow", seconds=0.01)]  # fmt: skip


def name(fault: Fault) -> str:
    return f"{fault.name} {fault.status}"


def deliver(home: Store, turns: list[TurnRecord]) -> int:
    """Give a batch until it is acknowledged, as the writer does; how many were new in all."""
    end = time.monotonic() + 20
    while True:
        try:
            return home.add_turns(turns)
        except StoreUnavailableError:
            assert time.monotonic() < end, "never acknowledged"


@pytest.mark.parametrize("fault", [*UNCLEAR, *CLEAR], ids=name)
def test_a_turn_arrives_once_after_a_fault(server: ReflexioServer, home: Store, turn: MakeTurn, fault: Fault) -> None:
    """Done or not done, answered or not: it is there once, and counts as new once."""
    sent = turn()
    server.faults.script(fault)
    assert deliver(home, [sent]) == 1
    assert server.stored() == [sent.request_id]
    assert home.add_turns([sent]) == 0


@pytest.mark.parametrize("fault", UNCLEAR, ids=name)
def test_the_server_is_asked_before_a_turn_is_sent_again(
    server: ReflexioServer, home: Store, turn: MakeTurn, fault: Fault
) -> None:
    """After an answer that was lost, the next call asks for the request."""
    server.faults.script(fault)
    home.add_turns([turn()])
    assert [path for _, path in server.calls][:2] == ["/api/publish_interaction", "/api/get_requests"]


def test_a_known_request_is_delivered_already(server: ReflexioServer, home: Store, turn: MakeTurn) -> None:
    """The refusal of its id is no error; a second client finds it stored, too."""
    sent = turn()
    assert home.add_turns([sent]) == 1
    with closing(open_store(server.url)) as other:
        assert other.add_turns([sent, sent]) == 0
    assert server.stored() == [sent.request_id]


def test_the_request_of_another_user_is_never_taken_for_ours(home: Store, turn: MakeTurn) -> None:
    """Ids are global on a server: what was refused for that is an error, not a delivery."""
    home.add_turns([turn(user_id="bob", request_id="same")])
    with pytest.raises(InvalidInputError, match="another user"):
        home.add_turns([turn(user_id="ada", request_id="same")])


def test_a_turn_that_is_refused_for_good_does_not_hold_up_its_neighbours(
    server: ReflexioServer, home: Store, turn: MakeTurn
) -> None:
    """All others are stored first; the error names what is wrong, without the user's words."""
    bad = turn("secret words", source="Not A Source")
    good = [turn(), turn(session_id="s2"), turn()]
    with pytest.raises(InvalidInputError, match="source") as error:
        home.add_turns([good[0], bad, *good[1:]])
    assert sorted(server.stored()) == sorted(item.request_id for item in good)
    assert "secret" not in str(error.value)
    assert home.add_turns(good) == 3, "what the failed batch delivered is counted by its retry"
    assert server.called("/api/publish_interaction") == 4


def test_a_turn_that_the_server_fails_to_store_again_and_again_is_given_up_only_while_others_are_stored(
    server: ReflexioServer, home: Store, turn: MakeTurn
) -> None:
    """While nothing can be stored, everything waits."""
    stuck = turn()
    for _ in range(8):
        server.faults.script(Fault("refuse"))
        with pytest.raises(StoreUnavailableError, match="database is locked"):
            home.add_turns([stuck])
    home.add_turns([turn()])
    server.faults.script(Fault("refuse"))
    with pytest.raises(InvalidInputError, match="9 times"):
        home.add_turns([stuck])


@pytest.mark.parametrize("status", [401, 403])
def test_a_wrong_key_is_no_fault_of_the_turn(server: ReflexioServer, home: Store, turn: MakeTurn, status: int) -> None:
    """It waits for the right key."""
    server.faults.script(Fault("status before", status))
    with pytest.raises(StoreAccessError, match="REFLEXIO_API_KEY"):
        home.add_turns([turn()])


def test_a_key_opens_the_server(turn: MakeTurn) -> None:
    """As a bearer token; without it nothing is stored."""
    with ReflexioServer(api_key="k") as server, closing(open_store(server.url, api_key="k")) as home:
        assert home.add_turns([turn()]) == 1
        with closing(open_store(server.url, api_key="wrong")) as stranger, pytest.raises(StoreAccessError):
            stranger.add_turns([turn()])


def test_another_site_at_the_address_loses_nothing(server: ReflexioServer, turn: MakeTurn) -> None:
    """No such route is no refusal of the turn."""
    home = open_store(f"{server.url}/elsewhere")
    with closing(home), pytest.raises(StoreUnavailableError, match="address of a Reflexio server"):
        home.add_turns([turn()])


def test_another_service_that_answers_everything_loses_nothing(
    server: ReflexioServer, home: Store, turn: MakeTurn
) -> None:
    """Only who says that a turn is stored is believed."""
    server.routes.publish_interaction = server.routes.get_requests = lambda body: {"status": "ok"}  # type: ignore[method-assign]
    with pytest.raises(StoreUnavailableError, match="address of a Reflexio server"):
        home.add_turns([turn()])
    assert home.get_requests(GetRequestsRequest()).sessions == []


def test_a_server_that_asks_for_a_pause_is_left_alone(server: ReflexioServer, home: Store, turn: MakeTurn) -> None:
    """No call reaches it meanwhile."""
    server.faults.script(Fault("status before", 503, retry_after="30"))
    for _ in range(3):
        with pytest.raises(StoreUnavailableError) as error:
            home.add_turns([turn()])
        assert 0 < (error.value.retry_after or 0) <= 30
    assert len(server.calls) == 1


def test_the_turns_of_a_session_arrive_in_their_order(server: ReflexioServer, home: Store, turn: MakeTurn) -> None:
    """Also while several sessions are published at once."""
    turns = [turn(session_id=f"s{number % 5}") for number in range(50)]
    home.add_turns(turns[::-1])
    for session in range(5):
        mine = [item.request_id for item in turns if item.session_id == f"s{session}"]
        assert [item for item in server.stored() if item in mine] == mine


def test_a_turn_of_nobody_is_kept_and_not_learned_from(server: ReflexioServer, home: Store, turn: MakeTurn) -> None:
    """The server takes no empty user: it is told of a user that stands for none."""
    home.add_turns([turn(user_id="", options={"force_extraction": True})])
    [body] = server.routes.published
    assert body["evaluation_only"] is True and "force_extraction" not in body
    [found] = home.get_requests(GetRequestsRequest(user_id="")).sessions
    assert (found.user_id, found.requests[0].request.evaluation_only) == ("", False)


def test_a_message_of_any_word_reaches_the_server(server: ReflexioServer, home: Store, turn: MakeTurn) -> None:
    """Also of the one that stands for no action; its place in the turn is not the server's to know."""
    sent = turn("Any allergies?", "none")
    sent.interactions[1].place = 3
    home.add_turns([sent, turn("none")])
    listed = home.get_interactions(GetInteractionsRequest(user_id="ada"))
    assert [item.content for item in listed] == ["none", "none", "Any allergies?"]
    [first, _] = server.routes.published
    assert set(first["interaction_data_list"][1]) == {"role", "created_at", "content"}


def test_options_reach_the_server(server: ReflexioServer, home: Store, turn: MakeTurn) -> None:
    """What steers learning is the server's to obey; without learning, nothing is learned."""
    home.add_turns([turn(options={"force_extraction": True, "session_finished": True})])
    home.add_turns([turn()], learn_after=None)
    forced, silent = server.routes.published
    assert forced["force_extraction"] and forced["session_finished"] and silent["evaluation_only"]


def test_a_closed_home_ends_a_pause(server: ReflexioServer, turn: MakeTurn) -> None:
    """Whoever closes does not wait for a server that is away."""
    home = open_store(server.url)
    server.close()
    with pytest.raises(StoreUnavailableError, match="Is the server up"):
        home.add_turns([turn()])
    home.close()
    with pytest.raises(StoreUnavailableError, match="closed"):
        home.add_turns([turn()])


def test_what_waits_for_its_turn_when_the_home_is_closed_is_told_so(server: ReflexioServer, turn: MakeTurn) -> None:
    """As an error of the store: two threads publish more sessions than there are connections."""
    go_on, store_it = threading.Event(), server.routes.publish_interaction

    def held(body: dict[str, Any]) -> dict[str, Any]:
        go_on.wait(10)
        return store_it(body)

    server.routes.publish_interaction = held  # type: ignore[method-assign]
    home = open_store(f"{server.url}?connections=2&timeout=0.5")
    with ThreadPoolExecutor(3) as pool:
        batches = [[turn(session_id="s1"), turn(session_id="s2")] for _ in range(3)]
        sent = [pool.submit(home.add_turns, batch) for batch in batches]
        wait_until(lambda: len(server.calls) == 2)
        home.close()
        go_on.set()
        for one in sent:
            with pytest.raises(StoreUnavailableError):
                one.result(10)


@settings(max_examples=25, deadline=None)
@given(
    faults=st.lists(st.sampled_from([*UNCLEAR, *CLEAR]), max_size=12),
    asking=st.lists(st.sampled_from([Fault("break before"), Fault("status before"), Fault("garbage")]), max_size=4),
    sessions=st.lists(st.integers(0, 3), min_size=1, max_size=8),
)
def test_whatever_goes_wrong_each_acknowledged_turn_arrives_exactly_once(
    turn: MakeTurn, faults: list[Fault], asking: list[Fault], sessions: list[int]
) -> None:
    """Any faults, in any order, of publishing and of asking; batches are given again until they are acknowledged."""
    turns = [turn(session_id=f"s{number}") for number in sessions]
    with ReflexioServer() as server, closing(Http(server.url, None, timeout=0.15, connections=2)) as http:
        circuit = Circuit("Sending", failures=5, pause=0.001)
        publisher = Publisher(http, circuit, lambda work, lanes: [work(lane) for lane in lanes], 2)
        server.faults.script(*faults)
        server.faults.script(*asking, path="/api/get_requests")
        new = None
        while new is None:
            try:
                new = publisher.publish(turns, learn=True)
            except StoreUnavailableError as error:
                time.sleep(error.retry_after or 0)
        assert sorted(server.stored()) == sorted(item.request_id for item in turns)
        assert new == len(turns)


def test_what_is_deleted_while_a_batch_is_being_sent_is_not_sent_any_more(
    server: ReflexioServer, tmp_path: Path, turn: MakeTurn
) -> None:
    """Also where another process deletes it."""
    server.faults.script(Fault("slow", seconds=0.5))
    with (
        closing(RemoteStore(f"{server.url}?connections=1", folder=tmp_path)) as sender,
        closing(RemoteStore(server.url, folder=tmp_path)) as other,
        ThreadPoolExecutor(1) as pool,
    ):
        turns = [turn(), turn(), turn(), turn(user_id="ben")]
        sent = pool.submit(sender.add_turns, turns)
        wait_until(lambda: bool(server.stored()))
        assert other.delete_user("ada").requests == 1
        assert sent.result(10) == 2
    assert server.stored() == [turns[3].request_id]


@pytest.mark.parametrize("trouble", ["none", "the delete fails once", "the answer is lost"])
def test_what_is_deleted_while_it_arrives_is_taken_back(
    server: ReflexioServer, tmp_path: Path, turn: MakeTurn, trouble: str
) -> None:
    """Whoever deleted it did not see it yet; nothing else goes with it."""
    arrived, go_on, store_it = threading.Event(), threading.Event(), server.routes.publish_interaction

    def late(body: dict[str, Any]) -> dict[str, Any]:
        arrived.set()
        go_on.wait(10)
        answer = store_it(body)
        if trouble == "the answer is lost":
            raise RefusedError(500, {})
        return answer

    with (
        closing(RemoteStore(server.url, folder=tmp_path)) as sender,
        closing(RemoteStore(server.url, folder=tmp_path)) as other,
        ThreadPoolExecutor(1) as pool,
    ):
        other.add_turns([before := turn(session_id="s2")])
        server.routes.publish_interaction = late  # type: ignore[method-assign]
        sent = pool.submit(deliver, sender, [gone := turn()])
        assert arrived.wait(10)
        assert other.delete_session("s1", user_id="ada").requests == 0
        if trouble != "none":
            route = "delete_requests_by_ids" if trouble == "the delete fails once" else "get_requests"
            server.faults.script(Fault("status before", 401), path=f"/api/{route}")
        go_on.set()
        sent.result(10)
        assert server.stored() == [before.request_id]
        assert sender.add_turns([gone], restore=True) == 1
