"""``ReflexioSearchTool``: a tool with which the agent itself looks into the memory."""

from __future__ import annotations

from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForToolRun, CallbackManagerForToolRun
from langchain_core.runnables.config import run_in_executor
from langchain_core.tools import BaseTool
from pydantic import BaseModel, Field

from reflexio_middleware.recall.render import render

from .searching import find

_NOTHING = "Nothing about this is remembered."


class _Arguments(BaseModel):
    query: str = Field(description="What to look for, in plain words.")


class ReflexioSearchTool(BaseTool):
    """Searches what was learned in earlier conversations with this user, and what holds for all users.

    Whose memory is searched is never the model's to say: it is ``user_id`` as given here, else that of the run's
    config, its turn, or the scope. When the store fails, the tool says that nothing is remembered.

    Args:
        client: Which memory. None: the scope's client, or the process's default one.
        user_id: Whose learnings.
        agent_version: Only playbooks of this version.
        k: Most learnings given.
    """

    name: str = "search_memory"
    description: str = (
        "Search what is remembered from earlier conversations with this user: facts, preferences, and rules learned. "
        "Use it when the answer may depend on them."
    )
    args_schema: Any = _Arguments

    client: Any = Field(default=None, exclude=True, repr=False)
    user_id: str | None = None
    agent_version: str | None = None
    k: int = Field(default=5, ge=1, le=100)

    def _run(self, query: str, run_manager: CallbackManagerForToolRun | None = None) -> str:
        found = find(
            self.client,
            query,
            k=self.k,
            user_id=self.user_id,
            agent_version=self.agent_version,
            run=run_manager,
            tagged=True,
        )
        return render(found) or _NOTHING

    async def _arun(self, query: str, run_manager: AsyncCallbackManagerForToolRun | None = None) -> str:
        return await run_in_executor(None, self._run, query, run_manager.get_sync() if run_manager else None)
