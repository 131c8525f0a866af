"""The whole circle on PostgreSQL: captured, kept, learned, recalled; with other processes, kills and restarts."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

import reflexio_middleware as reflexio
from reflexio_middleware.cli.app import app
from reflexio_middleware.client.core import spool_folder
from reflexio_middleware.guard import raise_internal_errors
from reflexio_middleware.settings import read_settings
from reflexio_store.errors import StoreAccessError, StoreUnavailableError, StoreUnreachableError
from tests.store.postgres import PASSWORD, Server

_TALK = """
import os, signal, sys
import reflexio_middleware as reflexio
client = reflexio.ReflexioClient(sys.argv[1], spool_dir=sys.argv[2])
@reflexio.capture
def agent(question):
    return "Noted."
for number in range(int(sys.argv[4])):
    with reflexio.session(f"{sys.argv[3]}-{number}", user_id="ada", client=client):
        agent("I prefer window seats." if number == 0 else f"And this is number {number}.")
    print(number, flush=True)
if len(sys.argv) > 5:
    os.kill(os.getpid(), signal.SIGKILL)
client.close()
"""


@pytest.fixture
def url(postgres: Server) -> Iterator[str]:
    """A database of this test, with our tables."""
    with postgres.database() as made:
        yield made


def talk(url: str, spool: Path, name: str, turns: int, *more: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", _TALK, url, str(spool), name, str(turns), *more]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_what_one_process_is_told_another_recalls(url: str, tmp_path: Path) -> None:
    """The memory of many machines is one."""
    process = talk(url, tmp_path / "there", "s", 3)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    with reflexio.ReflexioClient(url, spool_dir=tmp_path / "here", recall_timeout=5.0) as client:
        assert client.flush().complete
        assert "window seats" in str(client.recall("Which seat shall I book?", user_id="ada"))
        assert not client.recall("Which seat shall I book?", user_id="bob")
        assert client.delete_session(session_id="s-0", user_id="ada", wait_for_response=True).success
        assert not client.recall("Which seat shall I book?", user_id="ada")


def test_two_processes_tell_at_once_and_nothing_is_lost_or_doubled(url: str, tmp_path: Path) -> None:
    """Also of one that is killed after its last turn: what it left behind is stored by the next."""
    processes = [
        talk(url, tmp_path / "one", "one", 40),
        talk(url, tmp_path / "two", "two", 40),
        talk(url, tmp_path / "killed", "killed", 40, "kill"),
    ]
    for process, code in zip(processes, (0, 0, -signal.SIGKILL), strict=True):
        said, errors = process.communicate(timeout=60)
        assert process.returncode == code, errors
        assert said.split() == [str(number) for number in range(40)]
    with reflexio.ReflexioClient(url, spool_dir=tmp_path / "killed") as client:
        assert client.flush(60).complete
        counts = client.store.counts()
        assert (counts["requests"], counts["sessions"], counts["jobs_dead"]) == (120, 120, 0)
        assert [finding for finding in client.store.check() if finding.level == "error"] == []


def test_turns_wait_while_the_server_is_away_and_arrive_when_it_is_back(tmp_path: Path) -> None:
    """The agent notices nothing, and no turn is stored twice."""
    with Server() as server, reflexio.ReflexioClient(server.url(), spool_dir=tmp_path) as client:

        @reflexio.capture
        def agent(question: str) -> str:
            return "Noted."

        def tell(first: int, last: int) -> None:
            for number in range(first, last):
                with reflexio.session("s", user_id="ada", client=client):
                    agent(str(number))

        tell(0, 20)
        server.stop()
        tell(20, 40)
        assert client.flush(0.5).remaining >= 20
        server.start()
        tell(40, 60)
        assert client.flush(30.0).complete
        told = client.store.read_session("ada", "s")
        questions = [item.content for data in told for item in data.interactions if item.content != "Noted."]
        assert questions == [str(number) for number in range(60)]


def test_a_client_made_while_the_server_is_away_goes_on_once_it_is_there(tmp_path: Path) -> None:
    """Turns wait, what must ask the server says that it is away, and nothing has to be made anew."""
    with Server() as server:
        server.stop()
        with reflexio.ReflexioClient(server.url(), spool_dir=tmp_path) as client:

            @reflexio.capture
            def agent(question: str) -> str:
                return "Noted."

            with reflexio.session("s", user_id="ada", client=client):
                assert agent("I prefer window seats.") == "Noted."
            with pytest.raises(StoreUnreachableError, match="check host and port"):
                client.get_requests()
            with raise_internal_errors(enabled=False):
                assert client.recall("Which seat?", user_id="ada").reason == "error"
            stats = client.stats()
            assert stats["pending"] == 1 and stats["store_unavailable"] >= 1
            server.start()
            assert client.flush(30.0).complete
            assert client.stats()["pending"] == 0
            assert "window seats" in str(client.recall("Which seat?", user_id="ada", timeout=5.0))


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda url: url.replace(PASSWORD.replace(" ", "%20"), "wrong"), StoreAccessError),
        (lambda url: url + "_is_not_there", StoreUnavailableError),
    ],
)
def test_what_waiting_does_not_mend_is_said_where_the_client_is_made(
    url: str, tmp_path: Path, change: Callable[[str], str], error: type[StoreUnavailableError]
) -> None:
    """A wrong password, or a database that is not there: the server is, and says so."""
    with pytest.raises(error) as raised:
        reflexio.ReflexioClient(change(url), spool_dir=tmp_path)
    assert not isinstance(raised.value, StoreUnreachableError)


def test_doctor_says_what_waits_for_a_server_that_is_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And that it is away; looking changes nothing."""
    monkeypatch.setenv("REFLEXIO_SPOOL_DIR", str(tmp_path))
    url = "postgresql://me:pass@127.0.0.1:1/db"
    client = reflexio.ReflexioClient(url)
    with reflexio.turn("s", user_id="ada", client=client) as turn:
        turn.user("hello")
    client.close(0.1)
    found = CliRunner().invoke(app, ["doctor", "--store", url, "--json"])
    told = json.loads(found.stdout)
    assert found.exit_code == 1
    assert [item["subject"] for item in told["findings"] if item["level"] == "error"] == ["store"]
    assert told["spools"] == 1 and told["spool_bytes"] > 0


def test_a_captured_call_goes_on_where_there_is_no_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its turn waits, and the next process that reaches a server stores it."""
    monkeypatch.setenv("REFLEXIO_SPOOL_DIR", str(tmp_path))
    monkeypatch.setenv("REFLEXIO_STORE", "postgresql://me:pass@127.0.0.1:1/db")

    @reflexio.capture
    def agent(question: str) -> str:
        return question.upper()

    with reflexio.session("s", user_id="ada"):
        assert agent("hello") == "HELLO"
    client = reflexio.default_client()
    assert client.flush(0.2).remaining == 1
    client.close(0.1)
    with Server() as server, reflexio.ReflexioClient(server.url()) as there:
        assert there.flush(20.0).complete
        assert [item.content for item in there.get_interactions("ada").interactions] == ["HELLO", "hello"]


def test_the_spool_of_a_home_does_not_depend_on_the_password(url: str) -> None:
    """A new one leaves no turn behind; another database has a spool of its own."""

    def folder(store: str) -> Path | None:
        return spool_folder(read_settings(store=store))

    changed = url.replace(PASSWORD.replace(" ", "%20"), "another")
    assert folder(url) == folder(changed) == folder(changed + "?pool_size=3")
    assert folder(url) == folder(url.replace("postgresql://", "postgres://"))
    assert folder(url) != folder(url + "x") != folder(url + "?host=elsewhere")
