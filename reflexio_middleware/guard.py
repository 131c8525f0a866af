"""The one guard between this library and its host: what goes wrong inside is counted and logged, never raised.

Everything of ours that runs in an agent's path runs inside ``with guard("what it does"):``. The catch-all stands here
and nowhere else. In tests, :func:`raise_internal_errors` makes the guard re-raise.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

from reflexio_store.errors import StoreUnavailableError
from reflexio_store.forking import protect

log = logging.getLogger("reflexio_middleware")

_QUIET_SECONDS = 60.0
_strict = False
_lock = threading.RLock()  # the garbage collector may end a turn while this very thread counts
_counts: Counter[str] = Counter()
_last_warned: dict[str, float] = {}


def count(name: str, amount: int = 1) -> None:
    """Add to a counter of this process; :func:`counters` shows them all."""
    with _lock:
        _counts[name] += amount


def counters() -> dict[str, int]:
    """What was counted in this process, by name."""
    with _lock:
        return dict(_counts)


def warn(kind: str, message: str, *args: object, exc_info: bool = False) -> None:
    """Log a warning, at most once a minute for each ``kind``; ``message`` and ``args`` as in :mod:`logging`."""
    now = time.monotonic()
    with _lock:
        last = _last_warned.get(kind)
        if last is not None and now - last < _QUIET_SECONDS:
            return
        _last_warned[kind] = now
    log.warning(message, *args, exc_info=exc_info)


class guard:  # noqa: N801 - reads as a statement: `with guard("capture"):`
    """Context manager that keeps an internal error from the host: counted, logged once a minute, swallowed.

    ``BaseException`` that is no ``Exception`` (``KeyboardInterrupt``, ``CancelledError``, ...) always passes.
    """

    __slots__ = ("_what",)

    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> bool:
        if error is None or not isinstance(error, Exception):
            return False
        count("internal_errors")
        if _strict:
            return False
        away = isinstance(error, StoreUnavailableError)  # no fault of ours: its message says all
        warn(
            f"internal:{self._what}",
            "reflexio: %s failed (%s); the agent goes on",
            self._what,
            error if away else type(error).__name__,
            exc_info=not away,
        )
        return True


@contextmanager
def raise_internal_errors(enabled: bool = True) -> Iterator[None]:
    """For tests: let the guard re-raise what it would swallow."""
    global _strict
    before, _strict = _strict, enabled
    try:
        yield
    finally:
        _strict = before


class _Counters:
    """The counters' lock rests while the process forks."""

    def before_fork(self) -> None:
        """Hold the lock."""
        _lock.acquire()

    def after_fork(self, *, child: bool) -> None:  # noqa: ARG002 - the copy in the child is held by this very thread
        """Let it go."""
        _lock.release()


_resting = _Counters()
protect(_resting, last=True)
