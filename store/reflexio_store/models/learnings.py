"""What is learned: profiles and playbooks, with the evidence each rests on."""

from __future__ import annotations

import time
from enum import StrEnum
from typing import Any, Final, Literal

from pydantic import Field, model_validator

from .interactions import Value

NEVER_EXPIRES: Final = 4_102_444_800
"""``expiration_timestamp`` of what never expires: 2100-01-01 in epoch seconds (wire fact)."""

_DAY = 86_400


class ProfileTimeToLive(StrEnum):
    """How long a profile is true after it was last confirmed."""

    ONE_DAY = "one_day"
    ONE_WEEK = "one_week"
    ONE_MONTH = "one_month"
    ONE_QUARTER = "one_quarter"
    ONE_YEAR = "one_year"
    INFINITY = "infinity"

    @property
    def seconds(self) -> int | None:
        """The duration in seconds (a month is 30 days, a quarter 90, a year 365), or None for infinity."""
        return _TTL_SECONDS[self]


_TTL_SECONDS: dict[ProfileTimeToLive, int | None] = {
    ProfileTimeToLive.ONE_DAY: _DAY,
    ProfileTimeToLive.ONE_WEEK: 7 * _DAY,
    ProfileTimeToLive.ONE_MONTH: 30 * _DAY,
    ProfileTimeToLive.ONE_QUARTER: 90 * _DAY,
    ProfileTimeToLive.ONE_YEAR: 365 * _DAY,
    ProfileTimeToLive.INFINITY: None,
}


class Status(StrEnum):
    """Lifecycle of a learning. ``None`` in a ``status`` field means current."""

    PENDING = "pending"
    ARCHIVED = "archived"
    ARCHIVE_IN_PROGRESS = "archive_in_progress"
    MERGED = "merged"
    SUPERSEDED = "superseded"
    EXPIRED = "expired"


class PlaybookStatus(StrEnum):
    """Approval of an agent playbook. Only approved ones are recalled."""

    PENDING = "pending"
    APPROVED = "approved"
    REJECTED = "rejected"


class BlockingIssueKind(StrEnum):
    """Why the agent could not do better."""

    MISSING_TOOL = "missing_tool"
    PERMISSION_DENIED = "permission_denied"
    EXTERNAL_DEPENDENCY = "external_dependency"
    POLICY_RESTRICTION = "policy_restriction"


class BlockingIssue(Value):
    """What stood in the agent's way when a playbook was learned."""

    kind: BlockingIssueKind
    details: str


class Evidence(Value):
    """One message that a learning was learned from: a request, and the place of the message in it (from 0)."""

    request_id: str
    interaction_index: int = Field(default=0, ge=0)


def _now() -> int:
    return int(time.time())


class UserProfile(Value):
    """A fact about one user, or a preference of theirs. Times are in epoch seconds.

    ``expiration_timestamp`` follows from ``profile_time_to_live`` unless it is given. ``evidence`` is *ours*.
    """

    profile_id: str = Field(default="", max_length=1000)
    user_id: str = Field(min_length=1)
    content: str = Field(min_length=1, max_length=100_000)
    last_modified_timestamp: int = Field(default_factory=_now, ge=0)
    generated_from_request_id: str = ""
    profile_time_to_live: ProfileTimeToLive = ProfileTimeToLive.INFINITY
    expiration_timestamp: int = NEVER_EXPIRES
    custom_features: dict[str, Any] | None = None
    source: str | None = ""
    status: Status | None = None
    extractor_names: list[str] | None = None
    source_span: str | None = None
    source_interaction_ids: list[int] = Field(default_factory=list)
    tags: list[str] = Field(default_factory=list)
    expanded_terms: str | None = None
    notes: str | None = None
    superseded_by: str | None = None
    evidence: list[Evidence] = Field(default_factory=list)

    @model_validator(mode="before")
    @classmethod
    def _expiry(cls, data: Any) -> Any:
        if not isinstance(data, dict) or data.get("expiration_timestamp") is not None:
            return data
        try:
            seconds = ProfileTimeToLive(data.get("profile_time_to_live") or "infinity").seconds
            modified = int(data.get("last_modified_timestamp") or _now())
        except (TypeError, ValueError):
            return data  # the fields' own validation names what is wrong
        values = {key: value for key, value in data.items() if key != "expiration_timestamp"}
        return values if seconds is None else {**values, "expiration_timestamp": modified + seconds}


class _Playbook(Value):
    agent_version: str = Field(default="", max_length=1000)
    playbook_name: str = ""
    created_at: int = Field(default_factory=_now, ge=0)
    content: str = Field(default="", max_length=100_000)
    trigger: str | None = Field(default=None, max_length=100_000)
    rationale: str | None = Field(default=None, max_length=100_000)
    blocking_issue: BlockingIssue | None = None
    status: Status | None = None
    tags: list[str] = Field(default_factory=list)


STANDING: Final = "standing"
"""Tag of a playbook that applies to every request of its user, whatever the request is about."""


class UserPlaybook(_Playbook):
    """A rule learned with one user: when ``trigger``, then ``content``. ``evidence`` is *ours*.

    ``trigger`` is worded as the future request that should find the rule. A playbook tagged ``standing`` applies
    to every request of that user (such as "answer in German").
    """

    user_playbook_id: int = Field(default=0, ge=0)
    user_id: str = ""
    request_id: str = ""
    source: str | None = None
    source_interaction_ids: list[int] = Field(default_factory=list)
    source_span: str | None = None
    superseded_by: str | None = None
    evidence: list[Evidence] = Field(default_factory=list)

    @model_validator(mode="after")
    def _says_something(self) -> UserPlaybook:
        if not (self.content.strip() or (self.trigger or "").strip()):
            raise ValueError("needs content or trigger")
        return self


class AgentPlaybook(_Playbook):
    """A rule shared by all users of one ``agent_version``. It is recalled only once it is approved.

    ``support`` (*ours*, set on reading) is how many users said the same: 0 for one added by hand.
    """

    agent_playbook_id: int = Field(default=0, ge=0)
    playbook_status: PlaybookStatus = PlaybookStatus.PENDING
    playbook_metadata: str = ""
    support: int = Field(default=0, ge=0)


Learning = UserProfile | UserPlaybook | AgentPlaybook
EntityType = Literal["profiles", "user_playbooks", "agent_playbooks"]
