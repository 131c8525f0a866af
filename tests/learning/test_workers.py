"""Workers as a program: many on one store, stopped, killed, and jobs that cannot be done."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reflexio_middleware import ReflexioClient
from reflexio_middleware.learning.doing import MAX_ATTEMPTS, Doer
from reflexio_middleware.learning.service import WorkerService
from reflexio_middleware.learning.setup import readers_of, steps_of
from reflexio_middleware.settings import read_settings
from reflexio_store.contract import Job, Store
from reflexio_store.errors import ExtractionError
from reflexio_store.homes import open_store
from tests.store.conftest import wait_until

WORKER = """
import sys
from reflexio_middleware.learning.service import WorkerService
from reflexio_middleware.learning.setup import readers_of, steps_of
from reflexio_middleware.settings import read_settings
from reflexio_store.homes import open_store
settings = read_settings(store=sys.argv[1])
with_lease = WorkerService(
    open_store(settings.store), steps_of(readers_of(settings.extractors, settings), settings),
    concurrency=2, lease_seconds=1.0)
print("working", flush=True)
with_lease.run()
"""

_LETTERS = str.maketrans("0123456789", "bcdfghjklm")


def name_of(number: int) -> str:
    """A name for each number: what has digits is not taken for one."""
    return "Ann" + str(number).translate(_LETTERS)


@pytest.fixture
def url(tmp_path: Path) -> str:
    """The URL of a store in which thirty sessions wait to be learned from."""
    made = f"sqlite:///{tmp_path / 'm.db'}"
    with ReflexioClient(made, learning="later") as client:
        for number in range(30):
            said = [{"role": "user", "content": f"My name is {name_of(number)}."}]
            client.publish_interaction(f"u{number}", said, session_id="s")
    return made


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    """That store, opened."""
    opened = open_store(url)
    yield opened
    opened.close()


def learned_once(url: str) -> None:
    """Each user has the one profile, resting on the one message."""
    with ReflexioClient(url, learning="off") as client:
        for number in range(30):
            found = client.get_profiles(f"u{number}").user_profiles
            assert [(item.content, len(item.evidence)) for item in found] == [(f"Name is {name_of(number)}.", 1)]


def test_four_workers_learn_each_session_once(url: str, store: Store) -> None:
    """They end when nothing is due."""
    settings = read_settings(store=url)
    steps = steps_of(readers_of(settings.extractors, settings), settings)
    assert WorkerService(store, steps, concurrency=4, drain=True).run() == 30
    assert store.backlog() == {"jobs_ready": 0, "jobs_running": 0, "jobs_dead": 0}
    learned_once(url)


def test_workers_that_are_killed_lose_nothing(url: str, store: Store) -> None:
    """Others take over when the lease has run out, and nothing is seen twice."""
    processes = []
    for _ in range(3):
        process = subprocess.Popen([sys.executable, "-c", WORKER, url], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None and process.stdout.readline() == "working\n"
        process.kill()
        processes.append(process)
    last = subprocess.Popen([sys.executable, "-c", WORKER, url], stdout=subprocess.PIPE, text=True)
    try:
        wait_until(lambda: sum(store.backlog().values()) == 0, 60)
    finally:
        for process in (*processes, last):
            process.kill()
            process.communicate()
    learned_once(url)


def test_a_worker_that_is_told_to_stop_finishes_and_says_what_it_did(url: str, store: Store) -> None:
    """SIGTERM, as a supervisor sends it."""
    program = "import sys; from reflexio_middleware.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", program, "worker", "--concurrency", "2", "--store", url]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            wait_until(lambda: sum(store.backlog().values()) == 0, 60)
            process.send_signal(signal.SIGTERM)
            _, said = process.communicate(timeout=30)
        finally:
            process.kill()
    assert process.returncode == 0, said
    assert "2 workers on sqlite" in said and "30 jobs done" in said
    learned_once(url)


def test_a_job_at_hand_when_the_grace_ends_is_given_back(store: Store) -> None:
    """It is due at once for another, and lost no attempt."""
    go_on, began = threading.Event(), threading.Event()

    def slow(_store: Store, _job: Job) -> dict[str, Any]:
        began.set()
        go_on.wait(20)
        return {}

    store.put_job("slow", "k")
    service = WorkerService(store, {"slow": slow})
    running = threading.Thread(target=lambda: service.run(grace_seconds=0.0))
    running.start()
    assert began.wait(10)
    service.stop()
    running.join(10)
    job = store.claim_job("slow", lease_seconds=60)
    assert job is not None and job.attempts == 1
    go_on.set()
    wait_until(lambda: not any(thread.name == "reflexio-worker-0" for thread in threading.enumerate()))
    [state] = store.job_states("slow")
    assert state.state == "running"  # what came late of the one that lost it changed nothing


def test_a_job_that_always_fails_ends_dead(store: Store) -> None:
    """With its last error; a retry begins anew."""

    def failing(_store: Store, _job: Job) -> dict[str, Any]:
        raise ExtractionError("no")

    store.put_job("bad", "k")
    doer = Doer({"bad": failing})
    for attempt in range(1, MAX_ATTEMPTS + 1):
        assert doer.do_one(store)
        [state] = store.job_states("bad")
        assert (state.state, state.attempts) == ("dead" if attempt == MAX_ATTEMPTS else "ready", attempt)
        store.hasten_jobs("bad")
    assert "no" in state.last_error
    assert not doer.do_one(store)
    assert store.retry_dead_jobs() == 1
    assert doer.do_one(store)


def test_a_job_that_takes_its_process_down_is_given_up(store: Store) -> None:
    """After as many deaths; it is not begun once more."""
    store.put_job("deadly", "k")
    for _ in range(MAX_ATTEMPTS):
        assert store.claim_job("deadly", lease_seconds=0) is not None

    def never(_store: Store, _job: Job) -> dict[str, Any]:
        raise AssertionError("must not be called")

    assert Doer({"deadly": never}).do_one(store)
    [state] = store.job_states("deadly")
    assert state.state == "dead" and "given up" in state.last_error
