"""The client with a Reflexio server as its home."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

import reflexio_middleware as reflexio
from reflexio_middleware import AsyncReflexioClient, ReflexioClient
from reflexio_middleware.delivery.spool import FileSpool
from reflexio_middleware.guard import counters
from reflexio_store.errors import InvalidInputError, StoreUnavailableError, StoreURLError
from reflexio_store.models import GetRequestsRequest
from reflexio_store.records import InteractionRecord, TurnRecord
from tests.reflexio_server import Fault, ReflexioServer

SAID = [{"role": "user", "content": "I like tea."}]


@pytest.fixture
def server() -> Iterator[ReflexioServer]:
    """A server that keeps its data in memory."""
    with ReflexioServer() as made:
        yield made


@pytest.fixture
def remote(server: ReflexioServer, tmp_path: Path) -> Iterator[ReflexioClient]:
    """A client of that server."""
    with ReflexioClient(url_endpoint=server.url, spool_dir=tmp_path / "spool") as made:
        yield made


def test_a_captured_turn_reaches_the_server(server: ReflexioServer, remote: ReflexioClient) -> None:
    """By the same way as to every home; the client reads it back."""

    @reflexio.capture
    def agent(question: str) -> str:
        return "Noted."

    with reflexio.session("s1", user_id="ann", agent_version="v2", source="web"):
        agent("I like tea.")
    [session] = remote.get_requests(user_id="ann").sessions
    [data] = session.requests
    assert [item.content for item in data.interactions] == ["I like tea.", "Noted."]
    assert (data.request.agent_version, data.request.source) == ("v2", "web")
    assert remote.delete_session("s1").deleted_requests_count == 1
    assert server.stored() == []


def test_captures_go_on_while_the_server_is_away_and_arrive_when_it_is_back(tmp_path: Path) -> None:
    """The client is made, turns are taken, ``stats`` say what waits; the next client delivers them."""
    data, spool = tmp_path / "server.db", tmp_path / "spool"
    with ReflexioServer(data) as server:
        port = server.port
    client = ReflexioClient(f"http://127.0.0.1:{port}", spool_dir=spool)
    client.publish_interaction("ann", SAID, session_id="s1")
    assert client.flush(0.2).remaining == 1
    assert client.stats()["pending"] == 1 and client.stats()["store_unavailable"] >= 1
    with pytest.raises(StoreUnavailableError, match="Is the server up"):
        client.store.get_requests(GetRequestsRequest())
    assert not client.close(0.2).complete
    with ReflexioServer(data, port=port) as server:
        with ReflexioClient(server.url, spool_dir=spool) as client:
            assert client.flush(10).complete
        assert len(server.stored()) == 1


def test_an_agent_that_is_faster_than_the_server_allows_loses_nothing(tmp_path: Path) -> None:
    """It is left alone for as long as it says, and what waits can be told; each turn arrives once."""
    with ReflexioServer(limited=True, window=1.0) as server:
        with ReflexioClient(url_endpoint=server.url, spool_dir=tmp_path) as client:
            for number in range(100):
                client.publish_interaction("ann", SAID, session_id=f"s{number % 3}")
            assert 0 < client.flush(0.5).remaining == client.stats()["pending"]
            assert client.flush(60).complete
        assert len(server.stored()) == 100


@pytest.mark.parametrize("delete", ["user", "session", "request"])
def test_what_was_deleted_does_not_come_from_the_spool_of_another_process(
    server: ReflexioServer, tmp_path: Path, delete: str
) -> None:
    """The server keeps no note of it, so the clients of the folder do; what is said afterwards is stored."""
    spool = FileSpool(tmp_path)
    for user in ("ann", "bob"):
        said = [InteractionRecord("user", "I like tea.", 1_700_000_000)]
        turn = TurnRecord(f"late-{user}", user, "s1", "v1", "", 1_700_000_000_000_000, said)
        spool.append(json.dumps(turn.to_json()).encode())
    with ReflexioClient(url_endpoint=server.url, spool_dir=tmp_path) as client:
        if delete == "user":
            client.clear_user_data("ann")
        elif delete == "session":
            client.delete_session("s1", user_id="ann")
        else:
            client.publish_interaction("ann", SAID, session_id="s1", request_id="late-ann")
            client.delete_request("late-ann")
    spool.close()
    with ReflexioClient(url_endpoint=server.url, spool_dir=tmp_path) as client:
        assert client.flush(20).complete
        assert [one.session_id for one in client.get_requests(user_id="ann").sessions] == []
        assert len(client.get_requests(user_id="bob").sessions) == 1
        client.publish_interaction("ann", SAID, session_id="s1")
        assert len(client.get_requests(user_id="ann").sessions) == 1


def test_a_wrong_key_keeps_turns_waiting_and_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """One warning, a counter of its own, and nothing set aside."""
    spool = tmp_path / "spool"
    with ReflexioServer(api_key="right") as server:
        refused = counters().get("store_access_refused", 0)
        with caplog.at_level(logging.WARNING), ReflexioClient(server.url, api_key="wrong", spool_dir=spool) as client:
            client.publish_interaction("ann", SAID, session_id="s1")
            assert client.flush(1).remaining == 1
            assert client.stats()["store_access_refused"] > refused
            client.close(0.1)
        assert sum("REFLEXIO_API_KEY" in record.message for record in caplog.records) <= 1
        with ReflexioClient(server.url, api_key="right", spool_dir=spool) as client:
            assert client.flush(10).complete
        assert len(server.stored()) == 1
    assert not (spool / "dead_letters.jsonl").exists()


def test_a_turn_that_the_server_refuses_is_set_aside_and_its_neighbours_are_stored(
    server: ReflexioServer, remote: ReflexioClient, tmp_path: Path
) -> None:
    """As a dead letter, with the reason: here a body larger than the 10 MiB that a server takes."""
    remote.publish_interaction("ann", SAID, session_id="s1")
    remote.publish_interaction("ann", [{"content": "x" * 1_000_000}] * 11, session_id="s1")
    remote.publish_interaction("ann", SAID, session_id="s1")
    assert remote.flush(10).complete
    letters = (tmp_path / "spool" / "dead_letters.jsonl").read_text().splitlines()
    assert len(letters) == 1 and "413" in json.loads(letters[0])["error"]
    assert len(server.stored()) == 2


def test_publishing_one_request_twice_stores_it_once(server: ReflexioServer, remote: ReflexioClient) -> None:
    """Also while the server cannot be asked whether it has it."""
    remote.publish_interaction("ann", SAID, session_id="s1", request_id="mine")
    server.faults.script(Fault("break before"), times=9, path="/api/get_requests")
    remote.publish_interaction("ann", SAID, session_id="s1", request_id="mine")
    server.faults.clear()
    assert remote.flush(10).complete
    assert server.stored() == ["mine"]


@pytest.mark.parametrize(
    ("learning", "expected"),
    [
        (("done", "covered"), ("done", "covered")),
        (("pending", "waiting_for_window"), ("deferred", "waiting_for_window")),
        (("failed", "input_budget_exceeded"), ("failed", "input_budget_exceeded")),
        (("not_tracked", ""), ("not_tracked", "not_applicable")),
    ],
)
def test_waiting_for_the_answer_asks_the_server_how_learning_stands(
    server: ReflexioServer, remote: ReflexioClient, learning: tuple[str, str], expected: tuple[str, str]
) -> None:
    """It does not wait where the server waits for more to be said."""
    server.routes.learning = learning
    answer = remote.publish_interaction("ann", SAID, session_id="s1", wait_for_response=True, force_extraction=True)
    assert (answer.learning_status, answer.learning_reason) == expected
    assert (answer.storage_type, answer.storage_label) == ("remote", server.url)
    assert server.routes.published[0]["force_extraction"] is True
    assert remote.get_learning_status(str(answer.request_id)) == learning[0]


def test_a_finished_session_is_told_to_the_server(server: ReflexioServer, remote: ReflexioClient) -> None:
    """Once for each user who has it."""
    remote.publish_interaction("ann", SAID, session_id="s1")
    assert remote.finalize_session("s1") and not remote.finalize_session("unknown")
    assert server.routes.finalized == [{"user_id": "ann", "session_id": "s1"}]


def test_the_learnings_of_the_server_are_recalled(server: ReflexioServer, remote: ReflexioClient) -> None:
    """Of this user and this version, relevant enough, in the usual block; and nothing that does not fit."""
    for user, drink in (("ann", "green"), ("bob", "black")):
        remote.add_user_profile([{"user_id": user, "content": f"Drinks {drink} tea."}])
    for version, rule in (("v1", "Ask first."), ("v2", "Go on.")):
        playbook = {"user_id": "ann", "agent_version": version, "trigger": "order tea", "content": rule}
        remote.add_user_playbook([playbook])
    remote.add_agent_playbooks([{"agent_version": "v1", "content": "Never order tea twice."}])
    with reflexio.session("s1", user_id="ann", agent_version="v1"):
        block = str(remote.recall("please order green tea"))
        nothing = remote.recall("the weather in Rome")
    assert "green" in block and "Ask first." in block
    assert not any(other in block for other in ("black", "Go on", "Never"))
    assert not nothing


def test_a_rule_whose_trigger_a_long_request_names_is_recalled(remote: ReflexioClient) -> None:
    """As with an embedded home: what the rule says to do does not count."""
    content = "Ask first which kind is wanted and how strong it should be made, and note the answer."
    playbook = {"user_id": "ann", "agent_version": "v1", "trigger": "order tea", "content": content}
    remote.add_user_playbook([playbook])
    request = (
        "order green tea for the meeting tomorrow with twelve guests from Rome and Paris who arrive at noon by train"
    )
    [rule] = remote.recall(request, user_id="ann", agent_version="v1").chosen
    assert rule.learning.content == content and "100%" in rule.reason


def test_a_search_is_by_meaning_on_the_server_and_says_where_it_could_not_be(
    server: ReflexioServer, remote: ReflexioClient
) -> None:
    """The mode that was asked for is the server's to keep; no embedder is needed here."""
    remote.add_user_profile([{"user_id": "ann", "content": "Drinks green tea."}])
    found = remote.search("tea", user_id="ann")
    assert [item.content for item in found.profiles] == ["Drinks green tea."]
    assert (found.degraded, found.search_mode_effective) == (False, "hybrid")
    server.routes.degraded = True
    found = remote.search("tea", user_id="ann")
    assert (found.degraded, found.search_mode_effective) == (True, "fts")
    assert server.called("/api/search") == 2


def test_a_recall_does_not_wait_for_a_server_that_is_away(server: ReflexioServer, tmp_path: Path) -> None:
    """It fails open, within its time; the setting is a second with a server."""
    with ReflexioClient(server.url, spool_dir=tmp_path, recall_timeout=0.1) as client:
        client.recall("tea", user_id="ann")
        server.faults.script(Fault("silence before"), times=50, path="/api/search")
        assert client.recall("tea", user_id="ann").reason == "timeout"
    with ReflexioClient(server.url, spool_dir=tmp_path) as client:
        assert client.settings.recall_seconds == 1.0


async def test_the_async_client_speaks_to_a_server(server: ReflexioServer, tmp_path: Path) -> None:
    """The same, awaited."""
    async with AsyncReflexioClient(url_endpoint=server.url, spool_dir=tmp_path) as client:
        await client.publish_interaction("ann", SAID, session_id="s1")
        assert len((await client.get_requests(user_id="ann")).sessions) == 1


@pytest.mark.parametrize("names", [("REFLEXIO_URL",), ("REFLEXIO_STORE",), ("REFLEXIO_STORE", "REFLEXIO_URL")])
def test_the_environment_names_the_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: tuple[str, ...]
) -> None:
    """``REFLEXIO_STORE``, else ``REFLEXIO_URL``; with the key of ``REFLEXIO_API_KEY``."""
    monkeypatch.delenv("REFLEXIO_STORE")
    with ReflexioServer(api_key="k") as server:
        for name, url in zip(names, (server.url, "http://127.0.0.1:9"), strict=False):
            monkeypatch.setenv(name, url)
        monkeypatch.setenv("REFLEXIO_API_KEY", "k")
        with ReflexioClient(spool_dir=tmp_path) as client:
            client.publish_interaction("ann", SAID, session_id="s1")
            assert client.url == server.url and client.flush(10).complete


def test_an_extractor_beside_a_server_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server learns itself: two would learn the same twice. Without one, no worker runs."""
    for given in ({"extractor": "statements"}, {"extractor": "llm"}):
        with pytest.raises(InvalidInputError, match="learns itself"):
            ReflexioClient("http://127.0.0.1:9", spool_dir=tmp_path, **given)  # type: ignore[arg-type]
    monkeypatch.setenv("REFLEXIO_EXTRACTOR", "llm")
    with pytest.raises(InvalidInputError, match="learns itself"):
        ReflexioClient("http://127.0.0.1:9", spool_dir=tmp_path)


def test_a_home_is_given_once(tmp_path: Path) -> None:
    """As ``store`` or as ``url_endpoint``, which is the address of a server."""
    with pytest.raises(StoreURLError, match="once"):
        ReflexioClient(f"sqlite:///{tmp_path / 'x.db'}", url_endpoint="http://127.0.0.1:9")
    with pytest.raises(StoreURLError, match="address of a Reflexio server"):
        ReflexioClient(url_endpoint="sqlite://")


def test_a_server_that_is_killed_and_started_again_has_each_turn_once(tmp_path: Path) -> None:
    """Three times, under four threads; what was acknowledged before a kill is not sent again."""
    data, port = tmp_path / "server.db", _free_port()
    with ReflexioClient(f"http://127.0.0.1:{port}?timeout=2", spool_dir=tmp_path / "spool") as client:
        wanted = []
        for _ in range(3):
            process = _start(data, port)
            for number in range(40):
                answer = client.publish_interaction("ann", SAID, session_id=f"s{number % 4}")
                wanted.append(answer.request_id)
                if number == 20:
                    process.kill()
                    process.wait()
        process = _start(data, port)
        assert client.flush(30).complete
        found = [data.request.request_id for session in client.get_requests(user_id="ann", top_k=100).sessions
                 for data in session.requests]  # fmt: skip
        process.kill()
        process.wait()
    assert sorted(found) == sorted(wanted)


def test_a_script_that_ends_at_once_delivers_what_it_said(server: ReflexioServer, tmp_path: Path) -> None:
    """Turns of several sessions go over several connections, for which an ending interpreter starts no threads."""
    script = f"""
        import reflexio_middleware as reflexio
        reflexio.ReflexioClient(url_endpoint={server.url!r}, spool_dir={str(tmp_path)!r}, exit_timeout=20)

        @reflexio.capture
        def agent(question):
            return "Noted."

        for user in ("ann", "bob", "eve"):
            with reflexio.session("s1", user_id=user):
                agent("I like tea.")
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=True, timeout=60)
    assert len(server.stored()) == 3


def test_a_forked_child_speaks_to_the_server_by_connections_of_its_own(tmp_path: Path) -> None:
    """Parent and child publish at once, and both read."""
    with ReflexioServer() as server:
        script = textwrap.dedent(
            f"""
            import os, sys
            from reflexio_middleware import ReflexioClient
            client = ReflexioClient({server.url!r}, spool_dir={str(tmp_path)!r})
            def talk(name):
                client.publish_interaction(name, [{{"content": "hi"}}], session_id=name)
                return len(client.get_requests(user_id=name).sessions)
            assert talk("before") == 1
            child = os.fork()
            assert talk("child" if child == 0 else "parent") == 1
            if child == 0:
                client.close()
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
            client.close()
            """
        )
        done = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, env=os.environ
        )
        assert done.returncode == 0, done.stderr
        assert len(server.stored()) == 3


def test_httpx_is_imported_only_for_a_server() -> None:
    """An embedded home needs no HTTP."""
    script = (
        "import sys, reflexio_middleware as r; r.ReflexioClient('sqlite://').close(); print('httpx' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "False"


def _start(data: Path, port: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.reflexio_server", "--data", str(data), "--port", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[1])
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    return process


def _free_port() -> int:
    with ReflexioServer() as server:
        return server.port
