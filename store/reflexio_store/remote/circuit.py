"""A circuit breaker: it keeps callers from waiting, again and again, for a server that does not answer.

Closed, calls go through. After some failures in a row it is open: calls fail at once. After a pause it is half open:
one call is let through, and what becomes of it closes the circuit or opens it for longer.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from reflexio_store.errors import StoreUnavailableError

LONGEST_PAUSE: Final = 60.0
"""Longest pause in seconds; a server that asks for a longer one (``Retry-After``) is asked again after so long."""


class Circuit:
    """One circuit for one kind of calls. Thread-safe.

    Args:
        what: What the calls do, for the message of the error.
        failures: So many :class:`StoreUnavailableError` in a row open it; one with ``retry_after`` opens it at once.
        pause: Seconds that it is first open; each further time twice as long, up to :data:`LONGEST_PAUSE`.
        clock: Tells the time in seconds.
    """

    def __init__(self, what: str, *, failures: int, pause: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._what = what
        self._limit = failures
        self._first_pause = pause
        self._clock = clock
        self._lock = threading.Lock()
        self._failed = 0
        self._pause = pause
        self._open_until: float | None = None
        self._trying = False
        self._reason = ""

    @contextmanager
    def call(self) -> Iterator[None]:
        """Run one call inside.

        Raises:
            StoreUnavailableError: The circuit is open; ``retry_after`` says for how many seconds.
        """
        self._enter()
        try:
            yield
        except StoreUnavailableError as error:
            self._note_failure(error)
            raise
        except Exception:  # the server answered: it refused this call, and is there
            self._note_success()
            raise
        except BaseException:
            self._trying = False
            raise
        self._note_success()

    def _enter(self) -> None:
        with self._lock:
            if self._open_until is None:
                return
            left = self._open_until - self._clock()
            if left > 0 or self._trying:
                left = max(left, 0.1)
                raise StoreUnavailableError(
                    f"{self._what} rests for {left:.1f} seconds: {self._reason}", retry_after=left
                )
            self._trying = True

    def _note_success(self) -> None:
        with self._lock:
            self._failed, self._trying = 0, False
            self._open_until, self._pause = None, self._first_pause

    def _note_failure(self, error: StoreUnavailableError) -> None:
        with self._lock:
            self._failed += 1
            tried, self._trying = self._trying, False
            if not (tried or error.retry_after is not None or self._failed >= self._limit):
                return
            self._reason = str(error)
            asked = self._pause if error.retry_after is None else error.retry_after
            self._open_until = self._clock() + min(asked, LONGEST_PAUSE)
            if error.retry_after is None:
                self._pause = min(2 * self._pause, LONGEST_PAUSE)
