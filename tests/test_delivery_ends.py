"""How processes end, or are frozen, between a captured turn and the store (see also the checklist)."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

import pytest

import reflexio_middleware as reflexio
from reflexio_store.models import GetRequestsRequest
from tests.checklist.scripts import make_store, never_answering, run, said_in, start, wait


def _stored(client: reflexio.ReflexioClient) -> list[str]:
    """What is in the home itself, without waiting for anything."""
    sessions = client.store.get_requests(GetRequestsRequest()).sessions
    return sorted(data.interactions[0].content for session in sessions for data in session.requests)


def test_with_flush_on_return_a_turn_is_in_the_home_when_the_call_returns(tmp_path: Path) -> None:
    """Functions, coroutines, streams that are read to their end, and publish."""
    with reflexio.ReflexioClient(f"sqlite:///{tmp_path / 'memory.db'}", learning="off", flush_on_return=20) as client:

        @reflexio.capture(client=client, user_id="ann", session_id="s")
        def agent(text: str) -> str:
            return text

        @reflexio.capture(client=client, user_id="ann", session_id="s")
        async def coroutine(text: str) -> str:
            return text

        @reflexio.capture(client=client, user_id="ann", session_id="s")
        def stream(text: str):
            yield text

        agent("a")
        assert _stored(client) == ["a"]
        asyncio.run(coroutine("b"))
        assert _stored(client) == ["a", "b"]
        assert list(stream("c")) == ["c"]
        assert _stored(client) == ["a", "b", "c"]
        client.publish_interaction("ann", [{"role": "user", "content": "d"}], session_id="s")
        assert _stored(client) == ["a", "b", "c", "d"]


def test_flush_on_return_is_bounded_in_time(tmp_path: Path) -> None:
    """A home that does not answer costs the call that long, and not the turn."""
    with never_answering(tmp_path):
        ended = run("talk('hello'); main_is_over()", tmp_path, flush_on_return=0.2, exit_timeout=0.1)
        assert (ended.code, ended.err) == (0, "")
    assert said_in(tmp_path) == ["hello"]


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGTERM as such")
def test_a_hosts_own_handler_of_sigterm_is_left_in_place(tmp_path: Path) -> None:
    """It runs, and where it ends the process by ``sys.exit``, what waits is stored then."""
    make_store(tmp_path)
    process = start(
        """
        import signal
        def host(*_):
            print("host's own", flush=True)
            sys.exit(5)
        signal.signal(signal.SIGTERM, host)
        talk("before")
        assert signal.getsignal(signal.SIGTERM) is host
        main_is_over()
        threading.Event().wait()
        """,
        tmp_path,
        learning="off",
    )
    assert process.stdout is not None
    assert process.stdout.readline().startswith("OVER")
    process.send_signal(signal.SIGTERM)
    ended = wait(process)
    assert (ended.code, ended.out) == (5, "host's own\n")
    assert list((tmp_path / "memory.db-spool").glob("*.spool")) == []
    assert said_in(tmp_path) == ["before"]
