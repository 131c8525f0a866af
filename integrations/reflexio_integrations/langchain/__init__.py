"""LangChain and LangGraph: capture every run as a turn, and put what was learned into the prompt.

Needs ``pip install 'reflexio-middleware[langchain]'``. Each part is imported when it is first used:
``ReflexioMiddleware`` needs ``langchain``, the rest ``langchain-core`` alone.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from reflexio_store.errors import MissingExtraError

if TYPE_CHECKING:
    from .attaching import attach as attach
    from .attaching import detach as detach
    from .handler import ReflexioCallbackHandler as ReflexioCallbackHandler
    from .middleware import ReflexioMiddleware as ReflexioMiddleware
    from .model import with_memory as with_memory
    from .retriever import ReflexioRetriever as ReflexioRetriever
    from .tool import ReflexioSearchTool as ReflexioSearchTool

__all__ = [
    "ReflexioCallbackHandler",
    "ReflexioMiddleware",
    "ReflexioRetriever",
    "ReflexioSearchTool",
    "attach",
    "detach",
    "with_memory",
]

_HOMES = {
    "ReflexioCallbackHandler": ".handler",
    "ReflexioMiddleware": ".middleware",
    "ReflexioRetriever": ".retriever",
    "ReflexioSearchTool": ".tool",
    "attach": ".attaching",
    "detach": ".attaching",
    "with_memory": ".model",
}
_NEEDED = ("langchain", "langchain_core", "langgraph")


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        module = import_module(home, __name__)
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] in _NEEDED:
            raise MissingExtraError(f"reflexio_integrations.langchain.{name}", "langchain") from error
        raise
    value = getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
