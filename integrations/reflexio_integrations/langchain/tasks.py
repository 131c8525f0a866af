"""The end of a run that is reported by nobody: where the task is cancelled that awaits a bare model, LangChain tells no
callback."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable
from typing import Any
from uuid import UUID

from .stack import is_awaited_here


class TaskEnd:
    """Tells ``ended`` of a run when the task ends in which it began. It holds the task weakly, of the run the id."""

    __slots__ = ("_ended", "_run_id", "_task")

    def __init__(self, run_id: UUID, task: asyncio.Task[Any], ended: Callable[[UUID], None]) -> None:
        self._run_id = run_id
        self._ended = ended
        self._task = weakref.ref(task)
        task.add_done_callback(self)

    def __call__(self, _: asyncio.Task[Any]) -> None:
        """The task has ended."""
        self._ended(self._run_id)

    def forget(self) -> None:
        """The run has ended before."""
        task = self._task()
        if task is not None:
            task.remove_done_callback(self)


def on_task_end(run_id: UUID, ended: Callable[[UUID], None]) -> TaskEnd | None:
    """See to it that ``ended`` is told when the task ends that awaits a model here; None where none does."""
    task = asyncio.current_task() if is_awaited_here() else None
    return TaskEnd(run_id, task, ended) if task is not None else None
