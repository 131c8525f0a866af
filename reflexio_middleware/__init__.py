"""The memory that any Python agent can wear.

Capture each turn of an agent as a request, keep it, learn from its session, and put what was learned into the next
prompt. Importing this loads the capture layer only; clients, stores and extractors are loaded when first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from reflexio_middleware.capture.decorator import capture
from reflexio_middleware.capture.recalled import Recaller, set_default_recaller
from reflexio_middleware.capture.turn import Sink, Turn, current_turn, set_default_sink, turn
from reflexio_middleware.scope import Scope, bind, current_session, on_finish, session

if TYPE_CHECKING:
    from reflexio_middleware.client import ReflexioClient, default_client, set_default_client
    from reflexio_middleware.client.async_client import AsyncReflexioClient
    from reflexio_middleware.learning.extractor import Extractor
    from reflexio_middleware.recall.choose import Recall
    from reflexio_store.errors import ReflexioError
    from reflexio_store.models import (
        AgentPlaybook,
        Interaction,
        InteractionData,
        Request,
        Session,
        ToolUsed,
        UserPlaybook,
        UserProfile,
    )

__version__ = "0.1.0"

__all__ = [
    "AgentPlaybook",
    "AsyncReflexioClient",
    "Extractor",
    "Interaction",
    "InteractionData",
    "Recall",
    "ReflexioClient",
    "ReflexioError",
    "Request",
    "Scope",
    "Session",
    "ToolUsed",
    "Turn",
    "UserPlaybook",
    "UserProfile",
    "bind",
    "capture",
    "current_session",
    "current_turn",
    "default_client",
    "session",
    "set_default_client",
    "turn",
]

_LATE = {
    "AsyncReflexioClient": "reflexio_middleware.client.async_client",
    "Extractor": "reflexio_middleware.learning.extractor",
    "Recall": "reflexio_middleware.recall.choose",
    "ReflexioClient": "reflexio_middleware.client",
    "ReflexioError": "reflexio_store.errors",
    "default_client": "reflexio_middleware.client",
    "set_default_client": "reflexio_middleware.client",
    **dict.fromkeys(
        ("AgentPlaybook", "Interaction", "InteractionData", "Request", "Session", "ToolUsed", "UserPlaybook",
         "UserProfile"),
        "reflexio_store.models",
    ),
}  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _LATE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_LATE[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _session_finished(scope: Scope) -> None:
    from reflexio_middleware.client import default_client

    (scope.client or default_client()).finish_soon(scope)


on_finish(_session_finished)


def _default_sink() -> Sink:
    from reflexio_middleware.client import default_client

    return default_client().sink


def _default_recaller() -> Recaller:
    from reflexio_middleware.client import default_client

    return default_client()


set_default_sink(_default_sink)
set_default_recaller(_default_recaller)
