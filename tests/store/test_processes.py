"""Many processes on one database, killed and forked ones among them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from reflexio_store.homes import open_store
from reflexio_store.models import GetRequestsRequest
from tests.store.postgres import Server

_WRITER = """
import sys
from reflexio_store.homes import open_store
from reflexio_store.records import InteractionRecord, TurnRecord
url, name, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
store = open_store(url)
for number in range(count):
    request_id = f"{name}-{number}"
    spoken = [InteractionRecord("User", "hello")]
    store.add_turns([TurnRecord(request_id, "ada", "s1", "v1", "", number, spoken)])
    print(request_id, flush=True)
store.close()
"""

_FORKING = """
import os, signal, sys, threading, warnings
from reflexio_store.homes import open_store
from reflexio_store.models import GetRequestsRequest
from reflexio_store.records import InteractionRecord, TurnRecord

def turn(name):
    return TurnRecord(name, "ada", "s1", "v1", "", 1, [InteractionRecord("User", name)])

def write_on():
    while not stop.is_set():
        store.add_turns([turn("beside")] * 500)

warnings.simplefilter("ignore", DeprecationWarning)  # forking with threads is what is tried here
store, stop = open_store(sys.argv[1]), threading.Event()
store.add_turns([turn("parent before")])
beside = threading.Thread(target=write_on, daemon=True)
beside.start()
for number in range(5):
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        store.add_turns([turn(f"child {number}")])
        store.close()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
stop.set()
beside.join()
store.add_turns([turn("parent after")])
found = store.get_requests(GetRequestsRequest()).sessions[0].requests
assert not [finding for finding in store.check() if finding.level == "error"]
store.close()
print(len(found))
"""


def run(program: str, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-W", "error", "-c", program, *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def answer(process: subprocess.Popen[str]) -> str:
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    return out


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Where an empty home is, or will be."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'home.db'}"
        return
    server: Server = request.getfixturevalue("postgres")
    with server.database() as made:
        yield made


def test_two_processes_share_a_home(url: str) -> None:
    """Each turn once, also those that both send, and a sound database."""
    for process in [run(_WRITER, url, name, "50") for name in ("same", "same", "other")]:
        answer(process)
    store = open_store(url)
    assert store.counts()["requests"] == 100
    assert [finding for finding in store.check() if finding.level == "error"] == []
    store.close()


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_what_was_acknowledged_survives_a_kill(url: str) -> None:
    """A process is killed while it writes; all that it said it had stored is there."""
    process = run(_WRITER, url, "turn", "1000000")
    assert process.stdout is not None and process.stderr is not None
    acknowledged = {process.stdout.readline().strip() for _ in range(50)}
    process.send_signal(signal.SIGKILL)
    acknowledged |= {line.strip() for line in process.stdout if line.endswith("\n")}
    process.wait()
    process.stdout.close()
    process.stderr.close()
    store = open_store(url)
    page = store.get_requests(GetRequestsRequest())
    stored = {data.request.request_id for session in page.sessions for data in session.requests}
    assert acknowledged <= stored
    assert [finding for finding in store.check() if finding.level == "error"] == []
    store.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_fork_3_a_forked_child_gets_connections_of_its_own(url: str) -> None:
    """Both write through the store that the parent opened, also where another thread held its lock meanwhile."""
    said = answer(run(_FORKING, url))
    assert said.strip() == "8"
