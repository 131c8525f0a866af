"""The OpenAI SDK: capture what a client is asked and answers, and put what was learned into its prompts.

Needs ``pip install 'reflexio-middleware[openai]'``; nothing of it is imported before it is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from reflexio_store.errors import MissingExtraError

if TYPE_CHECKING:
    from .client import wrap as wrap
    from .turns import finish_open_turns as finish_open_turns

__all__ = ["finish_open_turns", "wrap"]

_HOMES = {"finish_open_turns": ".turns", "wrap": ".client"}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        module = import_module(home, __name__)
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] == "openai":
            raise MissingExtraError(f"reflexio_integrations.openai.{name}", "openai") from error
        raise
    value = getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
