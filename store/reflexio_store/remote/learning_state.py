"""Learning on a server: it runs no jobs of ours, but is asked how it stands, and told that a session is over."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from reflexio_store.contract import Job, JobState
from reflexio_store.errors import StoreError

from .http import MissingError
from .search import RemoteSearch
from .wire import wire_user

_STATES: Final = {"pending": "ready", "processing": "running", "done": "done", "failed": "dead"}


class RemoteLearning(RemoteSearch):
    """The part of the home that stands for jobs."""

    def put_job(
        self,
        kind: str,
        key: str,
        *,
        user_id: str = "",  # noqa: ARG002 - as the contract has them
        due_after: float = 0.0,  # noqa: ARG002
        payload: dict[str, Any] | None = None,  # noqa: ARG002
    ) -> None:
        """Refused: nobody would do it.

        Raises:
            StoreError: Always.
        """
        raise StoreError(f"{self._http.url} is a Reflexio server, which keeps no jobs ({kind} {key!r} was asked for)")

    def claim_job(self, kind: str, *, lease_seconds: float) -> Job | None:  # noqa: ARG002
        """None: the server works by itself."""
        return None

    def extend_job(self, job: Job, *, lease_seconds: float, result: dict[str, Any] | None = None) -> bool:  # noqa: ARG002
        """False: there are no jobs to hold."""
        return False

    def finish_job(self, job: Job, result: dict[str, Any]) -> bool:  # noqa: ARG002
        """False: there are no jobs to hold."""
        return False

    def fail_job(self, job: Job, error: str, *, retry_after: float | None) -> bool:  # noqa: ARG002
        """False: there are no jobs to hold."""
        return False

    def release_job(self, job: Job, *, due_after: float = 0.0) -> bool:  # noqa: ARG002
        """False: there are no jobs to hold."""
        return False

    def hasten_jobs(self, kind: str, *, user_id: str | None = None, key: str | None = None) -> int:  # noqa: ARG002
        """0: there are no jobs to wait."""
        return 0

    def backlog(self) -> dict[str, int]:
        """None: there are no jobs."""
        return dict.fromkeys(("jobs_ready", "jobs_running", "jobs_dead"), 0)

    def force_learning(self, *, user_id: str | None = None, session_id: str | None = None) -> int:
        """Tell the server that a session is over, so that it learns from it now; of how many users it has one.

        Without a session there is nothing to tell, and the answer is 0.
        """
        if session_id is None:
            return 0
        users = {data.request.user_id for data in self._all_requests(session_id=session_id, user_id=user_id)} - {""}
        bodies = [{"user_id": wire_user(user), "session_id": session_id} for user in sorted(users)]
        answers = self._each(lambda body: self._http.call("POST", "/api/finalize_session", body), bodies)
        return sum(bool(answer.get("accepted")) for answer in answers)

    def job_states(
        self,
        kind: str,
        *,
        user_id: str | None = None,
        key: str | None = None,
        states: Sequence[str] | None = None,
        limit: int = 1000,  # noqa: ARG002
    ) -> list[JobState]:
        """How learning from a session stands, by its newest request; nothing where no session is named.

        ``last_error`` is the server's reason, such as ``waiting_for_window``: it learns when enough has been said.
        """
        requests = self._all_requests(session_id=key, user_id=user_id) if key is not None else []
        if not requests:
            return []
        newest = max(requests, key=lambda data: (data.request.created_at, data.request.request_id)).request
        try:
            answer = self._http.call("GET", "/api/learning_status", params={"request_id": newest.request_id})
        except MissingError:  # deleted meanwhile
            return []
        state = _STATES.get(str(answer.get("status")))
        if state is None or (states is not None and state not in states):
            return []
        reason = str(answer.get("reason") or "")
        return [JobState(newest.user_id, kind, key or "", state, attempts=1, due_us=0, last_error=reason)]

    def retry_dead_jobs(self, kind: str | None = None) -> int:  # noqa: ARG002
        """0: the server tries again by itself."""
        return 0
