"""ASGI (Starlette, FastAPI, Quart, ...): every HTTP request and websocket runs in a session scope.

::

    app = FastAPI()
    app.add_middleware(ReflexioScopeMiddleware, resolve=lambda scope: {"user_id": scope["user"].id})
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any, Final

from reflexio_middleware.guard import guard
from reflexio_middleware.scope import session

if TYPE_CHECKING:
    from reflexio_middleware import AsyncReflexioClient, ReflexioClient

HTTPScope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[HTTPScope, Receive, Send], Awaitable[None]]
Choice = str | Callable[[HTTPScope], str | None] | None
Resolver = Callable[[HTTPScope], Mapping[str, Any] | Awaitable[Mapping[str, Any] | None] | None]

_NAMES: Final = ("session_id", "user_id", "agent_version", "source", "metadata", "client")


class ReflexioScopeMiddleware:
    """Opens a :class:`~reflexio_middleware.session` around each HTTP request and each websocket connection.

    Streamed bodies and background tasks are inside. Lifespan events pass through. What cannot be found out is not
    named: without a session id a new session is made, without a user nothing personal is learned or recalled. A
    function of yours that fails is logged, and the request goes on without what it would have told.

    A header is what the caller says: take the user from one only where your gateway sets it. Otherwise give a function
    that asks your own authentication, and stand inside of the middleware that does that.

    Args:
        app: The application.
        user_id: Whose request it is: the name of a header, or a function of the ASGI scope. None: not named.
        session_id: The conversation, likewise.
        agent_version: The version of the agent: a value, or a function of the ASGI scope. None: not named.
        source: Where the turns come from, likewise.
        client: Where the turns go. None: the process's default client.
        resolve: A function (or coroutine function) of the ASGI scope that gives any of ``user_id``, ``session_id``,
            ``agent_version``, ``source``, ``metadata`` and ``client``; what it names counts before the rest.
    """

    def __init__(
        self,
        app: App,
        *,
        user_id: Choice = "x-user-id",
        session_id: Choice = "x-session-id",
        agent_version: Choice = None,
        source: Choice = "web_app",
        client: ReflexioClient | AsyncReflexioClient | None = None,
        resolve: Resolver | None = None,
    ) -> None:
        self.app = app
        self._headers: dict[str, Choice] = {"user_id": user_id, "session_id": session_id}
        self._values: dict[str, Choice] = {"agent_version": agent_version, "source": source}
        self._client = client
        self._resolve = resolve

    async def __call__(self, scope: HTTPScope, receive: Receive, send: Send) -> None:
        """Run the application, inside of a session where there is a request."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        named = self._named(scope)
        named.update(await self._resolved(scope))
        async with session(**named):
            await self.app(scope, receive, send)

    def _named(self, scope: HTTPScope) -> dict[str, Any]:
        named: dict[str, Any] = {"client": self._client}
        for name, choice in {**self._headers, **self._values}.items():
            with guard(f"finding the {name} of a request"):
                if callable(choice):
                    named[name] = choice(scope)
                elif choice is not None:
                    named[name] = _header(scope, choice) if name in self._headers else choice
        return named

    async def _resolved(self, scope: HTTPScope) -> dict[str, Any]:
        with guard("resolving the session of a request"):
            found = self._resolve(scope) if self._resolve is not None else None
            if inspect.isawaitable(found):
                found = await found
            return {name: value for name, value in (found or {}).items() if name in _NAMES and value is not None}
        return {}


def _header(scope: HTTPScope, name: str) -> str | None:
    """The first header of this name (of any case), as text; None where there is none."""
    wanted = name.lower().encode("latin-1")
    headers: Iterable[tuple[bytes, bytes]] = scope.get("headers") or ()
    found = next((value for key, value in headers if key.lower() == wanted), b"")
    return found.decode("latin-1") or None
