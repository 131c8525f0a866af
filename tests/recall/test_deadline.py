"""Recalls that come too late: the agent goes on, the next turn may have them, a failing store is left alone."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from reflexio_middleware import AsyncReflexioClient, ReflexioClient
from reflexio_middleware.guard import raise_internal_errors
from reflexio_middleware.recall.choose import Recall
from reflexio_middleware.recall.deadline import FAILURES, Deadline
from reflexio_store.errors import StoreUnavailableError
from reflexio_store.models import UserProfile

FOUND = Recall("block", (UserProfile(user_id="ann", content="x"),))


def running() -> Future[Recall]:
    """A recall that is being worked on."""
    future: Future[Recall] = Future()
    future.set_running_or_notify_cancel()
    return future


def test_a_late_recall_serves_the_next_turn_of_its_conversation() -> None:
    """If that is late as well; once, and nobody else."""
    deadline = Deadline()
    slow = running()
    assert deadline.late("ann", slow).reason == "timeout"
    slow.set_result(FOUND)
    assert deadline.late("bob", running()).reason == "timeout"
    assert deadline.late("ann", running()) is FOUND
    assert deadline.late("ann", running()).reason == "timeout"


def test_a_recall_in_time_is_newer_than_what_was_kept() -> None:
    """So that is dropped."""
    deadline = Deadline()
    slow = running()
    deadline.late("ann", slow)
    slow.set_result(FOUND)
    assert not deadline.in_time("ann", Recall())
    assert deadline.late("ann", running()).reason == "timeout"


def test_a_late_recall_that_fails_is_nothing() -> None:
    """It said so where it failed."""
    deadline = Deadline()
    slow = running()
    deadline.late("ann", slow)
    slow.set_exception(RuntimeError("broken"))
    assert deadline.late("ann", running()).reason == "timeout"


def test_what_was_forgotten_serves_no_turn() -> None:
    """Neither what was kept already, nor what is still under way and may have been read before."""
    deadline = Deadline()
    kept, under_way = running(), running()
    deadline.late("ann", kept, deadline.forgotten)
    kept.set_result(FOUND)
    deadline.late("bob", under_way, deadline.forgotten)
    deadline.forget()
    under_way.set_result(FOUND)
    assert deadline.late("ann", running()).reason == "timeout"
    assert deadline.late("bob", running()).reason == "timeout"


@pytest.mark.parametrize(
    "change",
    [
        lambda client: client.clear_user_data("ann"),
        lambda client: client.opt_out("ann"),
        lambda client: client.delete_session(session_id="s"),
        lambda client: client.delete_profile("ann", "p1"),
        lambda client: client.update_user_profile("ann", "p1", content="y"),
    ],
)
def test_a_late_recall_is_forgotten_with_what_it_rests_on(change: Callable[[ReflexioClient], object]) -> None:
    """Whatever comes afterwards was asked for anew."""
    with ReflexioClient("sqlite://", learning="off") as client:
        slow = running()
        client._deadline.late("ann", slow, client._deadline.forgotten)
        slow.set_result(FOUND)
        change(client)
        assert client._deadline.late("ann", running()).reason == "timeout"


def test_after_failures_in_a_row_nothing_is_asked() -> None:
    """A success in between begins the count anew."""
    deadline = Deadline()
    for _ in range(FAILURES - 1):
        deadline.in_time("ann", Recall(reason="error"))
    deadline.in_time("ann", Recall())
    for _ in range(FAILURES):
        assert deadline.may_ask()
        deadline.in_time("ann", Recall(reason="error"))
    assert not deadline.may_ask()


def test_a_store_that_is_gone_stops_being_asked_and_the_agent_goes_on(tmp_path: Path) -> None:
    """Each recall is counted: as failed, or as skipped."""
    with raise_internal_errors(False), ReflexioClient(f"sqlite:///{tmp_path / 'home.db'}", learning="off") as client:
        client.store.close()
        reasons = [client.recall("Any peanuts in it?", user_id="ann", timeout=5).reason for _ in range(FAILURES + 1)]
    assert reasons == ["error"] * FAILURES + ["circuit open"]


@contextmanager
def busy(pool: ThreadPoolExecutor) -> Iterator[None]:
    """All threads of a pool are taken, so that whatever comes next stands in its queue."""
    free = threading.Event()
    for _ in range(pool._max_workers):
        pool.submit(free.wait)
    try:
        yield
    finally:
        free.set()


async def queued(pool: ThreadPoolExecutor, number: int = 1) -> None:
    """Return when so many calls stand in the queue of a pool."""
    while pool._work_queue.qsize() < number:  # noqa: ASYNC110 - threads tell no loop
        await asyncio.sleep(0)


async def test_a_client_that_closes_does_not_cancel_the_tasks_that_recall() -> None:
    """They go on without; a cancelled task is cancelled, whoever else closes."""
    client = ReflexioClient("sqlite://", learning="off")
    client.recall("Any peanuts in it?", user_id="ann")
    pool = client._recall_threads()
    with busy(pool):
        agent = asyncio.create_task(client.recall_async("Any peanuts in it?", user_id="ann", timeout=60))
        await queued(pool)
        other = asyncio.create_task(client.recall_async("Any nuts in it?", user_id="ann", timeout=60))
        await queued(pool, 2)
        thread = ThreadPoolExecutor(1).submit(client.recall, "Any fish in it?", user_id="ann", timeout=60)
        await queued(pool, 3)
        other.cancel()
        client.close()
        assert (await agent).reason == "closed"
        assert thread.result(5).reason == "closed"
        with pytest.raises(asyncio.CancelledError):
            await other


async def test_a_call_that_a_closing_client_does_not_begin_is_an_error_and_no_cancellation() -> None:
    """Its task would end without a word otherwise."""
    client = AsyncReflexioClient(client=ReflexioClient("sqlite://", learning="off"))
    await client.get_profiles(user_id="ann")
    pool = client.sync._call_threads()
    with busy(pool):
        call = asyncio.create_task(client.get_profiles(user_id="ann"))
        await queued(pool)
        client.sync.close()
        with pytest.raises(StoreUnavailableError, match="closed"):
            await call
