"""Search over everything learned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from reflexio_middleware.client.core import checked
from reflexio_middleware.client.learnings import LearningsCore
from reflexio_store.models import (
    AgentPlaybook,
    EntityType,
    LearningKind,
    LearningQuery,
    PlaybookStatus,
    SearchMode,
    UnifiedSearchRequest,
    UnifiedSearchResponse,
    UserPlaybook,
    UserProfile,
)

_KINDS: Final[tuple[LearningKind, ...]] = ("profile", "user_playbook", "agent_playbook")


class RetrievalApi(LearningsCore):
    """The part of the client that searches what was learned."""

    def search(
        self,
        query: str,
        top_k: int = 5,
        threshold: float | None = None,
        agent_version: str | None = None,
        playbook_name: str | None = None,
        user_id: str | None = None,
        source: str | None = None,
        tags: Sequence[str] | None = None,
        entity_types: Sequence[EntityType] | None = None,
        agent_playbook_status_filter: PlaybookStatus | str | Sequence[PlaybookStatus | str] | None = None,
        conversation_history: Sequence[Mapping[str, str]] | None = None,
        search_mode: SearchMode | None = None,
        request_id: str | None = None,
        session_id: str | None = None,
        enable_reformulation: bool = False,
        enable_agent_answer: bool = False,
        interaction_id: int | None = None,
    ) -> UnifiedSearchResponse:
        """Profiles, user playbooks and agent playbooks that match ``query``, each list best first.

        It is for looking into the memory, and answers for a user who opted out, too: what was learned stays until it
        is deleted. What a model is to see comes from :meth:`recall`, which then shows nothing personal.

        Args:
            query: What is looked for; taken literally, every word counts.
            top_k: Most results of each kind (1 to 100).
            threshold: Share (0 to 1) of the query's weight that a result must cover, or its cosine; None: any match.
            agent_version: Only playbooks of this version.
            playbook_name: Only playbooks of this name.
            user_id: Whose profiles and playbooks. Without one, only agent playbooks are searched.
            source: Only learnings from this source.
            tags: Only learnings with all of these tags.
            entity_types: Which kinds; None: all three.
            agent_playbook_status_filter: Which approvals; None: approved ones only.
            conversation_history: Accepted for compatibility.
            search_mode: ``fts``, ``vector`` or ``hybrid`` (None). Without an embedder, or while it fails, full text
                answers; ``search_mode_effective`` tells which it was, and ``degraded`` that another was wanted.
            request_id: Accepted for compatibility.
            session_id: Accepted for compatibility.
            enable_reformulation: Accepted for compatibility: the query is taken as it is.
            enable_agent_answer: Accepted for compatibility.
            interaction_id: Accepted for compatibility.

        Raises:
            InvalidInputError: An argument is unusable.
        """
        del enable_reformulation, enable_agent_answer, interaction_id
        statuses = agent_playbook_status_filter
        wanted = checked(
            UnifiedSearchRequest, query=query, top_k=top_k, threshold=threshold, agent_version=agent_version,
            playbook_name=playbook_name, user_id=user_id, source=source, tags=tags, entity_types=entity_types,
            agent_playbook_status_filter=[statuses] if isinstance(statuses, str) else statuses,
            conversation_history=conversation_history, search_mode=search_mode, request_id=request_id,
            session_id=session_id,
        )  # fmt: skip
        kinds: list[LearningKind] = ["profile", "user_playbook", "agent_playbook"] if user_id else ["agent_playbook"]
        queries: dict[LearningKind, LearningQuery] = {
            kind: _query(kind, wanted)
            for kind in kinds
            if wanted.entity_types is None or f"{kind}s" in wanted.entity_types
        }
        found, told = self._searched(queries, wanted.query, wanted)
        profiles, playbooks, shared = (found.get(kind, []) for kind in _KINDS)
        return UnifiedSearchResponse(
            profiles=[item for item in profiles if isinstance(item, UserProfile)],
            user_playbooks=[item for item in playbooks if isinstance(item, UserPlaybook)],
            agent_playbooks=[item for item in shared if isinstance(item, AgentPlaybook)],
            msg=f"Found {len(profiles) + len(playbooks) + len(shared)} learning(s)",
            **told,
        )


def _query(kind: LearningKind, wanted: UnifiedSearchRequest) -> LearningQuery:
    personal = kind != "agent_playbook"
    statuses = wanted.agent_playbook_status_filter
    return LearningQuery(
        query=wanted.query,
        top_k=wanted.top_k,
        user_id=wanted.user_id if personal else None,
        agent_version=wanted.agent_version if kind != "profile" else None,
        playbook_name=wanted.playbook_name if kind != "profile" else None,
        source=wanted.source if personal else None,
        tags=wanted.tags,
        playbook_status_filter=None if personal else [PlaybookStatus.APPROVED] if statuses is None else statuses,
    )
