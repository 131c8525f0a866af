"""What became of what was recalled: outcomes of sessions, use of learnings, explanations, experiments."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, get_args

from reflexio_middleware.client.core import Core, checked, ids_in, named, whose
from reflexio_middleware.recall import experiment
from reflexio_middleware.recall.experiment import ExperimentReport
from reflexio_middleware.recall.explanation import Explanation, explain
from reflexio_middleware.scope import current_session
from reflexio_store.errors import InvalidInputError
from reflexio_store.models import (
    GetSessionOutcomesRequest,
    GetSessionOutcomesResponse,
    LearningKind,
    Outcome,
    SessionOutcome,
    SetSessionOutcomeResponse,
    Use,
)


class UsesApi(Core):
    """The part of the client that tells whether memory helps."""

    def mark_session_outcome(
        self,
        session_id: str | None = None,
        outcome: Outcome | str = "unknown",
        occurred_at: int | None = None,
        label: str | None = None,
        value: float | None = None,
        metadata: Mapping[str, Any] | None = None,
        user_id: str | None = None,
    ) -> SetSessionOutcomeResponse:
        """Report how a session ended. The first report stands; the same one again is fine.

        Args:
            session_id: Which session; None: the scope's.
            outcome: ``"success"``, ``"failure"`` or ``"unknown"``.
            occurred_at: When, in epoch seconds; None: now.
            label: A word of yours, e.g. ``"refund granted"`` (128 characters at most).
            value: A measure of yours, e.g. a rating or a price.
            metadata: Free JSON (16 KiB at most).
            user_id: Whose session; needed only where several users have one of that id.

        Returns:
            ``success=False`` and a ``reason`` where nothing was recorded: ``unknown_session``, ``conflicting_outcome``.

        Raises:
            InvalidInputError: An argument is unusable.
        """
        scope = current_session()
        if session_id is None and scope is not None:
            session_id, user_id = scope.session_id, user_id or scope.user_id
        told = occurred_at if occurred_at is not None else self._told_before(session_id, user_id)
        report = checked(
            SessionOutcome, session_id=session_id, outcome=outcome, label=label, value=value, metadata=metadata,
            occurred_at=int(time.time()) if told is None else told, user_id=user_id or "",
        )  # fmt: skip
        return self._settled().mark_outcome(report)

    def _told_before(self, session_id: str | None, user_id: str | None) -> int | None:
        """When an outcome was reported that may be repeated now without saying when."""
        if not session_id:
            return None
        query = checked(GetSessionOutcomesRequest, session_ids=[session_id], user_id=user_id or None)
        return next((found.occurred_at for found in self._settled().get_outcomes(query)), None)

    def get_session_outcomes(
        self,
        session_ids: Sequence[str] | None = None,
        user_id: str | None = None,
        source: str | None = None,
        outcome: Outcome | str | None = None,
        label: str | None = None,
        start_time: int | None = None,
        end_time: int | None = None,
        top_k: int = 100,
        offset: int = 0,
    ) -> GetSessionOutcomesResponse:
        """Reported outcomes, the latest first; times are epoch seconds, both inclusive.

        Raises:
            InvalidInputError: An argument is unusable.
        """
        query = checked(
            GetSessionOutcomesRequest, session_ids=session_ids, user_id=user_id, source=source, outcome=outcome,
            label=label, start_time=start_time, end_time=end_time, top_k=top_k, offset=offset,
        )  # fmt: skip
        found = self._settled().get_outcomes(query)
        return GetSessionOutcomesResponse(session_outcomes=found, message=f"Found {len(found)} outcome(s)")

    def get_learning_use(
        self, kind: LearningKind, learning_ids: Sequence[str | int], *, user_id: str | None = None
    ) -> dict[str, Use]:
        """How learnings fared: by id (as text), in how many turns each was shown and cited, and how many of those
        belong to sessions that were reported as a success or a failure. Never shown: zeros.

        Args:
            kind: ``"profile"``, ``"user_playbook"`` or ``"agent_playbook"``.
            learning_ids: Which.
            user_id: Count only this user's turns.

        Raises:
            InvalidInputError: An argument is unusable.
        """
        if kind not in get_args(LearningKind):
            problem = ("kind", f"must be one of {', '.join(get_args(LearningKind))}")
            raise InvalidInputError("The call was refused", [problem])
        names = ids_in("learning_ids", learning_ids)
        found = self._settled().uses(kind, names, user_id=whose(user_id))
        return {name: found.get(name, Use()) for name in names}

    def explain(self, request_id: str) -> Explanation:
        """Why a turn was shown what recall put into its prompt: scores, reasons, and the messages behind each learning.

        Raises:
            InvalidInputError: No id is given, or no turn of that id is stored.
        """
        found = explain(self._settled(), named("request_id", request_id))
        if found is None:
            raise InvalidInputError(
                "There is nothing to explain", [("request_id", f"no turn {request_id!r} is stored")]
            )
        return found

    def retrieval_experiment_report(self, experiment_id: str | None = None) -> ExperimentReport:
        """What recall changes, measured by the outcomes of users with and without it (see ``mark_session_outcome``).

        Args:
            experiment_id: Which experiment; None: the one that runs (setting ``retrieval_experiment``).

        Raises:
            InvalidInputError: None is named, and none runs.
        """
        name = experiment_id or self.settings.retrieval_experiment
        if not name:
            raise InvalidInputError(
                "There is no experiment to report on",
                [("experiment_id", "name one, or run one with the setting retrieval_experiment")],
            )
        return experiment.report(name, self._settled().experiment_results(name))
