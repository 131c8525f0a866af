"""``worker`` and ``usage``."""

from __future__ import annotations

import time
from pathlib import Path

from reflexio_middleware import ReflexioClient
from reflexio_middleware.learning.metering import day_of
from reflexio_store.contract import Usage
from tests.cli.conftest import Run, talk


def test_a_worker_learns_what_others_captured_and_ends_when_told_so(run: Run, tmp_path: Path) -> None:
    """For agents that leave learning to another process."""
    url = f"sqlite:///{tmp_path / 'm.db'}"
    with ReflexioClient(url, learning="later") as client:
        talk(client, "ann", "chat", "My name is Ann.", "Hello.")
    ran = run("worker", "--drain", "--concurrency", "2", "--store", url)
    assert ran.code == 0
    assert "learning by statements" in ran.err and "1 job done" in ran.err
    assert "Name is Ann." in run("learnings", "--user", "ann", "--store", url).out


def test_a_worker_of_a_server_is_refused(run: Run) -> None:
    """It would wait for ever: a server learns itself."""
    ran = run("worker", "--store", "http://127.0.0.1:9")
    assert ran.code == 2 and "learns itself" in ran.err


def test_what_models_took_is_shown_by_day_and_by_user(run: Run, url: str) -> None:
    """Summed; as a table and as JSON."""
    today = day_of(time.time())
    assert "no model was asked" in run("usage", "--store", url).out
    with ReflexioClient(url, learning="off") as client:
        for user in ("ann", "bob"):
            client.store.add_usage(Usage(user, today, "llm", "m1", 2, 1000, 50, 2500))
    assert "2,000" in run("usage", "--store", url).out
    [line] = run("usage", "--json", "--store", url).json
    assert (line["calls"], line["prompt_tokens"], line["cost"]) == (4, 2000, 0.005)
    lines = run("usage", "--json", "--by-user", "--store", url).json
    assert [line["user"] for line in lines] == ["ann", "bob"]
    assert "2,100 tokens today" in run("doctor", "--store", url).out
