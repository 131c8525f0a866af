"""Recalls within a time limit: what comes too late serves the next turn, and a store that keeps failing is left alone.

The breaker is the usual one (closed, open, half open; Nygard, *Release It!*): after some failures in a row nothing is
asked for a while, then one recall tries again.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Hashable
from concurrent.futures import CancelledError, Future
from typing import Final

from reflexio_middleware.recall.choose import Recall

FAILURES: Final = 5
"""Late or failed recalls in a row after which none is tried for a while."""
REST_SECONDS: Final = 5.0
_MOST_KEPT: Final = 1000
_KEPT_SECONDS: Final = 60.0
"""For how long a late recall may serve: another process may delete what it rests on, which is not seen here."""


class Deadline:
    """What a client remembers of recalls that did not come in time. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._failures = 0
        self._closed_until = 0.0
        self._kept: OrderedDict[Hashable, tuple[Recall, float]] = OrderedDict()
        self._forgotten = 0

    @property
    def forgotten(self) -> int:
        """How often :meth:`forget` was called: what was asked for before the last time is not kept."""
        return self._forgotten

    def may_ask(self) -> bool:
        """Whether a recall may be tried now; after a rest one is, and the others wait for its outcome."""
        with self._lock:
            if self._failures < FAILURES:
                return True
            now = time.monotonic()
            if now < self._closed_until:
                return False
            self._closed_until = now + REST_SECONDS
            return True

    def in_time(self, key: Hashable, found: Recall) -> Recall:
        """Note a recall that came in time; what was kept for ``key`` is out of date."""
        with self._lock:
            self._kept.pop(key, None)
            if found.reason == "error":
                self._failed()
            else:
                self._failures = 0
        return found

    def late(self, key: Hashable, future: Future[Recall], forgotten: int = 0) -> Recall:
        """What there is instead of a recall that is late: the one of the turn before, if that came later, or nothing.

        The late one is kept for the next turn of ``key`` when it comes, unless something was forgotten since it was
        asked for, when ``forgotten`` was noted.
        """
        with self._lock:
            self._failed()
            earlier, at = self._kept.pop(key, (Recall(), 0.0))
        if not future.cancel():
            future.add_done_callback(lambda done: self._keep(key, done, forgotten))
        return earlier if earlier and time.monotonic() - at < _KEPT_SECONDS else Recall(reason="timeout")

    def forget(self) -> None:
        """Drop what is kept: something it rests on may be gone."""
        with self._lock:
            self._kept.clear()
            self._forgotten += 1

    def _failed(self) -> None:
        self._failures += 1
        if self._failures >= FAILURES:
            self._closed_until = time.monotonic() + REST_SECONDS

    def _keep(self, key: Hashable, done: Future[Recall], forgotten: int) -> None:
        try:
            found = done.result()
        except (CancelledError, Exception):  # noqa: BLE001 - it failed, and said so where it ran
            return
        with self._lock:
            if found and forgotten == self._forgotten:
                self._kept[key] = found, time.monotonic()
                self._kept.move_to_end(key)
                while len(self._kept) > _MOST_KEPT:
                    self._kept.popitem(last=False)
