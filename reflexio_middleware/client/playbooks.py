"""User playbooks and agent playbooks: add, get, search, update, delete, approve."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from reflexio_middleware.client.core import ids_in, values_of
from reflexio_middleware.client.learnings import LearningsCore, Moment, Statuses
from reflexio_store.errors import InvalidInputError
from reflexio_store.models import (
    AddResponse,
    AgentPlaybook,
    AgentPlaybooksResponse,
    BulkDeleteResponse,
    DeleteResponse,
    PlaybookStatus,
    SearchMode,
    UpdateResponse,
    UserPlaybook,
    UserPlaybooksResponse,
)


class PlaybooksApi(LearningsCore):
    """The part of the client that speaks of playbooks."""

    def add_user_playbook(self, user_playbooks: Sequence[UserPlaybook | Mapping[str, Any]]) -> AddResponse:
        """Add user playbooks: each needs ``user_id``, ``agent_version``, and ``content`` or ``trigger``."""
        values = values_of(UserPlaybook, user_playbooks, "user_playbooks")
        missing = [
            (f"user_playbooks[{index}].{name}", "is required")
            for index, value in enumerate(values)
            for name in ("user_id", "agent_version")
            if not getattr(value, name)
        ]
        if missing:
            raise InvalidInputError("The call was refused and nothing was stored", missing)
        return self._added(values)

    def get_user_playbooks(
        self,
        limit: int = 100,
        user_playbook_id: int | None = None,
        user_id: str | None = None,
        request_id: str | None = None,
        query: str | None = None,
        playbook_name: str | None = None,
        agent_version: str | None = None,
        start_time: Moment = None,
        end_time: Moment = None,
        status_filter: Statuses = None,
        tags: Sequence[str] | None = None,
    ) -> UserPlaybooksResponse:
        """User playbooks, newest first. With a ``query`` (which needs a ``user_id``), best match first."""
        return self._user_playbooks(
            limit=limit, ids=None if user_playbook_id is None else [str(user_playbook_id)], user_id=user_id,
            source_request_id=request_id, query=query, playbook_name=playbook_name, agent_version=agent_version,
            start_time=start_time, end_time=end_time, status_filter=status_filter, tags=tags,
        )  # fmt: skip

    def search_user_playbooks(
        self,
        query: str | None = None,
        user_id: str | None = None,
        agent_version: str | None = None,
        playbook_name: str | None = None,
        source: str | None = None,
        start_time: Moment = None,
        end_time: Moment = None,
        status_filter: Statuses = None,
        tags: Sequence[str] | None = None,
        top_k: int = 10,
        search_mode: SearchMode | None = None,
        threshold: float | None = None,
        request_id: str | None = None,
        session_id: str | None = None,
        enable_reformulation: bool = False,
    ) -> UserPlaybooksResponse:
        """User playbooks that match, best first. Without a ``user_id`` there are none: a missing user is nobody.

        ``threshold`` (0 to 1) and ``search_mode`` mean what they mean for :meth:`search`. ``request_id``,
        ``session_id`` and ``enable_reformulation`` are accepted for compatibility.
        """
        del request_id, session_id, enable_reformulation
        if not user_id:
            return UserPlaybooksResponse(msg="No user_id was given: nothing personal is searched")
        return self._user_playbooks(
            query=query, user_id=user_id, agent_version=agent_version, playbook_name=playbook_name, source=source,
            start_time=start_time, end_time=end_time, status_filter=status_filter, tags=tags, top_k=top_k,
            threshold=threshold, search_mode=search_mode,
        )  # fmt: skip

    def update_user_playbook(
        self,
        user_playbook_id: int,
        playbook_name: str | None = None,
        content: str | None = None,
        trigger: str | None = None,
        rationale: str | None = None,
    ) -> UpdateResponse:
        """Change a user playbook; what is None stays."""
        fields = {"playbook_name": playbook_name, "content": content, "trigger": trigger, "rationale": rationale}
        return self._updated("user_playbook", str(user_playbook_id), fields)

    def delete_user_playbook(self, user_playbook_id: int, wait_for_response: bool = False) -> DeleteResponse:  # noqa: ARG002
        """Delete one user playbook."""
        return self._deleted("user_playbook", [str(user_playbook_id)])

    def delete_user_playbooks_by_ids(self, user_playbook_ids: Sequence[int]) -> BulkDeleteResponse:
        """Delete user playbooks by their ids."""
        return self._deleted("user_playbook", ids_in("user_playbook_ids", user_playbook_ids))

    def delete_all_user_playbooks(self) -> BulkDeleteResponse:
        """Delete all user playbooks of all users."""
        return self._deleted("user_playbook", None)

    def add_agent_playbooks(self, agent_playbooks: Sequence[AgentPlaybook | Mapping[str, Any]]) -> AddResponse:
        """Add agent playbooks: each needs ``agent_version`` and ``content``; pending until approved."""
        values = values_of(AgentPlaybook, agent_playbooks, "agent_playbooks")
        missing = [
            (f"agent_playbooks[{index}].agent_version", "is required")
            for index, value in enumerate(values)
            if not value.agent_version
        ]
        if missing:
            raise InvalidInputError("The call was refused and nothing was stored", missing)
        return self._added(values)

    def get_agent_playbooks(
        self,
        limit: int = 100,
        agent_playbook_id: int | None = None,
        query: str | None = None,
        playbook_name: str | None = None,
        agent_version: str | None = None,
        start_time: Moment = None,
        end_time: Moment = None,
        status_filter: Statuses = None,
        playbook_status_filter: PlaybookStatus | str | Sequence[PlaybookStatus | str] | None = None,
        tags: Sequence[str] | None = None,
        force_refresh: bool = False,  # noqa: ARG002 - nothing is cached; accepted for compatibility
    ) -> AgentPlaybooksResponse:
        """Agent playbooks of any approval, newest first (best match first with a ``query``)."""
        return self._agent_playbooks(
            limit=limit, ids=None if agent_playbook_id is None else [str(agent_playbook_id)], query=query,
            playbook_name=playbook_name, agent_version=agent_version, start_time=start_time, end_time=end_time,
            status_filter=status_filter, playbook_status_filter=_listed(playbook_status_filter), tags=tags,
        )  # fmt: skip

    def search_agent_playbooks(
        self,
        query: str | None = None,
        agent_version: str | None = None,
        playbook_name: str | None = None,
        start_time: Moment = None,
        end_time: Moment = None,
        status_filter: Statuses = None,
        playbook_status_filter: PlaybookStatus | str | Sequence[PlaybookStatus | str] | None = None,
        tags: Sequence[str] | None = None,
        top_k: int = 10,
        search_mode: SearchMode | None = None,
        threshold: float | None = None,
        request_id: str | None = None,
        session_id: str | None = None,
        enable_reformulation: bool = False,
    ) -> AgentPlaybooksResponse:
        """Agent playbooks that match, best first; only approved ones unless ``playbook_status_filter`` says else.

        ``threshold`` (0 to 1) and ``search_mode`` mean what they mean for :meth:`search`. ``request_id``,
        ``session_id`` and ``enable_reformulation`` are accepted for compatibility.
        """
        del request_id, session_id, enable_reformulation
        statuses = _listed(playbook_status_filter) or [PlaybookStatus.APPROVED]
        return self._agent_playbooks(
            query=query, agent_version=agent_version, playbook_name=playbook_name, start_time=start_time,
            end_time=end_time, status_filter=status_filter, playbook_status_filter=statuses, tags=tags, top_k=top_k,
            threshold=threshold, search_mode=search_mode,
        )  # fmt: skip

    def update_agent_playbook(
        self,
        agent_playbook_id: int,
        playbook_name: str | None = None,
        content: str | None = None,
        trigger: str | None = None,
        rationale: str | None = None,
        playbook_status: PlaybookStatus | str | None = None,
    ) -> UpdateResponse:
        """Change an agent playbook; what is None stays."""
        fields = {
            "playbook_name": playbook_name, "content": content, "trigger": trigger, "rationale": rationale,
            "playbook_status": None if playbook_status is None else _approval(playbook_status),
        }  # fmt: skip
        return self._updated("agent_playbook", str(agent_playbook_id), fields)

    def update_agent_playbook_status(
        self, agent_playbook_id: int, playbook_status: PlaybookStatus | str
    ) -> UpdateResponse:
        """Approve an agent playbook, reject it, or make it pending again."""
        return self.update_agent_playbook(agent_playbook_id, playbook_status=playbook_status)

    def approve_agent_playbook(self, agent_playbook_id: int) -> UpdateResponse:
        """Let an agent playbook be recalled for all users of its version."""
        return self.update_agent_playbook_status(agent_playbook_id, PlaybookStatus.APPROVED)

    def reject_agent_playbook(self, agent_playbook_id: int) -> UpdateResponse:
        """Keep an agent playbook from ever being recalled."""
        return self.update_agent_playbook_status(agent_playbook_id, PlaybookStatus.REJECTED)

    def delete_agent_playbook(self, agent_playbook_id: int, wait_for_response: bool = False) -> DeleteResponse:  # noqa: ARG002
        """Delete one agent playbook."""
        return self._deleted("agent_playbook", [str(agent_playbook_id)])

    def delete_agent_playbooks_by_ids(self, agent_playbook_ids: Sequence[int]) -> BulkDeleteResponse:
        """Delete agent playbooks by their ids; ``deleted_count`` counts those that were there."""
        return self._deleted("agent_playbook", ids_in("agent_playbook_ids", agent_playbook_ids))

    def delete_all_agent_playbooks(self) -> BulkDeleteResponse:
        """Delete all agent playbooks."""
        return self._deleted("agent_playbook", None)

    def delete_all_playbooks(self) -> BulkDeleteResponse:
        """Delete all user playbooks of all users, and all agent playbooks."""
        gone = self.delete_all_user_playbooks().deleted_count + self.delete_all_agent_playbooks().deleted_count
        return BulkDeleteResponse(success=True, deleted_count=gone, message=f"Deleted {gone}")

    def _user_playbooks(self, **fields: Any) -> UserPlaybooksResponse:
        found, told = self._found("user_playbook", UserPlaybook, **fields)
        return UserPlaybooksResponse(user_playbooks=found, **told)

    def _agent_playbooks(self, **fields: Any) -> AgentPlaybooksResponse:
        found, told = self._found("agent_playbook", AgentPlaybook, **fields)
        return AgentPlaybooksResponse(agent_playbooks=found, **told)


def _listed(value: PlaybookStatus | str | Sequence[PlaybookStatus | str] | None) -> list[PlaybookStatus] | None:
    if value is None:
        return None
    return [_approval(item) for item in ([value] if isinstance(value, str) else value)]


def _approval(value: PlaybookStatus | str) -> PlaybookStatus:
    make = cast("Callable[[str], PlaybookStatus]", PlaybookStatus)
    try:
        return make(value)
    except ValueError:
        known = ", ".join(PlaybookStatus)
        raise InvalidInputError("The call was refused", [("playbook_status", f"must be one of {known}")]) from None
