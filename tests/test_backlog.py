"""Searching messages while many of them, such as those of an import, are not indexed yet."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from reflexio_middleware import AsyncReflexioClient, ReflexioClient
from reflexio_middleware.learning.service import WorkerService
from reflexio_store.contract import Embeddable, Store
from reflexio_store.homes import open_store
from reflexio_store.ids import uuid7
from reflexio_store.records import InteractionRecord, TurnRecord


def unindexed(store: Store, user_id: str | None = None) -> int:
    assert isinstance(store, Embeddable)
    return store.unindexed(user_id=user_id)


def fill(store: Store, turns: int, *, user_id: str = "ann") -> None:
    """An import: many turns that nobody is asked to learn from, the oldest of which speaks of a zebra."""
    texts = ["a zebra", *(f"word{number} again" for number in range(turns - 1))]
    store.add_turns(
        [
            TurnRecord(
                user_id=user_id, session_id=f"s{number % 50}", request_id=uuid7(), agent_version="v1", source="",
                created_at_us=(1_700_000_000 + number) * 1_000_000,
                interactions=[InteractionRecord("User", text, 1_700_000_000 + number)],
            )
            for number, text in enumerate(texts)
        ],
        learn_after=None,
    )  # fmt: skip


def until(happened: Callable[[], object]) -> None:
    """Wait until it is so, for twenty seconds at most."""
    end, pause = time.monotonic() + 20, threading.Event()
    while not happened() and time.monotonic() < end:
        pause.wait(0.02)
    assert happened()


async def test_a_search_says_that_something_may_be_left_out(tmp_path: Path) -> None:
    """Until all that this user said is indexed; another user's backlog does not matter."""
    with ReflexioClient(f"sqlite:///{tmp_path / 'memory.db'}", learning="off") as client:
        fill(client.store, 1_100)
        client.publish_interaction(user_id="bob", session_id="s", interactions=[{"content": "a zebra"}])
        assert not client.search_interactions("bob", query="zebra").degraded
        first, second = (client.search_interactions("ann", query="zebra") for _ in range(2))
        assert (first.interactions, first.degraded) == ([], True)
        assert "a zebra" in [item.content for item in second.interactions] and not second.degraded
        assert not client.search_interactions("ann", most_recent_k=1).degraded
        fill(client.store, 1_100, user_id="eve")
    async with AsyncReflexioClient(f"sqlite:///{tmp_path / 'memory.db'}", learning="off") as twin:
        assert (await twin.search_interactions("eve", query="zebra")).degraded


def test_the_learning_thread_indexes_a_backlog_so_that_the_first_search_is_complete(client: ReflexioClient) -> None:
    """It leaves what one search does by itself."""
    fill(client.store, 2_300)
    client.publish_interaction(user_id="bob", session_id="s", interactions=[{"content": "hello"}])
    until(lambda: unindexed(client.store) <= 1_000)
    found = client.search_interactions("ann", query="zebra")
    assert not found.degraded and "a zebra" in [item.content for item in found.interactions]


def test_few_messages_are_not_indexed_before_somebody_searches(tmp_path: Path) -> None:
    """A worker that ends when nothing is left to do brings a backlog down to what a search does, and counts no job."""
    with closing(open_store(f"sqlite:///{tmp_path / 'memory.db'}")) as store:
        fill(store, 900)
        assert WorkerService(store, {}, drain=True).run() == 0 and unindexed(store) == 900
        fill(store, 500, user_id="bob")
        assert unindexed(store) == 1_001 and unindexed(store, "bob") == 500
        assert WorkerService(store, {}, concurrency=2, drain=True).run() == 0
        assert 600 <= unindexed(store) <= 1_000
