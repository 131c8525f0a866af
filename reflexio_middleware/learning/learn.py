"""The step that learns from one session: read it, let an extractor propose changes, apply them."""

from __future__ import annotations

import dataclasses
from typing import Any, Final

from reflexio_middleware.guard import count
from reflexio_middleware.learning.extractor import Extractor, SessionView
from reflexio_store.contract import Job, Store
from reflexio_store.models import LearningQuery, UserPlaybook, UserProfile

LEARN: Final = "learn"
"""Kind of the jobs that learn from a session; their key is the session id."""
_KNOWN: Final = 500


class LearnFromSession:
    """A step of the worker.

    Args:
        extractor: What learns.
    """

    def __init__(self, extractor: Extractor) -> None:
        self._extractor = extractor

    def __call__(self, store: Store, job: Job) -> dict[str, Any]:
        """Learn from the session that the job names; the same session twice changes nothing more.

        Raises:
            ExtractionError: The extractor failed.
        """
        session = [data for data in store.read_session(job.user_id, job.key) if not data.request.evaluation_only]
        if not session:
            return {}
        version = session[-1].request.agent_version
        query = LearningQuery(user_id=job.user_id, top_k=_KNOWN)
        profiles = store.get_learnings("profile", query)
        playbooks = store.get_learnings("user_playbook", query.model_copy(update={"agent_version": version}))
        view = SessionView(
            user_id=job.user_id,
            session_id=job.key,
            agent_version=version,
            requests=session,
            known_profiles=[item for item in profiles if isinstance(item, UserProfile)],
            known_playbooks=[item for item in playbooks if isinstance(item, UserPlaybook)],
        )
        applied = store.apply(job.user_id, self._extractor.extract(view))
        count("sessions_learned")
        return dataclasses.asdict(applied)

    def close(self) -> None:
        """Release what the extractor holds."""
        close = getattr(self._extractor, "close", None)
        if close is not None:
            close()
