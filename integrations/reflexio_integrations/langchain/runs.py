"""Which LangChain runs are under way in this process, and to which turn each of them belongs.

One register serves every handler, so that a run which several handlers see (one given twice, one in a model's
constructor, one attached to the session) is still one turn: the first handler to report it owns it, the reports of
the others find it known. Runs are linked by ``parent_run_id``, never by context variables of our own: the start and
the end of a run may be reported from different contexts.

Where the parent is not known, LangChain's own context is asked (``var_child_runnable_config``): it names the run
that is really around where LangChain passes a wrong one, as ``with_fallbacks`` does (langchain#36072), or where a
tool calls a model without handing its config down.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, Final
from uuid import UUID

from langchain_core.callbacks import BaseCallbackManager
from langchain_core.runnables.config import var_child_runnable_config

from reflexio_middleware.capture.turn import Turn, current_turn, find_turns_with, is_switched_off
from reflexio_store.forking import protect

from .observed import Kind, Observed, Run
from .parked import PARKED
from .stack import runs_asking

MAX_OPEN: Final = 1_000
"""Most outermost runs followed at a time; the oldest is given up (as abandoned) for a new one."""
MAX_AGE: Final = 3_600.0
"""Seconds after which an outermost run that never ended is given up, at the next one that begins."""
_LATE_AGE, _MAX_LATE = 60.0, 256


class Runs:
    """The register. Thread-safe; its size does not depend on how many runs there have been."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # a generator closed by the garbage collector reports in whatever we are doing
        self._runs: dict[UUID, Run] = {}
        self._roots: OrderedDict[UUID, Observed] = OrderedDict()
        self._late: OrderedDict[UUID, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._runs)

    def begin(
        self,
        run_id: UUID,
        parent_id: UUID | None,
        kind: Kind,
        open_turn: Callable[[], Turn],
        *,
        aside: bool = False,
        messages: Sequence[Any] | None = None,
    ) -> tuple[Run | None, list[Observed]]:
        """Enter a run: None if it is known already or comes too late. The list holds what was given up for it.

        ``open_turn`` makes the turn of an outermost run that is inside no other turn. ``messages`` are those of a
        model call in a graph: if nothing around it is reported, it may go on with the turn of an earlier one.
        """
        with self._lock:
            if run_id in self._runs or self._is_late(run_id, parent_id):
                return None, []
            parent = self._runs.get(parent_id) if parent_id else None
            parent = parent or self.run_around()
            if parent is None and is_switched_off():
                return None, []
            if parent is not None:
                observed = parent.observed
            else:
                observed = self._root(run_id, kind, open_turn, messages if parent_id else None)
            aside = aside or (parent is not None and (parent.aside or parent.kind == "tool"))
            run = Run(run_id, observed, kind, aside=aside)
            self._runs[run_id] = observed.open[run_id] = run
            return run, [] if parent else self._give_up()

    def end(self, run_id: UUID) -> Run | None:
        """Take a run out; with an outermost one go all that are still open under it. None if it is not known."""
        with self._lock:
            self._late.pop(run_id, None)
            run = self._runs.pop(run_id, None)
            if run is None:
                return None
            run.observed.open.pop(run_id, None)
            if run.is_root:
                self._close(run.observed)
            return run

    def get(self, run_id: UUID | None) -> Run | None:
        """The run of this id, if it is under way."""
        return self._runs.get(run_id) if run_id else None

    def turn_here(self, run_id: UUID | None = None) -> Turn | None:
        """The turn of the code that is running: the current one, else that of the run (or of the run around)."""
        turn = current_turn()
        if turn is not None:
            return turn
        run = self.get(run_id)
        return run.observed.turn if run else None

    def turn_around(self) -> Turn | None:
        """The turn of the run that LangChain's own context says is around."""
        run = self.run_around()
        return run.observed.turn if run else None

    def run_around(self) -> Run | None:
        """The run that LangChain's own context says is around."""
        config = var_child_runnable_config.get()
        callbacks = config.get("callbacks") if config else None
        return self.get(callbacks.parent_run_id) if isinstance(callbacks, BaseCallbackManager) else None

    def asking(self) -> Run | None:
        """The run of the model that asks its provider by this code."""
        found = (self.get(run.run_id) for run in runs_asking()) if self._runs else ()
        return next(filter(None, found), None)

    def _root(
        self, run_id: UUID, kind: Kind, open_turn: Callable[[], Turn], messages: Sequence[Any] | None
    ) -> Observed:
        outer = current_turn()
        observed = PARKED.take(messages) if messages and outer is None else None
        if observed is None:
            observed = Observed(run_id, outer or open_turn(), outer is not None, kind, model_only=messages is not None)
        observed.root_id = run_id
        self._roots[run_id] = observed
        return observed

    def _close(self, observed: Observed) -> None:
        """Forget a root. What is still open under it ends later, and may start more: that belongs to no turn."""
        self._roots.pop(observed.root_id, None)
        if observed.task_end is not None:
            observed.task_end.forget()
            observed.task_end = None
        now = time.monotonic()
        for run_id in observed.open:
            self._runs.pop(run_id, None)
            self._late[run_id] = now
        self._trim_late(now)

    def _is_late(self, run_id: UUID, parent_id: UUID | None) -> bool:
        if not self._late:
            return False
        now = time.monotonic()
        self._trim_late(now)
        if parent_id in self._late:
            self._late[run_id] = now
        return run_id in self._late

    def _trim_late(self, now: float) -> None:
        while self._late and (len(self._late) > _MAX_LATE or next(iter(self._late.values())) < now - _LATE_AGE):
            self._late.popitem(last=False)

    def _give_up(self) -> list[Observed]:
        given_up = PARKED.given_up()
        oldest = next(iter(self._roots.values()))
        while len(self._roots) > MAX_OPEN or oldest.began < time.monotonic() - MAX_AGE:
            self._runs.pop(oldest.root_id, None)
            oldest.open.pop(oldest.root_id, None)
            self._close(oldest)
            given_up.append(oldest)
            oldest = next(iter(self._roots.values()))
        return given_up

    def before_fork(self) -> None:
        """Let nobody be inside while the process forks."""
        self._lock.acquire()

    def after_fork(self, *, child: bool) -> None:  # noqa: ARG002 - held by the forking thread in both
        """Go on."""
        self._lock.release()


RUNS: Final = Runs()
"""The register of this process."""

protect(RUNS)
find_turns_with(RUNS.turn_around)
