"""The worker: a thread that turns due jobs into learnings, one session at a time.

Jobs are durable and leased, so a session is learned from at least once whatever happens to this process, and applying
the same changes twice changes nothing.
"""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable
from typing import Final

from reflexio_middleware.guard import count, guard, warn
from reflexio_middleware.learning.extractor import Extractor, SessionView
from reflexio_store.contract import Applied, Job, JobState, Store
from reflexio_store.errors import ExtractionError, ReflexioError
from reflexio_store.forking import protect
from reflexio_store.models import LearningQuery, UserPlaybook, UserProfile

LEARN: Final = "learn"
"""Kind of the jobs that learn from a session; their key is the session id."""
LEASE_SECONDS: Final = 900.0
MAX_ATTEMPTS: Final = 6
_POLL_SECONDS: Final = 5.0
_BACKOFF_SECONDS: Final = (1.0, 5.0, 30.0, 120.0, 600.0)
_KNOWN: Final = 500


class LearningWorker:
    """Runs an extractor over the sessions that are due.

    Args:
        open_store: Gives the store.
        extractor: What learns.
    """

    def __init__(self, open_store: Callable[[], Store], extractor: Extractor) -> None:
        self._open_store = open_store
        self._extractor = extractor
        self._closed = False
        self._reset()
        protect(self)

    def _reset(self) -> None:
        self._starting = threading.Lock()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._woken = False

    def wake(self) -> None:
        """Look for due jobs now; starts the thread if there is none."""
        if self._closed:
            return
        with self._starting:
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="reflexio-learning", daemon=True)
                self._thread.start()
        with self._changed:
            self._woken = True
            self._changed.notify_all()

    def wait(self, timeout: float, *, user_id: str | None = None, session_id: str | None = None) -> list[JobState]:
        """Wait until nothing is due or running (of one session, where it is named), at most ``timeout`` seconds.

        Returns the jobs that are still due or running.
        """
        deadline = time.monotonic() + timeout
        while True:
            open_jobs = self._open_jobs(user_id, session_id)
            left = deadline - time.monotonic()
            if not open_jobs or left <= 0 or self._closed:
                return open_jobs
            self.wake()
            with self._changed:
                self._changed.wait(min(left, 0.05))

    def _open_jobs(self, user_id: str | None, session_id: str | None) -> list[JobState]:
        now = time.time_ns() // 1000
        states = self._open_store().job_states(LEARN, user_id=user_id, key=session_id, states=("ready", "running"))
        return [state for state in states if state.state == "running" or state.due_us <= now]

    def close(self, timeout: float) -> None:
        """Stop after the job at hand; waits at most ``timeout`` seconds for it."""
        self._closed = True
        with self._changed:
            self._changed.notify_all()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout)
        close = getattr(self._extractor, "close", None)
        if close is not None:
            close()

    def _run(self) -> None:
        while not self._closed:
            worked = False
            with guard("learning"):
                worked = self.run_one()
            with self._changed:
                self._changed.notify_all()
                if not worked and not self._woken and not self._closed:
                    self._changed.wait(self._pause())
                self._woken = False

    def _pause(self) -> float:
        with guard("looking for the next job"):
            waiting = self._open_store().job_states(LEARN, states=("ready",), limit=1)
            if waiting:
                return max(0.02, min(_POLL_SECONDS, waiting[0].due_us / 1e6 - time.time()))
        return _POLL_SECONDS

    def run_one(self) -> bool:
        """Take the job that has been due longest and do it; False if none is due."""
        store = self._open_store()
        job = store.claim_job(LEARN, lease_seconds=LEASE_SECONDS)
        if job is None:
            return False
        try:
            applied = self._learn(store, job)
        except ExtractionError as error:
            self._failed(store, job, error, permanent=error.permanent)
        except ReflexioError as error:
            self._failed(store, job, error, permanent=False)
        except Exception as error:
            self._failed(store, job, error, permanent=False)
            raise
        else:
            store.finish_job(job, dataclasses.asdict(applied))
            count("sessions_learned")
        return True

    def _learn(self, store: Store, job: Job) -> Applied:
        session = [data for data in store.read_session(job.user_id, job.key) if not data.request.evaluation_only]
        if not session:
            return Applied()
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
        return store.apply(job.user_id, self._extractor.extract(view))

    def _failed(self, store: Store, job: Job, error: Exception, *, permanent: bool) -> None:
        count("learning_failures")
        dead = permanent or job.attempts >= MAX_ATTEMPTS
        pause = None if dead else _BACKOFF_SECONDS[min(job.attempts, len(_BACKOFF_SECONDS)) - 1]
        store.fail_job(job, f"{type(error).__name__}: {error}", retry_after=pause)
        warn("learning", "reflexio: learning from a session failed (%s); %s", error,
             "it is set aside: see `reflexio-middleware doctor`" if dead else "it will be tried again")  # fmt: skip

    def before_fork(self) -> None:
        """Nothing to hold: the thread rests at the store."""

    def after_fork(self, *, child: bool) -> None:
        """In a child there is no thread any more."""
        if child:
            self._reset()
