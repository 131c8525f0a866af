"""The three kinds of learnings on the server: their routes, their fields, and which of them match a query.

What the server leaves out is asked for: rows are always checked here again, as it returns playbooks of all users where
no ``user_id`` is given, pending and archived ones where no status is, and any tag where all are meant (wire facts).
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pydantic_core import PydanticSerializationError

from reflexio_store.errors import InvalidInputError
from reflexio_store.models import (
    AgentPlaybook,
    Learning,
    LearningKind,
    LearningQuery,
    Status,
    UserPlaybook,
    UserProfile,
)

from .wire import our_user, rows, value, window, wire_user

EVERY_STATUS: Final[list[Status | None]] = [None, *Status]
_EQUAL: Final = ("user_id", "agent_version", "playbook_name", "source", "profile_time_to_live")
MOST: Final = 100_000
"""Most learnings of one list."""
BY_HAND: Final = "cli-manual"
"""The request of what no request taught, or the beginning of its name: the server requires one (wire fact)."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind. ``key`` names its id, ``rows`` the list in an answer, ``stamp`` the time it is sorted by.

    ``changeable`` are the fields that the update route takes.
    """

    name: LearningKind
    model: type[UserProfile] | type[UserPlaybook] | type[AgentPlaybook]
    key: str
    rows: str
    stamp: str
    add: str
    search: str
    update: str
    delete: str
    delete_all: str
    changeable: tuple[str, ...]

    @property
    def is_personal(self) -> bool:
        """Whether it belongs to a user."""
        return self.name != "agent_playbook"

    def id_of(self, learning: Learning) -> str:
        """The id as text."""
        return str(getattr(learning, self.key))

    def key_of(self, learning_id: str) -> str | int | None:
        """The id as the server has it; None where it cannot be one."""
        if self.key == "profile_id":
            return learning_id or None
        digits = learning_id.isascii() and learning_id.isdigit() and len(learning_id) < 19
        return int(learning_id) or None if digits else None

    def values(self, answer: Mapping[str, Any]) -> list[Learning]:
        """The learnings of an answer."""
        return [self._value(row) for row in rows(answer, self.rows)]

    def _value(self, row: Mapping[str, Any]) -> Learning:
        values = dict(row)
        if self.is_personal:
            values["user_id"] = our_user(values.get("user_id") or "")
        if self.name == "profile" and values.get("generated_from_request_id") == BY_HAND:
            values["generated_from_request_id"] = ""
        if self.name == "user_playbook" and str(values.get("request_id")).startswith(BY_HAND):
            values["request_id"] = ""
        return value(self.model, values, f"{self.name} {values.get(self.key)!r}")

    def body(self, learning: Learning) -> dict[str, Any]:
        """What is sent to add it.

        Raises:
            InvalidInputError: It holds a value that JSON has no form for.
        """
        try:
            values = learning.model_dump(mode="json", exclude={"evidence", "superseded_by"}, exclude_none=True)
        except PydanticSerializationError as error:
            problem = (self.name, "holds a value that JSON has no form for, or text that UTF-8 has none for")
            raise InvalidInputError("The learning was not stored", [problem]) from error
        if self.name == "profile":
            values["generated_from_request_id"] = values["generated_from_request_id"] or BY_HAND
        if self.is_personal:
            values["user_id"] = wire_user(values["user_id"])
        return values


_PROFILE: Final = Kind(
    "profile", UserProfile, "profile_id", "user_profiles", "last_modified_timestamp", "/api/add_user_profile",
    "/api/search_profiles", "/api/update_user_profile", "/api/delete_profiles_by_ids", "/api/delete_all_profiles",
    ("content", "custom_features"),
)  # fmt: skip
_USER_PLAYBOOK: Final = Kind(
    "user_playbook", UserPlaybook, "user_playbook_id", "user_playbooks", "created_at", "/api/add_user_playbook",
    "/api/search_user_playbooks", "/api/update_user_playbook", "/api/delete_user_playbooks_by_ids",
    "/api/delete_all_user_playbooks", ("playbook_name", "content", "trigger", "rationale"),
)  # fmt: skip
_AGENT_PLAYBOOK: Final = Kind(
    "agent_playbook", AgentPlaybook, "agent_playbook_id", "agent_playbooks", "created_at", "/api/add_agent_playbook",
    "/api/search_agent_playbooks", "/api/update_agent_playbook", "/api/delete_agent_playbooks_by_ids",
    "/api/delete_all_agent_playbooks", ("playbook_name", "content", "trigger", "rationale", "playbook_status"),
)  # fmt: skip
KINDS: Final[dict[LearningKind, Kind]] = {kind.name: kind for kind in (_PROFILE, _USER_PLAYBOOK, _AGENT_PLAYBOOK)}


def filters(kind: Kind, query: LearningQuery) -> dict[str, Any] | None:
    """The filters of a query that the server has, always with a status; None where nothing can match."""
    times = window(query.start_time, query.end_time)
    if times is None or query.status_filter == [] or query.playbook_status_filter == []:
        return None
    found: dict[str, Any] = {"tags": query.tags, "status_filter": query.status_filter or [None], **times}
    if kind.is_personal and query.user_id is not None:
        found["user_id"] = wire_user(query.user_id)
    if kind.name == "profile":
        found |= {"source": query.source, "profile_time_to_live": query.profile_time_to_live}
    else:
        found |= {"agent_version": query.agent_version, "playbook_name": query.playbook_name}
    return {name: value for name, value in found.items() if value is not None}


def matching(kind: Kind, learnings: Iterable[Learning], query: LearningQuery) -> list[Learning]:
    """Those that a query means; each of its filters holds that the kind has, but for ``source_request_id``."""
    now = time.time()
    return [item for item in learnings if _matches(kind, item, query, now)]


def _matches(kind: Kind, learning: Learning, query: LearningQuery, now: float) -> bool:
    values = learning.model_dump()
    for name in _EQUAL:
        wanted = getattr(query, name)
        if wanted is not None and name in values and values[name] != wanted:
            return False
    stamp = values[kind.stamp]
    statuses = [None] if query.status_filter is None else query.status_filter
    approvals = query.playbook_status_filter
    return (
        values["status"] in statuses
        and values.get("expiration_timestamp", now + 1) > now
        and (query.ids is None or kind.id_of(learning) in query.ids)
        and set(query.tags or ()) <= set(values["tags"])
        and (query.start_time is None or stamp >= query.start_time.timestamp())
        and (query.end_time is None or stamp < query.end_time.timestamp())
        and (approvals is None or values.get("playbook_status") in (*approvals, None))
    )


def said(values: Mapping[str, Any]) -> tuple[Any, ...]:
    """What tells playbooks apart by what they say."""
    return tuple(values.get(name) or "" for name in ("content", "trigger", "rationale", "playbook_name"))
