"""A lock between processes that ends with the process that holds it.

Not the library ``filelock``: a forked child must be able to close the inherited descriptor without unlocking the
parent's file, and nothing may be printed into the host's output around a fork (its 4.2 does when it is first imported
while another thread forks).
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from pathlib import Path

if sys.platform == "win32":  # pragma: no cover - not run here
    import msvcrt

    def _lock(fd: int) -> None:
        msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _lock(fd: int) -> None:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)


class LockFile:
    """An exclusive lock on ``path``, released by the operating system when the process ends in any way."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd = -1

    def acquire(self, timeout: float = 0.0) -> bool:
        """Take the lock, waiting at most ``timeout`` seconds; False if another process (or LockFile) keeps it."""
        deadline = time.monotonic() + timeout
        while not self._try():
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.01)
        return True

    def _try(self) -> bool:
        fd = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            _lock(fd)
            if os.path.samestat(os.fstat(fd), os.stat(self.path)):
                self._fd = fd
                return True
        except OSError:  # somebody has it, or removed it just now
            os.close(fd)
            return False
        os.close(fd)  # it was removed and made anew while we opened it: the lock on the old one means nothing
        return False

    def release(self, *, remove: bool) -> None:
        """Give the lock up; with ``remove``, the file goes too."""
        if self._fd < 0:
            return
        if remove:
            with contextlib.suppress(OSError):  # a reader may hold it open (Windows); an empty lock file is harmless
                self.path.unlink()
        self.forget()

    def forget(self) -> None:
        """Close the descriptor. In a forked child this leaves the parent's lock as it is."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
