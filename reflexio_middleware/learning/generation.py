"""Learning again from what is kept, user by user: a durable job that tells its progress, and can be cancelled."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from reflexio_middleware.guard import count
from reflexio_middleware.learning.doing import LEASE_SECONDS, put_off
from reflexio_middleware.learning.metering import BudgetUsedUpError
from reflexio_middleware.learning.reading import CONTEXT, PIECE, Reader
from reflexio_store.contract import Applied, Job, Reading, Store
from reflexio_store.errors import ExtractionError
from reflexio_store.models import GetRequestsRequest, LearningKind, RequestData, Status

GENERATE: Final = "generate"
"""Kind of the jobs that learn again; their key is the name of the service, so that one of each runs at a time."""
KINDS: Final[dict[str, LearningKind]] = {"profile_generation": "profile", "playbook_generation": "user_playbook"}
"""What each service learns."""
_SESSIONS: Final = 20
_NAMED: Final = 100
Result = dict[str, Any]


class Generate:
    """The step of these jobs. Its payload: ``operation_id``, ``params`` (``user_id``, ``agent_version``, ``source``,
    ``start_time``, ``end_time``), ``status`` (that of the learnings made) and, to end it, ``cancelled``."""

    def __init__(self, readers: Sequence[Reader], clock: Callable[[], float] = time.time) -> None:
        self._readers = readers
        self._clock = clock

    def __call__(self, store: Store, job: Job) -> Result:
        """Learn again from every user's sessions; goes on where a process that died left off.

        Raises:
            ExtractionError: It cannot go on for anybody, as with a wrong key.
        """
        result = self._begun(store, job)
        if result["status"] != "in_progress":
            return result
        users = _users(store, job)
        result["total_users"] = len(users)
        last = max(_done(result), default="")
        for user_id in (user for user in users if user > last):
            if _is_cancelled(store, job):
                return self._ended(result, "cancelled")
            result["current_user_id"] = user_id
            store.extend_job(job, lease_seconds=LEASE_SECONDS, result=result)
            try:
                applied = self._learn_again(store, job, user_id)
            except BudgetUsedUpError as error:
                return put_off(store, job, error, result)
            except ExtractionError as error:
                if error.permanent:
                    raise
                _note_failed(result, user_id, error)
            else:
                _note_done(result, user_id, applied)
        return self._ended(result, "completed")

    def _begun(self, store: Store, job: Job) -> Result:
        [state] = store.job_states(job.kind, user_id=job.user_id, key=job.key)
        same = state.result.get("operation_id") == job.payload["operation_id"]
        if same and (state.result["status"] != "in_progress" or _done(state.result)):
            return {name: value for name, value in state.result.items() if name != "waits_for"}
        return {
            "operation_id": job.payload["operation_id"],
            "status": "in_progress",
            "started_at": int(self._clock()),
            "processed_users": 0,
            "failed_users": 0,
            "processed_user_ids": [],
            "failed_user_ids": [],
            "stats": {},
        }

    def _ended(self, result: Result, status: str) -> Result:
        count("operations_done")
        return {**result, "status": status, "completed_at": int(self._clock()), "current_user_id": None}

    def _learn_again(self, store: Store, job: Job, user_id: str) -> Applied:
        status = None if job.payload["status"] is None else Status(job.payload["status"])
        version = job.payload["params"].get("agent_version")
        applied = Applied()
        for session_id, requests in _sessions(store, job, user_id):
            for piece in _pieces(requests, version):
                for reader in self._readers:
                    applied += reader.learn(store, user_id, session_id, piece, status=status, kinds=(KINDS[job.key],))
        return applied


def _done(result: Result) -> list[str]:
    """The last users whom it was done with, of those who were not deleted since."""
    return [*result["processed_user_ids"], *result["failed_user_ids"]]


def _users(store: Store, job: Job) -> list[str]:
    """Whom it is for, in order."""
    user_id = job.payload["params"].get("user_id")
    return store.user_ids() if user_id is None else [user_id]


def _is_cancelled(store: Store, job: Job) -> bool:
    """Whether it was cancelled, since it began or before; a job that went with its user is."""
    states = store.job_states(job.kind, user_id=job.user_id, key=job.key)
    return not states or bool(states[0].payload.get("cancelled"))


def _sessions(store: Store, job: Job, user_id: str) -> Iterator[tuple[str, list[RequestData]]]:
    params = job.payload["params"]
    given = {name: params.get(name) for name in ("source", "start_time", "end_time")}
    query = GetRequestsRequest.model_validate({**given, "user_id": user_id, "top_k": _SESSIONS})
    while True:
        page = store.get_requests(query)
        for session in page.sessions:
            yield session.session_id, session.requests[::-1]
        if page.next_cursor is None:
            return
        query = query.model_copy(update={"cursor": page.next_cursor})


def _pieces(requests: Sequence[RequestData], version: str | None) -> Iterator[Reading]:
    """A session in pieces, each with what is before it."""
    for start in range(0, len(requests), PIECE):
        new = requests[start : start + PIECE]
        wanted = [data.request for data in new if version is None or data.request.agent_version == version]
        shown = list(requests[max(0, start - CONTEXT) : start + PIECE])
        yield Reading(shown, frozenset(request.request_id for request in wanted))


def _note_done(result: Result, user_id: str, applied: Applied) -> None:
    result["processed_users"] += 1
    result["processed_user_ids"] = [*result["processed_user_ids"], user_id][-_NAMED:]
    made = {"profiles_generated": applied.profiles_added, "playbooks_generated": applied.playbooks_added}
    result["stats"] = {name: result["stats"].get(name, 0) + number for name, number in made.items()}


def _note_failed(result: Result, user_id: str, error: ExtractionError) -> None:
    result["failed_users"] += 1
    result["failed_user_ids"] = [*result["failed_user_ids"], user_id][-_NAMED:]
    result["error_message"] = str(error)
