"""Workers as a program of their own: several threads that do jobs until they are told to stop.

Unlike the worker inside an agent's process they rest for nobody. Any number of them, in any number of processes, may
share one store: a job is claimed by one, and taken over when its lease runs out.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Final

from reflexio_middleware.guard import guard, warn
from reflexio_middleware.learning.doing import LEASE_SECONDS, Doer, Step, index_backlog
from reflexio_store.contract import Store
from reflexio_store.errors import StoreUnavailableError

_LEAST_PAUSE: Final = 0.05
_MOST_PAUSE: Final = 2.0


class WorkerService:
    """Does the jobs of a store.

    Args:
        store: Where the jobs are; shared by the threads.
        steps: What does the jobs, by their kind; of jobs due at the same time the first kind goes first.
        concurrency: How many jobs are done at a time.
        drain: End when nothing is due.
        lease_seconds: How long the job of a worker that died stays its own.
    """

    def __init__(
        self,
        store: Store,
        steps: Mapping[str, Step],
        *,
        concurrency: int = 1,
        drain: bool = False,
        lease_seconds: float = LEASE_SECONDS,
    ) -> None:
        self._store = store
        self._drain = drain
        self._stopping = threading.Event()
        self._doers = [Doer(steps, lease_seconds=lease_seconds) for _ in range(concurrency)]
        self._done = [0] * concurrency

    def stop(self) -> None:
        """Take no further job; may be called by a signal handler."""
        self._stopping.set()

    def run(self, *, grace_seconds: float = 10.0, tick: Callable[[], None] = lambda: None) -> int:
        """Work until :meth:`stop`, and return how many jobs were taken.

        What is not finished ``grace_seconds`` after the stop is given back, and done by another worker. ``tick`` is
        called a few times a second by this thread (where signals arrive).
        """
        threads = [
            threading.Thread(target=self._work, args=(number,), name=f"reflexio-worker-{number}", daemon=True)
            for number in range(len(self._doers))
        ]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads) and not self._stopping.wait(0.2):
            tick()
        deadline = time.monotonic() + grace_seconds
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        for doer in self._doers:
            doer.give_back(self._store)
        return sum(self._done)

    def _try_one(self, doer: Doer) -> bool:
        """Do one job, where the store can be reached."""
        try:
            return doer.do_one(self._store)
        except StoreUnavailableError as error:
            warn("jobs", "reflexio: the store cannot be reached; work waits for it (%s)", error)
            return False

    def _indexed(self) -> bool:
        """Index a piece of a backlog; False if there is none."""
        with guard("indexing"), suppress(StoreUnavailableError):
            return index_backlog(self._store)
        return False

    def _work(self, number: int) -> None:
        pause = _LEAST_PAUSE
        while not self._stopping.is_set():
            worked = False
            with guard("working"):
                worked = self._try_one(self._doers[number])
            if worked:
                self._done[number] += 1
                pause = _LEAST_PAUSE
            elif self._indexed():
                pause = _LEAST_PAUSE
            elif self._drain:
                return
            else:
                self._stopping.wait(pause * random.uniform(0.5, 1.5))  # noqa: S311 - so that workers do not march in step
                pause = min(_MOST_PAUSE, pause * 2)
