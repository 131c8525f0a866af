"""Answers of what takes a while: learning again from what is kept, and letting the result take effect."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from .interactions import Value

ServiceName = Literal["profile_generation", "playbook_generation"]


class GenerationResponse(Value):
    """Answer of ``rerun_*_generation`` and ``manual_*_generation``. ``success`` is False while one runs already.

    The counts are those of an operation that ended before the call did; else None.
    """

    success: bool
    msg: str = ""
    operation_id: str | None = None
    profiles_generated: int | None = None
    playbooks_generated: int | None = None


class OperationStatus(Value):
    """How far an operation is. Times are epoch seconds; the lists of users name the last hundred."""

    service_name: ServiceName
    status: Literal["in_progress", "completed", "failed", "cancelled"]
    operation_id: str = ""
    started_at: int = 0
    completed_at: int | None = None
    total_users: int = 0
    processed_users: int = 0
    failed_users: int = 0
    current_user_id: str | None = None
    processed_user_ids: list[str] = Field(default_factory=list)
    failed_user_ids: list[str] = Field(default_factory=list)
    request_params: dict[str, Any] = Field(default_factory=dict)
    stats: dict[str, int] = Field(default_factory=dict)
    error_message: str | None = None
    progress_percentage: float = 0.0


class OperationStatusResponse(Value):
    """Answer of ``get_operation_status``; ``success`` is False where there was no such operation."""

    success: bool
    operation_status: OperationStatus | None = None
    msg: str = ""


class UpgradeProfilesResponse(Value):
    """Answer of ``upgrade_profiles`` and ``downgrade_profiles``."""

    success: bool
    profiles_archived: int = 0
    profiles_promoted: int = 0
    profiles_deleted: int = 0
    message: str = ""


class UpgradeUserPlaybooksResponse(Value):
    """Answer of ``upgrade_user_playbooks`` and ``downgrade_user_playbooks``."""

    success: bool
    user_playbooks_archived: int = 0
    user_playbooks_promoted: int = 0
    user_playbooks_deleted: int = 0
    message: str = ""
