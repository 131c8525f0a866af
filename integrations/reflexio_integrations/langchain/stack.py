"""What LangChain is doing around this code, where no callback and no context variable tells: the Python stack does.

That is so where a model is called bare, outside of any chain.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any, Final

from langchain_core.callbacks.manager import BaseRunManager
from langchain_core.language_models import BaseLanguageModel

_ASKING: Final = frozenset({
    "_generate", "_agenerate", "_generate_with_cache", "_agenerate_with_cache", "stream", "astream",
})  # fmt: skip
"""The methods of a model that know its run (as ``run_manager``) while they ask the provider, or the cache."""
_AWAITING: Final = frozenset({"agenerate"})


def _models_above(names: frozenset[str]) -> Iterator[dict[str, Any]]:
    """The local variables of the methods of models, by these names, in which this code runs."""
    frame = inspect.currentframe()
    while frame is not None:
        if frame.f_code.co_name in names:
            local = frame.f_locals
            if isinstance(local.get("self"), BaseLanguageModel):
                yield local
        frame = frame.f_back


def is_awaited_here() -> bool:
    """Whether the task that runs here awaits a model's answer, and so does not end before it."""
    return any(True for _ in _models_above(_AWAITING))


def runs_asking() -> Iterator[BaseRunManager]:
    """The runs of the models whose provider is being asked by this code, the innermost first."""
    for local in _models_above(_ASKING):
        run = local.get("run_manager")
        if isinstance(run, BaseRunManager):
            yield run
