"""Profiles, user playbooks and agent playbooks: add, get, search, update, delete, approve."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar, cast

from reflexio_middleware.client.core import Core, checked, values_of
from reflexio_store.errors import InvalidInputError
from reflexio_store.models import (
    AddResponse,
    AgentPlaybook,
    AgentPlaybooksResponse,
    BulkDeleteResponse,
    DeleteResponse,
    Learning,
    LearningKind,
    LearningQuery,
    PlaybookStatus,
    ProfilesResponse,
    ProfileTimeToLive,
    SearchMode,
    Status,
    UpdateResponse,
    UserPlaybook,
    UserPlaybooksResponse,
    UserProfile,
)

Moment = datetime | str | None
Statuses = Sequence[Status | str | None] | None
MANUAL = "cli-manual"
"""``generated_from_request_id`` of a profile that was added by hand (wire fact)."""

V = TypeVar("V", bound=Learning)


class LearningsApi(Core):
    """The part of the client that speaks of what was learned.

    Filters, where given, must all hold. Without a ``status_filter`` only current learnings are returned; in the list,
    None stands for current. Times are datetimes or ISO text; naive ones are local.
    """

    def add_user_profile(self, user_profiles: Sequence[UserProfile | Mapping[str, Any]]) -> AddResponse:
        """Add profiles. A known ``profile_id`` of the same user is replaced; without one, it is made."""
        values = [
            value if value.generated_from_request_id else value.model_copy(update={"generated_from_request_id": MANUAL})
            for value in values_of(UserProfile, user_profiles, "user_profiles")
        ]
        return self._added(values)

    def get_profiles(
        self,
        user_id: str,
        profile_id: str | None = None,
        query: str | None = None,
        start_time: Moment = None,
        end_time: Moment = None,
        top_k: int | None = 30,
        source: str | None = None,
        profile_time_to_live: ProfileTimeToLive | str | None = None,
        status_filter: Statuses = None,
        tags: Sequence[str] | None = None,
        force_refresh: bool = False,  # noqa: ARG002 - nothing is cached; accepted for compatibility
    ) -> ProfilesResponse:
        """Profiles of a user, newest first (best match first with a ``query``)."""
        return self._profiles(
            user_id=_required("user_id", user_id), ids=[profile_id] if profile_id else None, query=query,
            start_time=start_time, end_time=end_time, top_k=top_k, source=source,
            profile_time_to_live=profile_time_to_live, status_filter=status_filter, tags=tags,
        )  # fmt: skip

    def get_all_profiles(
        self, limit: int = 100, status_filter: str | None = None, user_id: str | None = None
    ) -> ProfilesResponse:
        """Profiles of all users, newest first. ``status_filter`` is one of ``current``, ``pending``, ``archived``..."""
        statuses = None if status_filter is None else [None if status_filter == "current" else status_filter]
        return self._profiles(user_id=user_id, top_k=limit, status_filter=statuses)

    def search_user_profiles(
        self,
        user_id: str,
        query: str | None = None,
        generated_from_request_id: str | None = None,
        start_time: Moment = None,
        end_time: Moment = None,
        top_k: int | None = 10,
        source: str | None = None,
        tags: Sequence[str] | None = None,
        search_mode: SearchMode | None = None,
        request_id: str | None = None,
        session_id: str | None = None,
        custom_feature: str | None = None,
        extractor_name: str | None = None,
        threshold: float | None = None,
        enable_reformulation: bool = False,
    ) -> ProfilesResponse:
        """Profiles of a user that match ``query``, best first; without one, the newest.

        ``threshold`` is the share (0 to 1) of the query that a profile must cover. ``search_mode`` (full text is what
        this home has), ``request_id``, ``session_id``, ``custom_feature``, ``extractor_name`` and
        ``enable_reformulation`` are accepted for compatibility.
        """
        del search_mode, request_id, session_id, custom_feature, extractor_name, enable_reformulation
        return self._profiles(
            user_id=_required("user_id", user_id), query=query, source_request_id=generated_from_request_id,
            start_time=start_time, end_time=end_time, top_k=top_k, source=source, tags=tags, threshold=threshold,
        )  # fmt: skip

    search_profiles = search_user_profiles

    def update_user_profile(
        self,
        user_id: str,
        profile_id: str,
        content: str | None = None,
        custom_features: Mapping[str, Any] | None = None,
        tags: Sequence[str] | None = None,
    ) -> UpdateResponse:
        """Change a profile's text, features or tags; what is None stays."""
        fields = {"content": content, "custom_features": custom_features, "tags": tags}
        return self._updated("profile", profile_id, fields, user_id=_required("user_id", user_id))

    def delete_profile(
        self,
        user_id: str,
        profile_id: str = "",
        search_query: str = "",
        wait_for_response: bool = False,  # noqa: ARG002 - done when this returns; accepted for compatibility
    ) -> DeleteResponse:
        """Delete one profile by its id, or those in which all words of ``search_query`` occur (100 at most in one
        call); one of the two is needed."""
        user = _required("user_id", user_id)
        if profile_id:
            return self._deleted("profile", [profile_id], user_id=user)
        if not search_query.strip():
            raise InvalidInputError("The call was refused", [("profile_id", "or search_query is needed")])
        found = self._settled().search_learnings("profile", LearningQuery(user_id=user, query=search_query, top_k=100))
        whole = [item.learning for item in found if item.coverage > 0.999]
        ids = [item.profile_id for item in whole if isinstance(item, UserProfile)]
        if not ids:
            return DeleteResponse(success=False, message="No profile holds all these words; nothing was changed")
        return self._deleted("profile", ids, user_id=user)

    def delete_profiles_by_ids(self, profile_ids: Sequence[str]) -> BulkDeleteResponse:
        """Delete profiles by their ids, whoever they are of."""
        return self._deleted("profile", _ids("profile_ids", profile_ids))

    def delete_all_profiles(self) -> BulkDeleteResponse:
        """Delete all profiles of all users."""
        return self._deleted("profile", None)

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
            top_k=limit, ids=None if user_playbook_id is None else [str(user_playbook_id)], user_id=user_id,
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

        ``threshold`` is the share (0 to 1) of the query that a playbook must cover; ``search_mode``, ``request_id``,
        ``session_id`` and ``enable_reformulation`` are accepted for compatibility.
        """
        del search_mode, request_id, session_id, enable_reformulation
        if not user_id:
            return UserPlaybooksResponse(msg="No user_id was given: nothing personal is searched")
        return self._user_playbooks(
            query=query, user_id=user_id, agent_version=agent_version, playbook_name=playbook_name, source=source,
            start_time=start_time, end_time=end_time, status_filter=status_filter, tags=tags, top_k=top_k,
            threshold=threshold,
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
        return self._deleted("user_playbook", _ids("user_playbook_ids", user_playbook_ids))

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
            top_k=limit, ids=None if agent_playbook_id is None else [str(agent_playbook_id)], query=query,
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

        ``threshold`` is the share (0 to 1) of the query that a playbook must cover; ``search_mode``, ``request_id``,
        ``session_id`` and ``enable_reformulation`` are accepted for compatibility.
        """
        del search_mode, request_id, session_id, enable_reformulation
        statuses = _listed(playbook_status_filter) or [PlaybookStatus.APPROVED]
        return self._agent_playbooks(
            query=query, agent_version=agent_version, playbook_name=playbook_name, start_time=start_time,
            end_time=end_time, status_filter=status_filter, playbook_status_filter=statuses, tags=tags, top_k=top_k,
            threshold=threshold,
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
        return self._deleted("agent_playbook", _ids("agent_playbook_ids", agent_playbook_ids))

    def delete_all_agent_playbooks(self) -> BulkDeleteResponse:
        """Delete all agent playbooks."""
        return self._deleted("agent_playbook", None)

    def _found(
        self, kind: LearningKind, model: type[V], *, threshold: float | None = None, **fields: Any
    ) -> tuple[list[V], str]:
        query = checked(LearningQuery, **fields)
        store = self._settled()
        if query.query and query.query.strip():
            scored = store.search_learnings(kind, query)
            found: list[Learning] = [item.learning for item in scored if item.coverage >= (threshold or 0.0)]
        else:
            found = store.get_learnings(kind, query)
        return [item for item in found if isinstance(item, model)], f"Found {len(found)} {kind.replace('_', ' ')}(s)"

    def _profiles(self, **fields: Any) -> ProfilesResponse:
        found, message = self._found("profile", UserProfile, **fields)
        return ProfilesResponse(user_profiles=found, msg=message)

    def _user_playbooks(self, **fields: Any) -> UserPlaybooksResponse:
        found, message = self._found("user_playbook", UserPlaybook, **fields)
        return UserPlaybooksResponse(user_playbooks=found, msg=message)

    def _agent_playbooks(self, **fields: Any) -> AgentPlaybooksResponse:
        found, message = self._found("agent_playbook", AgentPlaybook, **fields)
        return AgentPlaybooksResponse(agent_playbooks=found, msg=message)

    def _added(self, values: Sequence[Learning]) -> AddResponse:
        ids = self.store.add_learnings(values)
        return AddResponse(message=f"Added {len(ids)}", added_count=len(ids), ids=ids)

    def _updated(
        self, kind: LearningKind, learning_id: str, fields: Mapping[str, Any], *, user_id: str | None = None
    ) -> UpdateResponse:
        given = {name: value for name, value in fields.items() if value is not None}
        if not given:
            raise InvalidInputError("The call was refused", [("fields", f"name one of {', '.join(fields)}")])
        done = self.store.update_learning(kind, learning_id, given, user_id=user_id)
        told = "Updated" if done else f"No {kind.replace('_', ' ')} {learning_id!r}; nothing was changed"
        return UpdateResponse(success=done, msg=told)

    def _deleted(
        self, kind: LearningKind, ids: Sequence[str] | None, *, user_id: str | None = None
    ) -> BulkDeleteResponse:
        gone = self.store.delete_learnings(kind, ids, user_id=user_id)
        found = gone > 0 or not ids
        told = f"Deleted {gone}" if found else f"No such {kind.replace('_', ' ')}; nothing was changed"
        return BulkDeleteResponse(success=found, deleted_count=gone, message=told)


def _required(name: str, value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise InvalidInputError("The call was refused", [(name, "is missing: give the id as text")])
    return value.strip()


def _ids(name: str, values: Sequence[Any]) -> list[str]:
    if isinstance(values, (str, bytes)) or not isinstance(values, Sequence) or not 1 <= len(values) <= 10_000:
        raise InvalidInputError("The call was refused", [(name, "must be a list of 1 to 10000 ids")])
    return [str(value) for value in values]


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
