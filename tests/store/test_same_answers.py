"""SQLite and PostgreSQL give the same answers: the same ids, in the same order, with the same scores."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reflexio_store import ids
from reflexio_store.contract import Store
from reflexio_store.homes import open_store
from reflexio_store.models import LearningQuery, SearchInteractionRequest, UserPlaybook
from reflexio_store.records import InteractionRecord, TurnRecord
from tests.store.postgres import Server

WORDS = st.lists(
    st.sampled_from(["tea", "teas", "green", "caf\u00e9", "\u4e2d\u6587", "work", "zebra", "AND", "\U0001f600"]),
    min_size=1,
    max_size=6,
).map(" ".join)


@pytest.fixture(scope="module")
def both(postgres: Server) -> Iterator[tuple[Store, Store]]:
    """One home of either kind; the examples keep apart by their users."""
    with (
        postgres.database() as url,
        closing(open_store(url)) as server,
        closing(open_store("sqlite://")) as file,
    ):
        yield server, file


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(said=st.lists(st.tuples(WORDS, WORDS), min_size=1, max_size=8), query=WORDS)
def test_both_databases_find_the_same_in_the_same_order(
    both: tuple[Store, Store], said: list[tuple[str, str]], query: str
) -> None:
    """Learnings and messages, whatever they say."""
    user, names = ids.uuid7(), [ids.uuid7() for _ in said]
    rules = [
        UserPlaybook(user_id=user, user_playbook_id=number, trigger=trigger, content=content)
        for number, (trigger, content) in enumerate(said, 1)
    ]
    turns = [
        TurnRecord(name, user, "s", "v1", "", at * 1_000_000, [InteractionRecord("User", text, at) for text in texts])
        for at, (name, texts) in enumerate(zip(names, said, strict=True), 1)
    ]
    answers = []
    for store in both:
        store.add_learnings(rules)
        store.add_turns(turns)
        hits = store.search_learnings("user_playbook", LearningQuery(user_id=user, query=query))
        messages = store.search_interactions(SearchInteractionRequest(user_id=user, query=query, top_k=20))
        scored = [(getattr(hit.learning, "user_playbook_id", 0), hit.score, hit.coverage) for hit in hits]
        answers.append((scored, [item.interaction_id for item in messages]))
    assert answers[0] == answers[1]
