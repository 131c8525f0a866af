"""How sessions ended, as far as a server keeps it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from reflexio_store.errors import InvalidInputError, StoreError
from reflexio_store.models import (
    ArmResult,
    GetSessionOutcomesRequest,
    LearningKind,
    SessionOutcome,
    SetSessionOutcomeResponse,
    Use,
)

from .learning_state import RemoteLearning
from .wire import our_user, rows, value, wire_user

_NOT_SENT = {"user_id", "source", "created_at"}


class RemoteOutcomes(RemoteLearning):
    """The part of the home that keeps outcomes."""

    def uses(
        self,
        kind: LearningKind,  # noqa: ARG002
        learning_ids: Sequence[str],  # noqa: ARG002
        *,
        user_id: str | None = None,  # noqa: ARG002
    ) -> dict[str, Use]:
        """Nothing: a server does not hand out how a learning fared."""
        return {}

    def mark_outcome(self, outcome: SessionOutcome) -> SetSessionOutcomeResponse:
        """Note how a session ended. The first report stands.

        A server knows sessions by their id alone (wire fact): whose it is, is looked up here before.

        Raises:
            InvalidInputError: The server refuses a field, or several users have a session of that id.
        """
        found = self._all_requests(session_id=outcome.session_id)
        users = {data.request.user_id for data in found}
        if not users or (outcome.user_id and outcome.user_id not in users):
            told = f"No session {outcome.session_id!r} of this user is stored"
            return SetSessionOutcomeResponse(success=False, reason="unknown_session", message=told)
        if len(users) > 1:
            problem = ("session_id", f"several users have a session {outcome.session_id!r}: a server keeps one outcome")
            raise InvalidInputError("The outcome was not noted", [problem])
        body = outcome.model_dump(mode="json", exclude=_NOT_SENT, exclude_none=True)
        answer = self._http.call("POST", "/api/session_outcome", body, refusable=True)
        return SetSessionOutcomeResponse.model_validate(answer)

    def get_outcomes(self, query: GetSessionOutcomesRequest) -> list[SessionOutcome]:
        """Reported outcomes, the latest first."""
        body: dict[str, Any] = query.model_dump(mode="json", exclude_none=True)
        if query.user_id is not None:
            body["user_id"] = wire_user(query.user_id)
        answer = self._http.call("POST", "/api/get_session_outcomes", body)
        found = [
            value(SessionOutcome, {**row, "user_id": our_user(row.get("user_id") or "")}, "session outcome")
            for row in rows(answer, "session_outcomes")
        ]
        return [item for item in found if query.user_id in (None, item.user_id)]

    def experiment_results(self, experiment_id: str) -> list[ArmResult]:
        """Refused: a server runs its experiments itself.

        Raises:
            StoreError: Always.
        """
        raise StoreError(f"{self._http.url} runs experiments itself: see there for the results of {experiment_id!r}")
