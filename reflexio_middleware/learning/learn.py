"""The steps that learn from one session.

The job ``learn`` falls due with every turn. Extractors that cost nothing read at once, in it; for each other one it
decides whether enough is unread, and asks for a job of that extractor's own (``learn.llm``): so each extractor has its
own place in the session, and fails on its own.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from reflexio_middleware.guard import count, warn
from reflexio_middleware.learning.doing import put_off
from reflexio_middleware.learning.metering import BudgetUsedUpError
from reflexio_middleware.learning.reading import Reader
from reflexio_store.contract import Applied, Job, Store, Unlearned
from reflexio_store.errors import ReflexioError

LEARN: Final = "learn"
"""Kind of the jobs that a turn asks for; their key is the session id."""


def kind_of(extractor: str) -> str:
    """Kind of the jobs in which an extractor that waits reads."""
    return f"{LEARN}.{extractor}"


@dataclass(frozen=True, slots=True)
class Schedule:
    """When an extractor that waits is asked: when ``window`` interactions of a session are unread for the first time,
    then whenever ``stride`` are; or after ``idle_seconds`` without a turn."""

    window: int = 10
    stride: int = 8
    idle_seconds: float = 30.0

    def is_full(self, waiting: Sequence[Unlearned], *, first: bool) -> bool:
        """Whether it is time, whoever may still speak."""
        enough = self.window if first else self.stride
        return any(turn.forced for turn in waiting) or sum(turn.interactions for turn in waiting) >= enough


class LearnFromSession:
    """The step of the job ``learn``.

    Args:
        readers: What learns.
        schedule: When those that wait are asked.
    """

    def __init__(self, readers: Sequence[Reader], schedule: Schedule) -> None:
        self._readers = list(readers)
        self._schedule = schedule

    def __call__(self, store: Store, job: Job) -> dict[str, Any]:
        """Let those read that read at once, and see to it that the others do.

        Raises:
            ExtractionError: One that reads at once failed; the others have read.
        """
        if len(self._readers) == 1 and not self._readers[0].waits:
            applied = self._readers[0].read(store, job.user_id, job.key, "")  # the usual case: nothing to hand over
        else:
            store.hand_over(job.user_id, job.key, [reader.name for reader in self._readers])
            self._ask(store, job)
            applied = Applied()
        failures: list[ReflexioError] = []
        for reader in self._readers:
            try:
                if not reader.waits:
                    applied += reader.read(store, job.user_id, job.key, reader.name)
            except ReflexioError as error:
                failures.append(error)
        if failures:
            raise failures[0]
        count("sessions_learned")
        return dataclasses.asdict(applied)

    def _ask(self, store: Store, job: Job) -> None:
        for reader in (one for one in self._readers if one.waits):
            mine = _unread_by(reader, store, job)
            if not mine:
                continue
            kind = kind_of(reader.name)
            first = not any(state.result for state in store.job_states(kind, user_id=job.user_id, key=job.key))
            pause = 0.0 if self._schedule.is_full(mine, first=first) else self._schedule.idle_seconds
            store.put_job(kind, job.key, user_id=job.user_id, due_after=pause)
            if pause and any(turn.forced for turn in _unread_by(reader, store, job)):  # since it was looked at
                store.hasten_jobs(kind, user_id=job.user_id, key=job.key)

    def close(self) -> None:
        """Release what the extractors hold."""
        for reader in self._readers:
            reader.close()


def _unread_by(reader: Reader, store: Store, job: Job) -> list[Unlearned]:
    return [turn for turn in store.unlearned(job.user_id, job.key) if turn.extractor == reader.name]


class LearnWhenEnough:
    """The step of the jobs of one extractor that waits: it reads all that is unread.

    Args:
        reader: What learns; :class:`LearnFromSession` closes it.
    """

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._told = ""

    def __call__(self, store: Store, job: Job) -> dict[str, Any]:
        """Learn; where a budget is used up, note why, and have the job again when the day is over.

        Raises:
            ExtractionError: The extractor failed; what it learned before that stays.
        """
        try:
            applied = self._reader.read(store, job.user_id, job.key, self._reader.name)
        except BudgetUsedUpError as error:
            self._tell(error)
            return put_off(store, job, error, {})
        count("sessions_learned")
        return dataclasses.asdict(applied)

    def _tell(self, error: BudgetUsedUpError) -> None:
        count("llm_budget_waits")
        today = error.day
        if self._told != today:
            self._told = today
            warn("budget", "reflexio: %s; learning by a model goes on tomorrow (UTC)", error)
