"""The bodies and answers of get, search, update and delete."""

from __future__ import annotations

from datetime import date, datetime, time
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from .interactions import Interaction, LearningKind, Session, Value
from .learnings import (
    AgentPlaybook,
    EntityType,
    PlaybookStatus,
    ProfileTimeToLive,
    Status,
    UserPlaybook,
    UserProfile,
)
from .publish import NonBlank, Source

SearchMode = Literal["fts", "vector", "hybrid"]
ShortId = Annotated[str, Field(max_length=255)]


def _time(value: Any) -> Any:
    """Epoch numbers, dates and ISO text become datetimes; one without a zone is read in the local zone (wire fact)."""
    if isinstance(value, str):
        value = datetime.fromisoformat(value)
    elif isinstance(value, date) and not isinstance(value, datetime):
        value = datetime.combine(value, time.min)
    if isinstance(value, datetime) and value.tzinfo is None:
        return value.astimezone()
    return value


Time = Annotated[datetime, BeforeValidator(_time)]


class _Window(Value):
    """A half-open window of time: ``start_time <= t < end_time``."""

    start_time: Time | None = None
    end_time: Time | None = None

    @model_validator(mode="after")
    def _ordered(self) -> _Window:
        if self.start_time and self.end_time and self.end_time <= self.start_time:
            raise ValueError("end_time must be after start_time")
        return self


class GetRequestsRequest(_Window):
    """Filters apply to requests; ``top_k``, ``offset`` and ``cursor`` count sessions.

    *Ours*: ``cursor``, the ``next_cursor`` of the page before; paging by it is stable while turns arrive.
    """

    user_id: str | None = None
    request_id: str | None = None
    session_id: str | None = None
    source: Source | None = None
    top_k: int | None = Field(default=30, gt=0)
    offset: int = Field(default=0, ge=0)
    cursor: str | None = None


class GetRequestsResponse(Value):
    """Sessions, the one with the newest request first; in each, requests newest first, interactions oldest first.

    ``next_cursor`` (*ours*) is None on the last page, and ``has_more`` is exact.
    """

    success: bool = True
    sessions: list[Session] = Field(default_factory=list)
    has_more: bool = False
    msg: str | None = None
    next_cursor: str | None = None


class GetInteractionsRequest(_Window):
    """Interactions of one user (None: of all users), newest first."""

    user_id: NonBlank | None = None
    top_k: int | None = Field(default=30, gt=0)


class SearchInteractionRequest(_Window):
    """Interactions of one user that match ``query`` (best first), or the ``most_recent_k`` newest."""

    user_id: NonBlank
    request_id: str | None = None
    query: str | None = None
    top_k: int | None = Field(default=10, gt=0)
    most_recent_k: int | None = Field(default=None, gt=0)
    search_mode: SearchMode = "hybrid"


class _Found(Value):
    """``search_mode_effective`` tells what a search went by, None where there was no query; ``degraded``, that another
    mode was wanted."""

    success: bool = True
    msg: str | None = None
    degraded: bool = False
    search_mode_effective: SearchMode | None = None


class InteractionsResponse(_Found):
    """Answer of ``get_interactions`` and ``search_interactions``. ``degraded`` also says that messages of the user are
    not indexed yet, so that a search may have left some out."""

    interactions: list[Interaction] = Field(default_factory=list)


class LearningQuery(_Window):
    """Which learnings of one kind: every filter that is given must hold.

    Without a ``status_filter`` only current learnings match; in the list, None stands for current. Expired ones
    never match. ``query`` makes it a search, best match first; without it the newest come first.
    ``source_request_id`` keeps learnings that have evidence in that request.
    """

    user_id: str | None = None
    ids: list[str] | None = None
    query: str | None = None
    agent_version: str | None = None
    playbook_name: str | None = None
    source: str | None = None
    tags: list[str] | None = None
    source_request_id: str | None = None
    status_filter: list[Status | None] | None = None
    playbook_status_filter: list[PlaybookStatus] | None = None
    profile_time_to_live: ProfileTimeToLive | None = None
    top_k: int | None = Field(default=None, gt=0)


class ProfilesResponse(_Found):
    """Answer of ``get_profiles`` and ``search_user_profiles``."""

    user_profiles: list[UserProfile] = Field(default_factory=list)


class UserPlaybooksResponse(_Found):
    """Answer of ``get_user_playbooks`` and ``search_user_playbooks``."""

    user_playbooks: list[UserPlaybook] = Field(default_factory=list)


class AgentPlaybooksResponse(_Found):
    """Answer of ``get_agent_playbooks`` and ``search_agent_playbooks``."""

    agent_playbooks: list[AgentPlaybook] = Field(default_factory=list)


class ConversationTurn(Value):
    """One earlier message, given to a search for context."""

    role: NonBlank
    content: NonBlank


class SearchOptions(Value):
    """How something is searched. ``threshold`` is the share of the query's weight that a result must cover, or its
    cosine; None: any match."""

    threshold: float | None = Field(default=None, ge=0, le=1)
    search_mode: SearchMode = "hybrid"


class UnifiedSearchRequest(SearchOptions):
    """One query over the three kinds of learnings, within one user and one agent version.

    Without ``user_id`` nothing personal is returned; without ``agent_playbook_status_filter`` only approved agent
    playbooks are.
    """

    query: NonBlank
    top_k: int = Field(default=5, ge=1, le=100)
    agent_version: str | None = None
    playbook_name: str | None = None
    user_id: ShortId | None = None
    source: str | None = None
    tags: list[str] | None = None
    entity_types: list[EntityType] | None = None
    agent_playbook_status_filter: list[PlaybookStatus] | None = None
    conversation_history: list[ConversationTurn] | None = None
    request_id: ShortId | None = None
    session_id: ShortId | None = None


class UnifiedSearchResponse(_Found):
    """Answer of ``search``: each list is ordered, best match first."""

    profiles: list[UserProfile] = Field(default_factory=list)
    agent_playbooks: list[AgentPlaybook] = Field(default_factory=list)
    user_playbooks: list[UserPlaybook] = Field(default_factory=list)
    reformulated_query: str | None = None


class DeleteResponse(Value):
    """Answer of ``delete_request`` and of the deletes of single learnings. ``success`` is False for an unknown id."""

    success: bool
    message: str = ""


class DeleteSessionResponse(DeleteResponse):
    """Answer of ``delete_session``. The learning counts are *ours*: what had no other evidence."""

    deleted_requests_count: int = 0
    deleted_profiles_count: int = 0
    deleted_playbooks_count: int = 0


class DeleteInteractionResponse(DeleteSessionResponse):
    """Answer of ``delete_interaction``: 1 request where its last message went. The counts are *ours*."""


class ClearUserDataResponse(Value):
    """Answer of ``clear_user_data``: rows that were there and are gone, by what they are."""

    success: bool = True
    deleted_counts: dict[str, int] = Field(default_factory=dict)
    message: str = ""


class BulkDeleteResponse(DeleteResponse):
    """Answer of the deletes of many; ``deleted_count`` counts what was there and is gone."""

    deleted_count: int = 0


class AddResponse(Value):
    """Answer of the adds. ``ids`` (*ours*) are the ids of what was added, as text, in the order given."""

    success: bool = True
    message: str = ""
    added_count: int = 0
    ids: list[str] = Field(default_factory=list)


class UpdateResponse(Value):
    """Answer of the updates. ``success`` is False for an unknown id."""

    success: bool
    msg: str | None = None


class StorageStats(Value):
    """Answer of ``storage_stats``. Times are ISO text in UTC, None where there is no profile."""

    success: bool = True
    profile_count: int = 0
    playbook_count: int = 0
    oldest_profile_modified: str | None = None
    newest_profile_modified: str | None = None


class WhoAmIResponse(Value):
    """Answer of ``whoami``."""

    success: bool = True
    org_id: str = ""
    storage_type: str = ""
    storage_label: str = ""
    storage_configured: bool = True
    message: str = ""


class AggregationResponse(Value):
    """Answer of ``run_playbook_aggregation``. The counts are *ours*: agent playbooks that were added, changed, or
    retired because too few users support them."""

    success: bool = True
    message: str = ""
    added: int = 0
    updated: int = 0
    retired: int = 0


class AggregationOperation(Value):
    """Where an aggregation that was asked for stands; ``result`` holds its counts once it succeeded."""

    operation_id: str
    status: Literal["queued", "running", "retrying", "succeeded", "failed"]
    attempts: int = 0
    error: str = ""
    result: dict[str, int] = Field(default_factory=dict)


class HistoryEntry(Value):
    """One thing that happened to a learning. ``at_us`` is in epoch microseconds.

    ``action`` is ``added``, ``changed``, ``merged`` (it says what ``other_id`` says), ``superseded`` (``other_id``
    took its place), ``restored``, ``expired``, ``deleted``, or a status it was given; ``content`` is what it said.
    """

    at_us: int
    user_id: str
    kind: LearningKind
    learning_id: str
    action: str
    content: str = ""
    other_id: str = ""
    request_id: str = ""


class ProfileChangeLogResponse(Value):
    """Answer of ``get_profile_change_log``: the latest first."""

    success: bool = True
    profile_change_logs: list[HistoryEntry] = Field(default_factory=list)
