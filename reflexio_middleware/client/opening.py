"""The home of a client: opened by whoever needs it first, and tried anew as long as its server does not answer."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from reflexio_store.contract import Store
from reflexio_store.errors import StoreUnavailableError, StoreUnreachableError


class Opening:
    """A home that is opened once. Thread-safe.

    A server that does not answer may take seconds to show it. Who waits for an attempt of another thread takes its
    outcome, so that nobody waits longer than one attempt takes.

    Args:
        open_store: Opens the home; may raise a StoreError.
    """

    def __init__(self, open_store: Callable[[], Store]) -> None:
        self._open_store = open_store
        self._lock = threading.Lock()
        self._resting = False
        self._closed = False
        self._refusal = ""
        self._refused_at = 0.0
        self.opened: Store | None = None

    @property
    def is_away(self) -> bool:
        """Whether the last attempt found no server."""
        return bool(self._refusal)

    def store(self) -> Store:
        """The home, opened now if it is not yet.

        Raises:
            StoreUnreachableError: Its server does not answer; the next call tries again.
            StoreError: It cannot be opened.
        """
        if self.opened is None:
            asked = time.monotonic()
            with self._lock:
                if self._closed:
                    raise StoreUnavailableError("This client is closed: make a new one")
                if self._refusal and self._refused_at >= asked:
                    raise StoreUnreachableError(self._refusal)
                if self.opened is None:
                    self.opened = self._tried()
                    if self._closed:  # meanwhile, by somebody who saw nothing to close
                        self.opened.close()
        return self.opened

    def _tried(self) -> Store:
        try:
            store = self._open_store()
        except StoreUnreachableError as error:
            self._refusal, self._refused_at = str(error), time.monotonic()
            raise
        self._refusal = ""
        return store

    def close(self, *, waiting: bool) -> None:
        """Close the home; without ``waiting``, in the background, once the calls that it does not answer have ended."""
        self._closed = True
        if self.opened is None:
            return
        if waiting:
            self.opened.close()
            return
        closing = threading.Thread(target=self.opened.close, name="reflexio-closing", daemon=True)
        try:
            closing.start()
        except RuntimeError:  # the interpreter is ending, and the home with it
            return

    def before_fork(self) -> None:
        """Let a home that is being opened (and its modules imported) finish: a child could not finish it."""
        self._resting = self._lock.acquire(timeout=5.0)

    def after_fork(self, *, child: bool) -> None:
        """In a child nobody is opening it."""
        if child:
            self._lock = threading.Lock()
        elif self._resting:
            self._lock.release()
