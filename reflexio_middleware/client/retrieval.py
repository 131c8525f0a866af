"""Search over everything learned, and recall: the same, as prompt text within a budget and a time limit."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as Late
from typing import Any

from reflexio_middleware.capture.messages import strip_injected
from reflexio_middleware.capture.turn import current_turn
from reflexio_middleware.client.core import Core, checked
from reflexio_middleware.guard import count, guard, warn
from reflexio_middleware.recall.choose import Recall, choose
from reflexio_middleware.recall.inject import Placement, inject_block, latest_user_text
from reflexio_middleware.scope import current_session
from reflexio_middleware.tracing import span
from reflexio_store.errors import InvalidInputError
from reflexio_store.models import (
    AgentPlaybook,
    EntityType,
    Learning,
    LearningKind,
    LearningQuery,
    PlaybookStatus,
    SearchMode,
    UnifiedSearchRequest,
    UnifiedSearchResponse,
    UserPlaybook,
    UserProfile,
)

_COLD_SECONDS = 5.0  # opening the home (once) is not part of a recall's time limit
_FIRST_SECONDS = 1.0
_MAX_QUERY = 2_000


class RetrievalApi(Core):
    """The part of the client that finds what fits."""

    _recalled_before = False

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

        Args:
            query: What is looked for; taken literally, every word counts.
            top_k: Most results of each kind (1 to 100).
            threshold: Share (0 to 1) of the query's weight that a result must cover; None: any match.
            agent_version: Only playbooks of this version.
            playbook_name: Only playbooks of this name.
            user_id: Whose profiles and playbooks. Without one, only agent playbooks are searched.
            source: Only learnings from this source.
            tags: Only learnings with all of these tags.
            entity_types: Which kinds; None: all three.
            agent_playbook_status_filter: Which approvals; None: approved ones only.
            conversation_history: Accepted for compatibility.
            search_mode: Only full text is had here: others are answered with it, and ``degraded`` says so.
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
        profiles = self._searched("profile", wanted) if user_id else []
        playbooks = self._searched("user_playbook", wanted) if user_id else []
        shared = self._searched("agent_playbook", wanted)
        return UnifiedSearchResponse(
            profiles=[item for item in profiles if isinstance(item, UserProfile)],
            user_playbooks=[item for item in playbooks if isinstance(item, UserPlaybook)],
            agent_playbooks=[item for item in shared if isinstance(item, AgentPlaybook)],
            msg=f"Found {len(profiles) + len(playbooks) + len(shared)} learning(s)",
            degraded=wanted.search_mode == "vector",
            search_mode_effective="fts",
        )

    def _searched(self, kind: LearningKind, wanted: UnifiedSearchRequest) -> list[Learning]:
        if wanted.entity_types is not None and f"{kind}s" not in wanted.entity_types:
            return []
        personal = kind != "agent_playbook"
        query = LearningQuery(
            query=wanted.query,
            top_k=wanted.top_k,
            user_id=wanted.user_id if personal else None,
            agent_version=wanted.agent_version if kind != "profile" else None,
            playbook_name=wanted.playbook_name if kind != "profile" else None,
            source=wanted.source if personal else None,
            tags=wanted.tags,
            playbook_status_filter=None
            if personal
            else wanted.agent_playbook_status_filter or [PlaybookStatus.APPROVED],
        )
        found = self._settled().search_learnings(kind, query)
        return [item.learning for item in found if item.coverage >= (wanted.threshold or 0.0)]

    def recall(
        self,
        query: str,
        *,
        user_id: str | None = None,
        session_id: str | None = None,  # noqa: ARG002 - accepted by every way of recalling alike
        agent_version: str | None = None,
        top_k: int | None = None,
        token_budget: int | None = None,
        timeout: float | None = None,
    ) -> Recall:
        """What was learned that fits ``query``, as one block of text for a prompt; falsy when nothing fits.

        It fails open: when the store is slow or fails, the recall is empty and its ``reason`` (and ``stats()``) says
        so. Inside a turn, what was recalled is stored with it as ``retrieved_learnings``.

        Args:
            query: The user's message.
            user_id: Whose learnings; None: the scope's. Without one nothing personal is recalled.
            session_id: Accepted for compatibility.
            agent_version: Playbooks of this version; None: the scope's, else the setting.
            top_k: Most learnings of one kind; None: the setting ``recall_top_k`` (5).
            token_budget: Most tokens of the block; None: the setting ``recall_tokens`` (400).
            timeout: Seconds at most; None: the setting ``recall_timeout`` (0.05), and a second for the first recall.

        Raises:
            InvalidInputError: ``query`` is not text.
        """
        self._check_query(query)
        with guard("recalling"):
            future = self._asked(query, user_id, agent_version, top_k, token_budget)
            try:
                found = future.result(self._limit(timeout))
            except Late:
                found = _late(future)
            return _noted(found)
        return Recall(reason="error")

    async def recall_async(
        self,
        query: str,
        *,
        user_id: str | None = None,
        session_id: str | None = None,  # noqa: ARG002
        agent_version: str | None = None,
        top_k: int | None = None,
        token_budget: int | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - the same arguments as recall()
    ) -> Recall:
        """:meth:`recall` that does not block the event loop."""
        self._check_query(query)
        with guard("recalling"):
            future = self._asked(query, user_id, agent_version, top_k, token_budget)
            try:
                found = await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(future)), self._limit(timeout))
            except TimeoutError:
                found = _late(future)
            return _noted(found)
        return Recall(reason="error")

    def inject(
        self,
        messages: Sequence[Any],
        *,
        placement: Placement = "turn",
        user_id: str | None = None,
        session_id: str | None = None,
        agent_version: str | None = None,
        token_budget: int | None = None,
        timeout: float | None = None,
    ) -> list[Any]:
        """Chat messages (dictionaries, pairs or LangChain messages) with what fits the latest user message.

        A new list; the given one and its messages stay as they are. Nothing fits: nothing is added.

        Args:
            messages: The conversation, oldest first.
            placement: ``"turn"``: before the latest user message's text, so that the prefix before it stays the same
                for the provider's prompt cache; ``"system"``: at the end of the system message.
            user_id: As in :meth:`recall`, like the rest.
            session_id: Accepted for compatibility.
            agent_version: Playbooks of this version.
            token_budget: Most tokens of the block.
            timeout: Seconds at most.
        """
        _check_placement(placement)
        with guard("injecting"):
            found = self.recall(
                latest_user_text(messages), user_id=user_id, session_id=session_id, agent_version=agent_version,
                token_budget=token_budget, timeout=timeout,
            )  # fmt: skip
            return inject_block(messages, found.text, placement)
        return messages  # type: ignore[return-value]  # what cannot be read is handed back as it is

    async def inject_async(
        self,
        messages: Sequence[Any],
        *,
        placement: Placement = "turn",
        user_id: str | None = None,
        session_id: str | None = None,
        agent_version: str | None = None,
        token_budget: int | None = None,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> list[Any]:
        """:meth:`inject` that does not block the event loop."""
        _check_placement(placement)
        with guard("injecting"):
            found = await self.recall_async(
                latest_user_text(messages), user_id=user_id, session_id=session_id, agent_version=agent_version,
                token_budget=token_budget, timeout=timeout,
            )  # fmt: skip
            return inject_block(messages, found.text, placement)
        return messages  # type: ignore[return-value]  # what cannot be read is handed back as it is

    def _limit(self, timeout: float | None) -> float:
        """Seconds for a recall. The first of a client, which has everything to load, is given a second unless told."""
        if timeout is not None:
            return timeout
        first, self._recalled_before = not self._recalled_before, True
        return max(_FIRST_SECONDS, self.settings.recall_timeout) if first else self.settings.recall_timeout

    def _check_query(self, query: object) -> None:
        if not isinstance(query, str):
            raise InvalidInputError("The call was refused", [("query", f"must be text, not {type(query).__name__}")])

    def _asked(
        self, query: str, user_id: str | None, agent_version: str | None, top_k: int | None, token_budget: int | None
    ) -> Future[Recall]:
        turn = current_turn()
        scope = turn.scope if turn is not None else current_session()
        user = str(user_id or "") or (scope.user_id if scope else "")
        if not user:
            count("recalls_without_user")
            warn("recall-no-user", "reflexio: a recall without user_id finds nothing personal. Name the user: "
                 "`with session(..., user_id=...)` or recall(..., user_id=...)")  # fmt: skip
        version = agent_version or (scope.agent_version if scope else "") or self.settings.agent_version
        settings = self.settings
        most = settings.recall_top_k if top_k is None else top_k
        budget = settings.recall_tokens if token_budget is None else token_budget
        count("recalls")
        if self.is_closed:
            done: Future[Recall] = Future()
            done.set_result(Recall(reason="closed"))
            return done
        with guard("opening the store for a recall"):
            self._warm()
        context = contextvars.copy_context()
        return self._recall_threads().submit(
            context.run, self._recalled, query[:_MAX_QUERY], user, version, most, budget
        )

    def _warm(self) -> None:
        """Open the home, once, outside of the time limit of the recall that happens to be the first."""
        if self._opened is None:
            self._recall_threads().submit(self._open).result(_COLD_SECONDS)

    def _recalled(self, query: str, user_id: str, agent_version: str, top_k: int, token_budget: int) -> Recall:
        with guard("recall"), span("reflexio.recall", "retrieval") as traced:
            text = strip_injected(query)
            if self._delivery.pending:
                self._delivery.flush(self.settings.recall_timeout / 2)
            found = choose(
                self._open(),
                text,
                user_id=user_id,
                agent_version=agent_version,
                top_k=top_k,
                token_budget=token_budget,
            )
            traced.note(recalled=len(found.learnings), characters=len(found.text))
            return found
        count("recalls_failed")
        return Recall(reason="error")


def _check_placement(placement: str) -> None:
    if placement not in ("turn", "system"):
        raise InvalidInputError("The call was refused", [("placement", "must be 'turn' or 'system'")])


def _late(future: Future[Recall]) -> Recall:
    future.cancel()
    count("recalls_late")
    warn("recall-late", "reflexio: a recall was too late; the agent goes on without (see the setting recall_timeout)")
    return Recall(reason="timeout")


def _noted(found: Recall) -> Recall:
    """Note on the current turn what its prompt is about to hold."""
    turn = current_turn()
    if found and turn is not None:
        turn.retrieved(found.retrieved)
    return found
