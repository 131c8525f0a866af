"""What this machine's clients deleted on a server: turns of it that still wait in some spool are not sent afterwards.

A server keeps no note of what it deleted. So the clients do, beside the spool that they share: digests with the time,
one a line, in a file that only grows.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from reflexio_store.erasing import KEPT_US, digests_of, is_erased
from reflexio_store.errors import StoreUnavailableError
from reflexio_store.records import TurnRecord

FILE: Final = "erased.txt"


class Erasures:
    """The digests of what was deleted. Thread-safe; processes share them by the folder.

    Args:
        folder: Where the file lies; None keeps them in this process.
    """

    def __init__(self, folder: Path | None) -> None:
        self._file = None if folder is None else folder / FILE
        self._lock = threading.Lock()
        self._erased: dict[str, int] = {}
        self._read = 0

    def note(self, digests: Iterable[str]) -> None:
        """Note that something was deleted now.

        Raises:
            StoreUnavailableError: The file cannot be written.
        """
        now_us = time.time_ns() // 1000
        noted = dict.fromkeys(digests, now_us)
        if noted and self._file is not None:
            self._append("".join(f"{digest} {now_us}\n" for digest in noted).encode())
        with self._lock:
            self._erased |= noted

    def _append(self, lines: bytes) -> None:
        assert self._file is not None  # noqa: S101 - asked before
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0)
            with os.fdopen(os.open(self._file, flags, 0o600), "wb") as file:  # all or an error
                file.write(lines)
        except OSError as error:
            raise StoreUnavailableError(
                f"{self._file} cannot be written ({error}), where it is noted what was deleted; nothing was deleted"
            ) from error

    def spares(self, turn: TurnRecord) -> bool:
        """Whether nothing that a turn is part of was deleted since it was said.

        Raises:
            StoreUnavailableError: The file cannot be read.
        """
        with self._lock:
            self._catch_up()
            return not (self._erased and is_erased(turn, digests_of(turn), self._erased))

    def _catch_up(self) -> None:
        """Read what other processes noted."""
        try:
            if self._file is None or not self._file.exists() or self._file.stat().st_size == self._read:
                return
            with self._file.open("rb") as file:
                file.seek(self._read)
                whole = file.read().rpartition(b"\n")[0]
        except OSError as error:
            raise StoreUnavailableError(f"{self._file} cannot be read ({error}), where deletes are noted") from error
        oldest = time.time_ns() // 1000 - KEPT_US
        for line in whole.splitlines():
            digest, _, at = line.decode("ascii", "replace").partition(" ")
            if at.isdecimal() and int(at) >= oldest:
                self._erased[digest] = max(int(at), self._erased.get(digest, 0))
        self._read += len(whole) + bool(whole)
