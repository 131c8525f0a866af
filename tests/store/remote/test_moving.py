"""Moving to a server and from it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing

import pytest

from reflexio_store.contract import Receipt, Store
from reflexio_store.homes import open_store
from reflexio_store.models import (
    AgentPlaybook,
    GetInteractionsRequest,
    SessionOutcome,
    Status,
    UserPlaybook,
    UserProfile,
)
from reflexio_store.moving import RECORD_KINDS, Dismissal, JobRecord, Record, RecordKind, Stored
from reflexio_store.records import TurnRecord
from tests.reflexio_server import ReflexioServer

MakeTurn = Callable[..., TurnRecord]


def read(home: Store, kind: RecordKind, limit: int, user_id: str | None = None) -> list[Record]:
    found: list[Record] = []
    cursor = None
    while True:
        page = home.read_records(kind, user_id=user_id, cursor=cursor, limit=limit)
        assert len(page.records) <= limit
        found += page.records
        cursor = page.next_cursor
        if cursor is None:
            return found


@pytest.mark.parametrize("limit", [1, 2, 500])
def test_all_that_a_server_keeps_is_read_once(home: Store, turn: MakeTurn, limit: int) -> None:
    """Requests of long sessions too, page by page; of one user, only what is held on this user."""
    turns = [turn(session_id=f"s{number % 2}") for number in range(7)]
    home.put_records([*turns, turn(user_id="bob", session_id="b"), UserProfile(user_id="ada", content="Likes tea."),
                      UserPlaybook(user_id="ada", content="Offer tea.", status=Status.ARCHIVED),
                      SessionOutcome(session_id="s0", user_id="ada", outcome="success", occurred_at=7),
                      AgentPlaybook(agent_version="v1", content="Warm the pot.")])  # fmt: skip
    names = [record.request_id for record in read(home, "request", limit, "ada") if isinstance(record, TurnRecord)]
    assert sorted(names) == sorted(item.request_id for item in turns)
    assert {kind: len(read(home, kind, limit)) for kind in RECORD_KINDS} == {
        "erasure": 0, "request": 8, "profile": 1, "user_playbook": 1, "agent_playbook": 1, "support": 0,
        "event": 0, "dismissal": 0, "opt_out": 0, "outcome": 1, "usage": 0, "job": 0,
    }  # fmt: skip
    assert read(home, "agent_playbook", limit, "ada") == []


def test_moving_again_changes_nothing(home: Store, turn: MakeTurn) -> None:
    """Playbooks, whose ids the server makes, are known by what they say; what it cannot keep is told."""
    records: list[Record] = [
        turn(),
        UserProfile(profile_id="a", user_id="ada", content="Likes tea."),
        UserPlaybook(user_playbook_id=77, user_id="ada", agent_version="v1", content="Offer tea."),
        AgentPlaybook(agent_playbook_id=78, agent_version="v1", content="Warm the pot."),
        SessionOutcome(session_id="s1", user_id="ada", outcome="success", occurred_at=7),
        Dismissal("ada", "profile", "digest", "r", 0),
        JobRecord("ada", "learn", "s1"),
    ]
    assert home.put_records(records) == Stored(new=5, lost=2)
    assert home.put_records(records) == Stored(same=5, lost=2)
    changed = UserProfile(profile_id="a", user_id="ada", content="Likes coffee.")
    assert home.put_records([changed]) == Stored(replaced=1)
    assert home.losses()


def test_a_server_that_limits_the_calls_of_a_minute_gets_all_in_time(turn: MakeTurn) -> None:
    """It is asked for what it has no more often than it admits; a second copy comes through as well."""
    records: list[Record] = [
        *(turn(session_id=f"s{number % 3}") for number in range(150)),
        *(UserProfile(profile_id=f"p{number}", user_id="ada", content=f"Fact {number}.") for number in range(70)),
        *(UserPlaybook(user_id="ada", agent_version="v1", content=f"Rule {number}.") for number in range(150)),
        *(AgentPlaybook(agent_version="v1", content=f"Rule {number}.") for number in range(150)),
    ]
    with ReflexioServer(limited=True, window=0.3) as server, closing(open_store(server.url)) as home:
        server.retry_after = "0.1"
        assert home.put_records(records) == Stored(new=520)
        assert home.put_records(records) == Stored(same=520)
        assert len(set(server.stored())) == 150


def test_one_message_is_deleted_with_what_rests_on_it_alone(home: Store, turn: MakeTurn) -> None:
    """The last one takes its request along; that of another user stays."""
    home.add_turns([turn("a", "b")])
    second, first = home.get_interactions(GetInteractionsRequest(user_id="ada"))
    sources = [first.interaction_id]
    home.add_learnings([UserProfile(user_id="ada", content="Alone", source_interaction_ids=sources)])
    assert home.delete_interaction("bob", first.interaction_id) == Receipt()
    assert home.delete_interaction("ada", first.interaction_id) == Receipt(interactions=1, profiles=1)
    assert home.delete_interaction("ada", second.interaction_id) == Receipt(requests=1, interactions=1)
    assert home.counts()["requests"] == 0


def test_a_message_of_nobody_is_deleted(home: Store, turn: MakeTurn) -> None:
    """By the name of nobody, as everywhere."""
    home.add_turns([turn("a", user_id="")])
    [only] = home.get_interactions(GetInteractionsRequest())
    assert only.user_id == ""
    assert home.delete_interaction("", only.interaction_id) == Receipt(requests=1, interactions=1)
