"""``attach()``: every LangChain run inside ``session(...)`` is captured, with no callbacks given anywhere."""

from __future__ import annotations

import threading
from contextvars import ContextVar
from typing import TYPE_CHECKING, cast

from langchain_core.tracers.context import register_configure_hook

from reflexio_middleware.scope import current_session

from .handler import ReflexioCallbackHandler

if TYPE_CHECKING:
    from reflexio_middleware import ReflexioClient

_lock = threading.Lock()
_attached: ReflexioCallbackHandler | None = None
_registered = False


class _HandlerInSession:
    """What LangChain asks, in place of a context variable, for the handler of a run that begins."""

    def get(self) -> ReflexioCallbackHandler | None:
        handler = _attached
        return handler if handler is not None and current_session() is not None else None


def attach(client: ReflexioClient | None = None) -> None:
    """Capture every LangChain and LangGraph run of this process that begins inside ``with session(...)``.

    Nothing else changes: runs outside of a session, and programs that never call this, are not touched. A run that is
    given a :class:`ReflexioCallbackHandler` as well is captured once. Calling it again replaces the client. LangChain
    offers no way to take the hook away: it is registered once per process, and :func:`detach` makes it answer nothing.

    A stream is bound when its first item is read, so read it inside the session.

    Args:
        client: Where the turns go. None: the session's client, or the process's default one.
    """
    global _attached, _registered
    handler = ReflexioCallbackHandler(client=client)
    with _lock:
        _attached = handler
        if not _registered:
            variable = cast("ContextVar[ReflexioCallbackHandler | None]", _HandlerInSession())
            register_configure_hook(variable, inheritable=True, handle_class=ReflexioCallbackHandler)
            _registered = True


def detach() -> None:
    """Undo :func:`attach`. Runs that began before are captured to their end."""
    global _attached
    with _lock:
        _attached = None
