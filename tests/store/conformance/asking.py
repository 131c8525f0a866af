"""Short ways to ask a home, and to propose a change to it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, settings

from reflexio_store.contract import Change, Store
from reflexio_store.models import (
    Evidence,
    GetRequestsRequest,
    LearningKind,
    LearningQuery,
    Status,
    UserProfile,
)
from reflexio_store.records import TurnRecord

MakeTurn = Callable[..., TurnRecord]
quick = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
NAME = {"tags": ["slot:name"]}
EVERY = [None, *Status]


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


def tell(store: Store, turn: MakeTurn, content: str, session_id: str, **fields: Any) -> Change:
    """Store a turn in which a name is told; the change that an extractor proposes for it."""
    stored = turn(content, session_id=session_id, **fields)
    store.add_turns([stored], learn_after=None)
    return add(content, (stored.request_id, 0), **NAME)


def learn(store: Store, turn: MakeTurn, content: str, **fields: Any) -> str:
    """Let a new turn of ada's teach a fact; its request."""
    said = turn(content)
    store.add_turns([said])
    learn_from(store, said.request_id, content, **fields)
    return said.request_id


def learn_from(store: Store, request_id: str, content: str, **fields: Any) -> None:
    """Let a stored turn of ada's teach a fact."""
    learning = UserProfile(user_id="ada", content=content, **fields)
    store.apply("ada", [Change("add", "profile", learning, evidence=(Evidence(request_id=request_id),))])


def id_of(store: Store, kind: LearningKind = "profile", **query: Any) -> str:
    [found] = store.get_learnings(kind, LearningQuery(user_id="ada", **query))
    return found.profile_id if isinstance(found, UserProfile) else str(getattr(found, f"{kind}_id"))
