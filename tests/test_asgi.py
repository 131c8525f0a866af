"""The ASGI middleware: each request in a session of its own, with plain applications and no server."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping
from typing import Any

import pytest

import reflexio_middleware as reflexio
from reflexio_integrations.asgi import ReflexioScopeMiddleware
from reflexio_middleware.guard import raise_internal_errors
from tests.conftest import ListSink

HEADERS = [(b"host", b"here"), (b"X-User-Id", b"ann"), (b"x-session-id", b"chat_1")]


class Seen:
    """An application that notes the scope in which it runs, and streams a body."""

    def __init__(self, pieces: int = 1) -> None:
        self.scopes: list[reflexio.Scope | None] = []
        self._pieces = pieces

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.scopes.append(reflexio.current_session())
        for _ in range(self._pieces):
            await send({"type": "http.response.body", "body": b".", "more_body": True})
            self.scopes.append(reflexio.current_session())

    @property
    def one(self) -> reflexio.Scope:
        """The one scope that it ran in, from its first step to its last."""
        found = {id(scope): scope for scope in self.scopes}
        assert len(found) == 1
        (scope,) = found.values()
        assert scope is not None
        return scope


async def call(app: Any, headers: Any = HEADERS, kind: str = "http", **more: Any) -> list[Mapping[str, Any]]:
    """One request; what the application sent."""
    sent: list[Mapping[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b""}

    async def send(event: Mapping[str, Any]) -> None:
        sent.append(event)

    await app({"type": kind, "headers": headers, **more}, receive, send)
    return sent


@pytest.mark.parametrize("kind", ["http", "websocket"])
async def test_headers_name_the_session(kind: str) -> None:
    """Of any case; an HTTP request and a websocket alike."""
    app = Seen()
    await call(ReflexioScopeMiddleware(app, agent_version="v2"), kind=kind)
    scope = app.one
    assert (scope.session_id, scope.user_id, scope.agent_version, scope.source) == ("chat_1", "ann", "v2", "web_app")


async def test_headers_of_other_names_and_functions_of_the_scope(tmp_path: Any) -> None:
    """Whatever names them."""
    app = Seen()
    inside = ReflexioScopeMiddleware(
        app, user_id=lambda scope: scope["user"], session_id="X-Chat", agent_version=lambda scope: scope["path"][1:]
    )
    await call(inside, [(b"x-chat", b"c9")], user="bob", path="/v7")
    assert (app.one.session_id, app.one.user_id, app.one.agent_version) == ("c9", "bob", "v7")


@pytest.mark.parametrize("is_async", [False, True])
async def test_a_resolver_counts_before_the_headers(is_async: bool) -> None:
    """It may be a coroutine function; what it does not name is taken from the rest."""

    def resolve(scope: Any) -> dict[str, Any]:
        return {"user_id": "bob", "metadata": {"tenant": "t1"}, "source": None, "unknown": 1}

    async def resolve_async(scope: Any) -> dict[str, Any]:
        return resolve(scope)

    app = Seen()
    await call(ReflexioScopeMiddleware(app, resolve=resolve_async if is_async else resolve))
    assert (app.one.user_id, app.one.session_id, app.one.source) == ("bob", "chat_1", "web_app")
    assert dict(app.one.metadata) == {"tenant": "t1"}


@pytest.mark.parametrize("answer", [ValueError("no"), "text", None])
async def test_a_failing_resolver_is_not_the_requests(answer: Any) -> None:
    """The request goes on, with what is known otherwise."""

    def resolve(scope: Any) -> Any:
        if isinstance(answer, Exception):
            raise answer
        return answer

    def fail(scope: Any) -> str:
        raise KeyError("user")

    app = Seen()
    with raise_internal_errors(False):
        await call(ReflexioScopeMiddleware(app, user_id=fail, resolve=resolve))
    assert (app.one.user_id, app.one.session_id) == ("", "chat_1")


async def test_without_headers_each_request_is_a_session_of_nobody() -> None:
    """A missing user is not everybody's, a missing session not one for all."""
    app = Seen(pieces=0)
    inside = ReflexioScopeMiddleware(app)
    await call(inside, [])
    await call(inside, [(b"x-user-id", b""), (b"x-session-id", b"")])
    first, second = app.scopes
    assert first is not None
    assert second is not None
    assert (first.user_id, second.user_id) == ("", "")
    assert first.session_id != second.session_id


async def test_lifespan_passes_through() -> None:
    """There is no request to name."""
    app = Seen(pieces=0)
    await call(ReflexioScopeMiddleware(app), kind="lifespan")
    assert app.scopes == [None]


async def test_streamed_bodies_tasks_and_threads_stay_inside() -> None:
    """From the first piece to the last."""
    users: list[str] = []

    def note() -> None:
        scope = reflexio.current_session()
        users.append(scope.user_id if scope else "")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        for _ in range(2):
            await send({"type": "http.response.body", "body": b".", "more_body": True})
            await asyncio.create_task(asyncio.to_thread(note))
        note()

    assert len(await call(ReflexioScopeMiddleware(app))) == 2
    assert users == ["ann"] * 3
    assert reflexio.current_session() is None


async def test_an_exception_of_the_application_is_its_own() -> None:
    """Same object; the scope is left."""
    raised = RuntimeError("app")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise raised

    with pytest.raises(RuntimeError) as caught:
        await call(ReflexioScopeMiddleware(app))
    assert caught.value is raised
    assert reflexio.current_session() is None


async def test_requests_at_once_keep_apart(sink: ListSink) -> None:
    """Each turn has the user and the session of its request."""

    @reflexio.capture
    async def agent(question: str) -> str:
        await asyncio.sleep(0)
        return question.upper()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await agent(scope["path"])

    inside = ReflexioScopeMiddleware(app)

    def headers(number: int) -> list[tuple[bytes, bytes]]:
        return [(b"x-user-id", f"u{number}".encode()), (b"x-session-id", f"s{number}".encode())]

    await asyncio.gather(*(call(inside, headers(number), path=f"q{number}") for number in range(50)))
    told = {(turn.user_id, turn.session_id, turn.interactions[0].content) for turn in sink.turns}
    assert told == {(f"u{number}", f"s{number}", f"q{number}") for number in range(50)}


async def test_turns_go_to_the_client_that_is_given(client: reflexio.ReflexioClient) -> None:
    """Not to the default one."""

    @reflexio.capture
    async def agent(question: str) -> str:
        return "yes"

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await agent("Is it?")

    await call(ReflexioScopeMiddleware(app, client=client))
    client.flush()
    assert [item.content for item in client.get_interactions("ann").interactions[::-1]] == ["Is it?", "yes"]


def test_it_needs_no_framework() -> None:
    """Nothing but the middleware itself is imported."""
    import subprocess
    import sys

    code = (
        "import sys, reflexio_integrations.asgi\n"
        "assert not {'starlette', 'fastapi', 'openai', 'langchain_core', 'sqlalchemy'} & set(sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0


async def test_two_event_loops_in_two_threads() -> None:
    """One middleware object serves both."""
    app = Seen(pieces=0)
    inside = ReflexioScopeMiddleware(app)
    thread = threading.Thread(target=lambda: asyncio.run(call(inside)))
    thread.start()
    await call(inside)
    thread.join()
    assert [scope.user_id for scope in app.scopes if scope] == ["ann", "ann"]
