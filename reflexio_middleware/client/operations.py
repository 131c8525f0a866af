"""Learning again from what is kept, letting the result take effect, and taking it back."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Any

from reflexio_middleware.client.core import Core, checked, whose
from reflexio_middleware.learning.generation import GENERATE
from reflexio_store.contract import JobState, Promoted
from reflexio_store.errors import InvalidInputError
from reflexio_store.ids import uuid7
from reflexio_store.models import (
    GenerationResponse,
    GetRequestsRequest,
    OperationStatus,
    OperationStatusResponse,
    ServiceName,
    Status,
    UpgradeProfilesResponse,
    UpgradeUserPlaybooksResponse,
)

Moment = datetime | str | None
_SERVICES: tuple[ServiceName, ...] = ("profile_generation", "playbook_generation")


class OperationsApi(Core):
    """The part of the client that learns again.

    A rerun makes *pending* learnings beside the current ones, which stay in force; an upgrade lets them take their
    place. Reruns are durable jobs: a worker does them, this process's own or any other of the same store.
    """

    def rerun_profile_generation(
        self,
        user_id: str | None = None,
        start_time: Moment = None,
        end_time: Moment = None,
        source: str | None = None,
        wait_for_response: bool = False,
    ) -> GenerationResponse:
        """Learn profiles again from all that is kept (of one user, of a source, of a time), as pending ones.

        Raises:
            InvalidInputError: A filter is unusable.
        """
        return self._generate(
            "profile_generation", Status.PENDING, wait_for_response,
            user_id=user_id, start_time=start_time, end_time=end_time, source=source,
        )  # fmt: skip

    def rerun_playbook_generation(
        self,
        agent_version: str | None = None,
        start_time: Moment = None,
        end_time: Moment = None,
        wait_for_response: bool = False,
        *,
        source: str | None = None,
        user_id: str | None = None,
    ) -> GenerationResponse:
        """Learn user playbooks again from all that is kept (of one agent version, of a time), as pending ones.

        Raises:
            InvalidInputError: A filter is unusable.
        """
        return self._generate(
            "playbook_generation", Status.PENDING, wait_for_response, agent_version=agent_version,
            start_time=start_time, end_time=end_time, source=source, user_id=user_id,
        )  # fmt: skip

    def manual_profile_generation(self, user_id: str | None = None, source: str | None = None) -> GenerationResponse:
        """Learn profiles from all that is kept now, as current ones, also what was stored while learning was off."""
        return self._generate("profile_generation", None, True, user_id=user_id, source=source)

    def manual_playbook_generation(
        self, agent_version: str | None = None, source: str | None = None
    ) -> GenerationResponse:
        """Learn user playbooks from all that is kept now, as current ones."""
        return self._generate("playbook_generation", None, True, agent_version=agent_version, source=source)

    def _generate(
        self, service: ServiceName, status: Status | None, wait: bool, *, agent_version: str | None = None, **given: Any
    ) -> GenerationResponse:
        query = checked(GetRequestsRequest, **given)
        params = query.model_dump(mode="json", include={"user_id", "source", "start_time", "end_time"})
        params = {name: value for name, value in (params | {"agent_version": agent_version}).items() if value}
        store = self._settled()
        before = self._operation(service)
        if before is not None and before.status == "in_progress":
            message = f"{service} runs already ({before.operation_id}); wait for it, or cancel it"
            return GenerationResponse(success=False, msg=message, operation_id=before.operation_id)
        operation_id = uuid7()
        payload = {"operation_id": operation_id, "params": params, "status": status, "asked_at": int(time.time())}
        store.put_job(GENERATE, service, payload=payload)
        if self._worker is not None:
            self._worker.wake()
            if wait:
                self._worker.wait(self.settings.flush_timeout, user_id="", session_id=service)
        return self._answered(service, operation_id)

    def _answered(self, service: ServiceName, operation_id: str) -> GenerationResponse:
        now = self._operation(service)
        if now is None or now.operation_id != operation_id or now.status == "in_progress":
            return GenerationResponse(success=True, msg="Started: see get_operation_status", operation_id=operation_id)
        return GenerationResponse(
            success=now.status == "completed", msg=now.error_message or now.status, operation_id=operation_id,
            profiles_generated=now.stats.get("profiles_generated", 0),
            playbooks_generated=now.stats.get("playbooks_generated", 0),
        )  # fmt: skip

    def get_operation_status(self, service_name: ServiceName = "profile_generation") -> OperationStatusResponse:
        """How far the last generation is, or how it ended.

        Raises:
            InvalidInputError: There is no service of that name.
        """
        found = self._operation(_service(service_name))
        if found is None:
            return OperationStatusResponse(success=False, msg=f"No {service_name} was ever asked for")
        return OperationStatusResponse(success=True, operation_status=found, msg=found.status)

    def cancel_operation(self, service_name: ServiceName | None = None) -> OperationStatusResponse:
        """Let a running generation (None: both) end after the user at hand; what it made until then stays."""
        names = _SERVICES if service_name is None else (_service(service_name),)
        states = [self._operation_state(name) for name in names]
        running = [state for state in states if state is not None and state.state in ("ready", "running")]
        for state in running:
            self.store.put_job(GENERATE, state.key, payload={**state.payload, "cancelled": True})
        if self._worker is not None:
            self._worker.wake()
        if not running:
            return OperationStatusResponse(success=False, msg="Nothing runs; nothing was changed")
        told = self._operation(_service(running[0].key))
        return OperationStatusResponse(success=True, operation_status=told, msg="It ends after the user at hand")

    def _operation_state(self, service: ServiceName) -> JobState | None:
        states = self.store.job_states(GENERATE, user_id="", key=service)
        return states[0] if states else None

    def _operation(self, service: ServiceName) -> OperationStatus | None:
        state = self._operation_state(service)
        if state is None:
            return None
        asked = {"operation_id": state.payload["operation_id"], "started_at": state.payload["asked_at"]}
        same = state.result.get("operation_id") == asked["operation_id"]
        result = asked | (state.result if same else {})
        result["status"] = "failed" if state.state == "dead" else result.get("status", "in_progress")
        error = state.last_error or result.get("error_message") or result.pop("waits_for", None)
        done, total = result.get("processed_users", 0) + result.get("failed_users", 0), result.get("total_users", 0)
        finished = result["status"] == "completed"
        share = 100.0 if finished else 100.0 * done / total if total else 0.0
        result |= {"service_name": service, "request_params": state.payload["params"], "error_message": error}
        return OperationStatus.model_validate({**result, "progress_percentage": round(share, 1)})

    def upgrade_profiles(self, user_id: str | None = None, only_affected_users: bool = True) -> UpgradeProfilesResponse:
        """Let pending profiles become current: current ones are archived, archived ones deleted.

        With ``only_affected_users`` those of users without a pending profile stay as they are.
        """
        made = self._settled().promote("profile", user_id=whose(user_id), only_affected=only_affected_users)
        return _profiles(made, "Nothing was pending; nothing was changed")

    def downgrade_profiles(self, user_id: str | None = None) -> UpgradeProfilesResponse:
        """Take an upgrade back: archived profiles become current, and current ones are archived."""
        return _profiles(self._settled().demote("profile", user_id=whose(user_id)), "Nothing was archived")

    def upgrade_user_playbooks(
        self, agent_version: str | None = None, playbook_name: str | None = None
    ) -> UpgradeUserPlaybooksResponse:
        """Let pending user playbooks become current: current ones are archived, archived ones deleted."""
        made = self._settled().promote("user_playbook", agent_version=agent_version, playbook_name=playbook_name)
        return _playbooks(made, "Nothing was pending; nothing was changed")

    def downgrade_user_playbooks(
        self, agent_version: str | None = None, playbook_name: str | None = None
    ) -> UpgradeUserPlaybooksResponse:
        """Take an upgrade back: archived user playbooks become current, and current ones are archived."""
        made = self._settled().demote("user_playbook", agent_version=agent_version, playbook_name=playbook_name)
        return _playbooks(made, "Nothing was archived")


def _service(name: str) -> ServiceName:
    for service in _SERVICES:
        if name == service:
            return service
    raise InvalidInputError("The call was refused", [("service_name", f"must be one of {', '.join(_SERVICES)}")])


def _told(made: Promoted, otherwise: str) -> str:
    if not made.promoted:
        return otherwise
    return f"{made.promoted} became current, {made.archived} were archived, {made.deleted} deleted"


def _profiles(made: Promoted, otherwise: str) -> UpgradeProfilesResponse:
    return UpgradeProfilesResponse(
        success=made.promoted > 0, profiles_archived=made.archived, profiles_promoted=made.promoted,
        profiles_deleted=made.deleted, message=_told(made, otherwise),
    )  # fmt: skip


def _playbooks(made: Promoted, otherwise: str) -> UpgradeUserPlaybooksResponse:
    return UpgradeUserPlaybooksResponse(
        success=made.promoted > 0, user_playbooks_archived=made.archived, user_playbooks_promoted=made.promoted,
        user_playbooks_deleted=made.deleted, message=_told(made, otherwise),
    )  # fmt: skip
