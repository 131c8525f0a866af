"""``ReflexioRetriever``: what was learned, as LangChain documents."""

from __future__ import annotations

from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForRetrieverRun, CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables.config import run_in_executor
from pydantic import ConfigDict, Field

from reflexio_middleware.recall.render import id_of, kind_of
from reflexio_store.models import AgentPlaybook, Learning, UserProfile

from .searching import find


class ReflexioRetriever(BaseRetriever):
    """Finds learnings that match a query: profiles and playbooks of the user, and approved agent playbooks.

    Each document's text is what was learned; its metadata holds ``kind`` (``profile``, ``user_playbook``,
    ``agent_playbook``), ``learning_id``, ``status`` (``current``, or the approval of an agent playbook) and, for
    playbooks, ``trigger``. When the store fails, there are no documents. ``invoke(query, k=3)`` overrides ``k``.

    Args:
        client: Which memory. None: the scope's client, or the process's default one.
        user_id: Whose learnings. None: that of the run's config, its turn, or the scope.
        agent_version: Only playbooks of this version. None: likewise.
        k: Most documents.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    client: Any = Field(default=None, exclude=True, repr=False)
    user_id: str | None = None
    agent_version: str | None = None
    k: int = Field(default=5, ge=1, le=100)

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun, k: int | None = None
    ) -> list[Document]:
        found = find(
            self.client,
            query,
            k=self.k if k is None else k,
            user_id=self.user_id,
            agent_version=self.agent_version,
            run=run_manager,
        )
        return [document_of(learning) for learning in found]

    async def _aget_relevant_documents(
        self, query: str, *, run_manager: AsyncCallbackManagerForRetrieverRun, k: int | None = None
    ) -> list[Document]:
        return await run_in_executor(None, self._get_relevant_documents, query, run_manager=run_manager.get_sync(), k=k)


def document_of(learning: Learning) -> Document:
    """A learning as a document."""
    metadata: dict[str, Any] = {"kind": kind_of(learning), "learning_id": id_of(learning), "status": _status(learning)}
    if isinstance(learning, UserProfile):
        return Document(learning.content, metadata=metadata)
    metadata["trigger"] = learning.trigger or ""
    return Document(learning.content or learning.trigger or "", metadata=metadata)


def _status(learning: Learning) -> str:
    if isinstance(learning, AgentPlaybook):
        return learning.playbook_status.value
    return learning.status.value if learning.status else "current"
