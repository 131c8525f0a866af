"""Whom and what a run belongs to, and where its turn goes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from langchain_core.runnables.config import var_child_runnable_config

from reflexio_middleware.scope import Scope, current_session, derive

if TYPE_CHECKING:
    from reflexio_middleware import ReflexioClient

SESSION_KEYS: Final = ("session_id", "thread_id", "conversation_id")


def client_or_current(client: ReflexioClient | None) -> ReflexioClient:
    """``client``, else the scope's, else the process's default one."""
    scope = current_session()
    given = client or (scope.client if scope is not None else None)
    if given is None:
        from reflexio_middleware import default_client

        return default_client()
    found: ReflexioClient = getattr(given, "sync", given)  # an AsyncReflexioClient has one inside
    return found


def scope_for(
    metadata: Mapping[str, Any] | None,
    *,
    session_id: str | None = None,
    user_id: str | None = None,
    agent_version: str | None = None,
    source: str | None = None,
    extra: Mapping[str, Any] | None = None,
    client: Any = None,
) -> Scope:
    """The scope of an outermost run: what is named, else what the run's ``metadata`` names, else the scope around.

    The metadata names a session as ``session_id``, ``thread_id`` (LangGraph puts ``configurable.thread_id`` there) or
    ``conversation_id``, in this order.
    """
    known = metadata or {}
    return derive(
        current_session(),
        session_id or next((known[key] for key in SESSION_KEYS if known.get(key)), None),
        user_id or known.get("user_id"),
        agent_version or known.get("agent_version"),
        source,
        extra,
        client,
    )


def configured(name: str, metadata: Mapping[str, Any] | None = None) -> str | None:
    """A text in ``config["configurable"]`` of the run around (LangChain does not report it otherwise), else in the
    ``metadata`` of that run, else in those given."""
    config = var_child_runnable_config.get() or {}
    values = ((place or {}).get(name) for place in (config.get("configurable"), config.get("metadata"), metadata))
    return next((str(value) for value in values if isinstance(value, (str, int)) and value != ""), None)
