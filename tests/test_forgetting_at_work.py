"""Forgetting somebody while a worker is busy with what they said: nothing of them is written afterwards."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

import reflexio_middleware as reflexio
from reflexio_middleware.learning.extractor import SessionView
from reflexio_middleware.learning.metering import BudgetUsedUpError
from reflexio_store.contract import Change
from reflexio_store.errors import ExtractionError
from reflexio_store.models import Evidence, Status, UserProfile
from tests.store.postgres import Server

CANARY = "Zanzibarcanary"
USER = f"user {CANARY}"


@dataclass
class Kept:
    """Where everything of a test is kept, and the places in it that hold a word."""

    url: str
    holding: Callable[[str], list[str]]


@pytest.fixture(params=["sqlite", "postgresql"])
def kept(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Kept]:
    """An empty home of each kind that learns here."""
    if request.param == "sqlite":
        folder = tmp_path / "kept"
        yield Kept(f"sqlite:///{folder / 'm.db'}", lambda word: _files(folder, word))
        return
    server: Server = request.getfixturevalue("postgres")
    with server.database() as url:
        yield Kept(url, lambda word: _tables(url, word))


def _files(folder: Path, word: str) -> list[str]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [path.name for path in files if word.lower().encode() in path.read_bytes().lower()]


def _tables(url: str, word: str) -> list[str]:
    """The tables of a database that hold a word; what is in its files is the server's own."""
    with psycopg.connect(url) as connection:
        names = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
        found = []
        for (name,) in names:
            rows = connection.execute(f"SELECT t::text FROM {name} AS t").fetchall()  # type: ignore[call-overload]
            if any(word.lower() in row.lower() for (row,) in rows):
                found.append(name)
        return found


class Paused:
    """An extractor that is at work on ``USER`` until it may ``go_on``; then it ends as it is told to."""

    name = "paused"

    def __init__(self, error: ExtractionError | None = None, *, waits: bool = False) -> None:
        self._error, self.waits = error, waits
        self.busy, self.go_on = threading.Event(), threading.Event()

    def extract(self, session: SessionView) -> list[Change]:
        """A profile of what was said last, on the evidence of it."""
        request = session.requests[-1]
        if session.user_id == USER:
            self.busy.set()
            assert self.go_on.wait(20)
            assert session.meter is not None
            session.meter.note("a model", prompt_tokens=3, completion_tokens=4)
            if self._error is not None:
                raise self._error
        learning = UserProfile(user_id=session.user_id, content=f"Said {request.interactions[0].content}.")
        return [Change("add", "profile", learning, evidence=(Evidence(request_id=request.request.request_id),))]


def say(client: reflexio.ReflexioClient, user: str, text: str) -> None:
    """One message, stored."""
    client.publish_interaction(
        user, [{"role": "User", "content": text}], session_id=f"of {user}", wait_for_response=False
    )
    assert client._delivery.flush(10) == 0


ERRORS = [
    None,
    ExtractionError(f"cannot read {CANARY}"),
    ExtractionError(f"cannot read {CANARY}", permanent=True),
    BudgetUsedUpError(f"the budget is used up by {CANARY}", day="2026-01-01", seconds=3600.0),
]
NAMES = ["success", "failure", "lasting failure", "budget used up"]


@pytest.mark.parametrize("waits", [False, True], ids=["at once", "in its own job"])
@pytest.mark.parametrize("error", ERRORS, ids=NAMES)
def test_what_is_being_learned_of_an_erased_user_is_not_kept(
    kept: Kept, error: ExtractionError | None, waits: bool
) -> None:
    """However it ends: neither the learning, nor the job, nor what it cost under their name."""
    extractor = Paused(error, waits=waits)
    with reflexio.ReflexioClient(kept.url, extractor=extractor) as client:
        say(client, USER, f"I live in {CANARY}")
        client.flush(0.1, learn_now=True)
        assert extractor.busy.wait(10)
        assert kept.holding(CANARY)
        client.clear_user_data(USER)
        extractor.go_on.set()
        say(client, "ben", "I live in Oslo")
        assert client.flush(10, learn_now=True).complete
        assert kept.holding(CANARY) == []
        assert client.store.get_usage(since="0000-00-00")[0].user_id == ""
        assert [item.content for item in client.get_profiles("ben").user_profiles] == ["Said I live in Oslo."]
    assert kept.holding(CANARY) == []


@pytest.mark.parametrize("error", ERRORS, ids=NAMES)
def test_learning_again_does_not_name_the_user_who_was_erased_at_that_moment(
    kept: Kept, error: ExtractionError | None
) -> None:
    """In its progress, in its result or in its error; the others are learned from."""
    extractor = Paused(error)
    with reflexio.ReflexioClient(kept.url, learning="off") as before:
        for user in ("ann", USER, "zoe"):
            say(before, user, f"I live in {CANARY if user == USER else 'Oslo'}")
    with reflexio.ReflexioClient(kept.url, extractor=extractor) as client:
        client.rerun_profile_generation()
        assert extractor.busy.wait(10)
        client.clear_user_data(USER)
        extractor.go_on.set()
        client.flush(10)
        assert kept.holding(CANARY) == []
        found = client.get_operation_status().operation_status
        assert found is not None
        if error is None or not (error.permanent or isinstance(error, BudgetUsedUpError)):
            assert (found.status, found.processed_user_ids, found.failed_user_ids) == ("completed", ["ann", "zoe"], [])
            assert len(client.get_profiles("zoe", status_filter=[Status.PENDING]).user_profiles) == 1
    assert kept.holding(CANARY) == []


def test_learning_again_forgets_whom_it_was_done_with_before_they_were_erased(kept: Kept) -> None:
    """What the job keeps in mind of earlier users is not written back."""
    extractor = Paused()
    erased = f"an earlier {CANARY}"
    with reflexio.ReflexioClient(kept.url, learning="off") as before:
        for user in (erased, USER, "zoe"):
            say(before, user, "I live in Oslo")
    with reflexio.ReflexioClient(kept.url, extractor=extractor) as client:
        client.rerun_profile_generation()
        assert extractor.busy.wait(10)
        client.clear_user_data(erased)
        extractor.go_on.set()
        assert client.flush(10).complete
        assert kept.holding(erased) == []
        found = client.get_operation_status().operation_status
        assert found is not None
        assert (found.status, found.processed_users, found.processed_user_ids) == ("completed", 3, [USER, "zoe"])


def test_learning_again_of_one_user_ends_when_that_user_is_erased(kept: Kept) -> None:
    """The job that names them is gone, and does not come back."""
    extractor = Paused(ERRORS[-1])
    with reflexio.ReflexioClient(kept.url, learning="off") as before:
        say(before, USER, "I live in Oslo")
    with reflexio.ReflexioClient(kept.url, extractor=extractor) as client:
        client.rerun_profile_generation(user_id=USER)
        assert extractor.busy.wait(10)
        client.clear_user_data(USER)
        extractor.go_on.set()
        assert client.flush(10).complete
        assert kept.holding(CANARY) == []
        assert client.store.job_states("generate") == []


def test_work_for_somebody_who_was_erased_is_not_asked_for(kept: Kept) -> None:
    """Until they say something again."""
    with reflexio.ReflexioClient(kept.url, learning="off") as client:
        say(client, USER, "I live in Oslo")
        client.clear_user_data(USER)
        client.store.put_job("learn.llm", "s1", user_id=USER)
        client.store.put_job("generate", "profile_generation", payload={"params": {"user_id": USER}})
        client.store.apply(USER, [])
        client.delete_interaction(USER, 7)
        assert kept.holding(CANARY) == []
        say(client, USER, "I am back")
        client.store.put_job("learn.llm", "s1", user_id=USER)
        assert [state.user_id for state in client.store.job_states("learn.llm")] == [USER]
