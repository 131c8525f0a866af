"""Doing one job: take it, keep it while it is worked on, and note how it ended."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, Final

from reflexio_middleware.guard import count, guard, warn
from reflexio_middleware.learning.metering import BudgetUsedUpError
from reflexio_middleware.tracing import span
from reflexio_store.contract import Embeddable, Job, JobState, Store
from reflexio_store.errors import ExtractionError, ReflexioError, StoreUnavailableError

Step = Callable[[Store, Job], dict[str, Any]]
"""Does one job and says what came of it (noted as the job's result). If it has a ``close()``, that is called when its
client is closed.

Raises:
    ExtractionError: It failed; with ``permanent=True`` it is not tried again.
"""

LEASE_SECONDS: Final = 60.0
"""How long a job stays with a process that says nothing more of it; it is renewed while the step works."""
MAX_ATTEMPTS: Final = 6
"""After so many failures, or deaths of the processes that had it, a job is dead."""
_BACKOFF_SECONDS: Final = (1.0, 5.0, 30.0, 120.0, 600.0)


def index_backlog(store: Store) -> bool:
    """Where there is nothing else to do: make a few messages of a long backlog findable; False if there is none."""
    return isinstance(store, Embeddable) and store.index_backlog() > 0


def put_off(store: Store, job: Job, error: BudgetUsedUpError, result: dict[str, Any]) -> dict[str, Any]:
    """Give a job back until the day is over whose budget is used up; its result says what it waits for."""
    waiting = {**result, "waits_for": str(error)}
    store.extend_job(job, lease_seconds=LEASE_SECONDS, result=waiting)
    store.release_job(job, due_after=error.seconds)
    return waiting


class Doer:
    """One pair of hands: does jobs one at a time, each by the step for its kind.

    Args:
        steps: What does the jobs, by their kind; of jobs due at the same time the first kind goes first.
        lease_seconds: How long a job stays with a process that says nothing more of it.
    """

    def __init__(self, steps: Mapping[str, Step], *, lease_seconds: float = LEASE_SECONDS) -> None:
        self._steps = steps
        self._lease = lease_seconds
        self._at_hand: Job | None = None
        self._claiming = False

    def do_one(self, store: Store) -> bool:
        """Take the job that has been due longest and do it; False if none is due.

        Raises:
            StoreError: The store cannot be used.
        """
        job = self._claimed(store)
        if job is None:
            return False
        try:
            if job.attempts > MAX_ATTEMPTS:
                self._give_up(store, job)
            else:
                self._do(store, job)
        finally:
            self._at_hand = None
        return True

    def _claimed(self, store: Store) -> Job | None:
        self._claiming = True
        try:
            claimed = (store.claim_job(kind, lease_seconds=self._lease) for kind in self._steps)
            self._at_hand = next((job for job in claimed if job is not None), None)
            return self._at_hand
        finally:
            self._claiming = False

    def _do(self, store: Store, job: Job) -> None:
        try:
            with span("reflexio.learn", "learning") as traced, self._renewed(store, job):
                result = self._steps[job.kind](store, job)
                traced.note(**{name: value for name, value in result.items() if isinstance(value, int)})
        except ExtractionError as error:
            self._failed(store, job, error, permanent=error.permanent)
        except ReflexioError as error:
            self._failed(store, job, error, permanent=False)
        except Exception as error:
            self._failed(store, job, error, permanent=False)
            raise
        else:
            store.finish_job(job, result)
            count("jobs_done")

    @contextmanager
    def _renewed(self, store: Store, job: Job) -> Iterator[None]:
        """Keep the job from others while it is worked on, however long a model takes."""
        done = threading.Event()

        def renew() -> None:
            while not done.wait(self._lease / 3):
                with guard("keeping a job"), suppress(StoreUnavailableError):
                    store.extend_job(job, lease_seconds=self._lease)

        keeper = threading.Thread(target=renew, name="reflexio-keeping", daemon=True)
        with suppress(RuntimeError):  # the interpreter is ending (3.12): what is left of the lease is longer than that
            keeper.start()
        try:
            yield
        finally:
            done.set()
            if keeper.ident is not None:
                keeper.join()

    def _failed(self, store: Store, job: Job, error: Exception, *, permanent: bool) -> None:
        count("learning_failures")
        dead = permanent or job.attempts >= MAX_ATTEMPTS
        pause = None if dead else _BACKOFF_SECONDS[min(job.attempts, len(_BACKOFF_SECONDS)) - 1]
        store.fail_job(job, f"{type(error).__name__}: {error}", retry_after=pause)
        warn("learning", "reflexio: a job (%s) failed (%s); %s", job.kind, error,
             "it is set aside: see `reflexio-middleware doctor`" if dead else "it will be tried again")  # fmt: skip

    def _give_up(self, store: Store, job: Job) -> None:
        """A job that no process survived, or that none could finish in time, takes no other one down."""
        count("learning_failures")
        store.fail_job(
            job, f"given up: {MAX_ATTEMPTS} attempts ended without a word of their process", retry_after=None
        )
        warn("learning", "reflexio: a job (%s) was given up: see `reflexio-middleware doctor`", job.kind)

    def may_hold(self, state: JobState) -> bool:
        """Whether a running job runs here; while one is being claimed, any may."""
        mine = self._at_hand
        return self._claiming or (
            mine is not None and (mine.user_id, mine.kind, mine.key) == (state.user_id, state.kind, state.key)
        )

    @property
    def is_busy(self) -> bool:
        """Whether it has a job at hand."""
        return self._at_hand is not None

    def give_back(self, store: Store) -> None:
        """Let another process have the job that is not finished here."""
        if self._at_hand is not None:
            with guard("giving a job back"):
                store.release_job(self._at_hand)
