"""The worker: a thread that does due jobs, one at a time, each by the step for its kind.

Jobs are durable and leased, so each is done at least once whatever happens to this process: steps are idempotent.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Final

from reflexio_middleware.guard import count, guard, warn
from reflexio_middleware.learning.doing import Doer, Step, index_backlog
from reflexio_store.contract import JobState, Store
from reflexio_store.errors import StoreUnavailableError
from reflexio_store.forking import protect

_POLL_SECONDS: Final = 5.0
_QUIET_SECONDS: Final = 0.2
_MAX_QUIET_SECONDS: Final = 2.0
_REST: Final = 3.0
"""How often the processor time of a job the thread rests after it, while turns keep coming."""
_LAST_SECONDS: Final = 0.5
"""How long closing lets the thread go on with what is due."""
_END_SECONDS: Final = 0.05


class LearningWorker:
    """Does the jobs that are due.

    The thread shares one interpreter lock with the agent, so it works when no turn has been stored for a moment
    (0.2 s; where turns keep coming, after 2 s all the same), unless somebody waits for what is learned.

    Args:
        open_store: Gives the store.
        steps: What does the jobs, by their kind; of jobs due at the same time the first kind goes first.
    """

    def __init__(self, open_store: Callable[[], Store], steps: Mapping[str, Step]) -> None:
        self._open_store = open_store
        self._steps = dict(steps)
        self._closed = False
        self._reset()
        protect(self)

    def _reset(self) -> None:
        self._starting = threading.Lock()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._woken = False
        self._polling = False
        self._waiters = 0
        self._doer = Doer(self._steps)

    def wake(self) -> None:
        """Look for due jobs soon (at once, while somebody waits); starts the thread if there is none."""
        if self._closed:
            return
        with self._starting:
            if self._thread is None or not self._thread.is_alive():
                thread = threading.Thread(target=self._run, name="reflexio-learning", daemon=True)
                try:
                    thread.start()
                except RuntimeError:  # the interpreter is ending: the jobs are in the home, for the next process
                    return
                self._thread = thread
        with self._changed:
            self._woken = True
            self._changed.notify_all()

    def wait(self, timeout: float, *, user_id: str | None = None, session_id: str | None = None) -> list[JobState]:
        """Wait until nothing is due, or at work here, at most ``timeout`` seconds; which jobs still are.

        Where a session is named, wait for its jobs even if another process has them.
        """
        deadline = time.monotonic() + timeout
        with self._waiting():
            while True:
                open_jobs = self._open_jobs(user_id, session_id)
                left = deadline - time.monotonic()
                if not open_jobs or left <= 0 or self._closed:
                    return open_jobs
                self.wake()
                with self._changed:
                    self._changed.wait(min(left, 0.05))

    @contextmanager
    def _waiting(self) -> Iterator[None]:
        with self._changed:
            self._waiters += 1
            self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._waiters -= 1

    def _open_jobs(self, user_id: str | None, session_id: str | None) -> list[JobState]:
        now = time.time_ns() // 1000
        store = self._open_store()
        return [
            state
            for kind in self._steps
            for state in store.job_states(kind, user_id=user_id, key=session_id, states=("ready", "running"))
            if (state.due_us <= now if state.state == "ready" else session_id is not None or self._doer.may_hold(state))
        ]

    def close(self, timeout: float) -> None:
        """Stop when nothing is due, or after the job at hand; waits at most ``timeout`` seconds for it."""
        deadline = time.monotonic() + timeout
        with self._waiting(), self._changed:
            self._changed.wait_for(self._at_rest, min(timeout, _LAST_SECONDS))
            self._closed = True
            self._changed.notify_all()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(max(_END_SECONDS, deadline - time.monotonic()))
        if self._doer.is_busy:
            self._doer.give_back(self._open_store())
        for step in self._steps.values():
            close = getattr(step, "close", None)
            if close is not None:
                close()

    def _run(self) -> None:
        while not self._closed:
            began, worked = time.thread_time(), False
            with guard("learning"):
                worked = self._try_one()
            spent = time.thread_time() - began
            pause = 0.0 if worked or self._closed else self._pause()
            with self._changed:
                if worked:
                    self._rest(spent)
                else:
                    self._poll(pause)
                    self._gather()
                self._woken = False

    def _poll(self, pause: float) -> None:
        """Wait until a job is due, or somebody calls."""
        if self._woken or self._closed:
            return
        self._polling = True
        self._changed.notify_all()
        self._changed.wait(pause)
        self._polling = False

    def _gather(self) -> None:
        """Wait while turns keep being stored."""
        latest = time.monotonic() + _MAX_QUIET_SECONDS
        while self._woken and not (self._waiters or self._closed) and time.monotonic() < latest:
            self._woken = False
            self._changed.wait(_QUIET_SECONDS)

    def _rest(self, spent: float) -> None:
        """Leave the processor to the agent for a while, if it goes on."""
        self._changed.notify_all()
        if self._woken and not (self._waiters or self._closed):
            self._woken = False
            self._changed.wait(min(_MAX_QUIET_SECONDS, spent * _REST))

    def _at_rest(self) -> bool:
        return self._thread is None or not self._thread.is_alive() or (self._polling and not self._woken)

    def _try_one(self) -> bool:
        """Do one job, or else a piece of indexing, where the store can be reached; jobs wait for it as turns do."""
        try:
            return self.run_one() or (not self._closed and index_backlog(self._open_store()))
        except StoreUnavailableError as error:
            count("store_unavailable")
            warn("jobs", "reflexio: the store cannot be reached; learning waits for it (%s)", error)
            return False

    def _pause(self) -> float:
        with guard("looking for the next job"), suppress(StoreUnavailableError):
            store = self._open_store()
            due = [state.due_us for kind in self._steps for state in store.job_states(kind, states=("ready",), limit=1)]
            if due:
                return max(0.02, min(_POLL_SECONDS, min(due) / 1e6 - time.time()))
        return _POLL_SECONDS

    def run_one(self) -> bool:
        """Take the job that has been due longest and do it; False if none is due."""
        try:
            return self._doer.do_one(self._open_store())
        except StoreUnavailableError:
            if self._closed:  # the home was closed over a job that took too long, and that was given back
                return False
            raise

    def before_fork(self) -> None:
        """Nothing to hold: the thread rests at the store."""

    def after_fork(self, *, child: bool) -> None:
        """In a child there is no thread any more."""
        if child:
            self._reset()
