"""The spool: finished turns wait here, on disk, until the store has them.

One append-only file per process, so that a turn survives the process being killed the moment ``append`` has returned
(not a power cut: the file is not synced). Format: an 8-byte header, then records of a little-endian ``u32`` length, a
``u32`` CRC-32 and that many bytes of JSON (one at least). Whoever holds the lock file beside a
spool owns it; one whose owner died is adopted by the next process (:mod:`.orphans`).
"""

from __future__ import annotations

import errno
import os
import struct
import threading
import zlib
from collections import deque
from collections.abc import Callable, Collection
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Final, Protocol, TypeVar

from reflexio_middleware.guard import count, warn
from reflexio_store.ids import uuid7
from reflexio_store.lockfile import LockFile

R = TypeVar("R")

HEADER: Final = b"RFXSPL1\n"
FRAME: Final = struct.Struct("<II")
"""Before each record: its length, and its CRC-32."""
_COMPACT_BYTES: Final = 8 * 1024 * 1024
MAX_BYTES: Final = 256 * 1024 * 1024
"""Default bound of one spool; what comes beyond it is refused and counted."""
MAX_RECORDS: Final = 200_000
"""The same in turns: a home that was away is not to be busy with the backlog for hours."""


class Spool(Protocol):
    """What the writer drains: appended at one end, read and forgotten at the other."""

    @property
    def pending(self) -> int:
        """Records that were appended and not yet forgotten."""
        ...

    def append(self, payload: bytes) -> bool:
        """Keep a record; False if the bound is reached or the disk refuses."""
        ...

    def read(self, limit: int, max_bytes: int = 8_000_000) -> list[bytes]:
        """The oldest records, at most ``limit`` of about ``max_bytes`` together (one at least); they stay."""
        ...

    def forget(self, amount: int) -> None:
        """Drop the oldest ``amount`` records: the store has them."""
        ...

    def close(self) -> None:
        """Let go. What is pending stays for the next process (in memory: is lost)."""
        ...


class _Gate:
    """Lets one thread in at a time, and sends away a thread that is inside already, instead of having it wait for ever.

    That is no recursion of ours: the garbage collector may close a generator of the host, and so end its turn, between
    any two of our own steps. What it brings is left at the gate and taken in later.
    """

    __slots__ = ("_inside", "_lock", "left")

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._inside = False
        self.left: SimpleQueue[bytes] = SimpleQueue()

    def run(self, work: Callable[..., R], *args: Any) -> R | None:
        """``work(*args)``, by one thread at a time; None, and not done, for the thread that is inside."""
        with self._lock:
            if self._inside:
                return None
            self._inside = True
            try:
                return work(*args)
            finally:
                self._inside = False


def _take_in(gate: _Gate, append: Callable[[bytes], bool]) -> None:
    """Append what the garbage collector left at the gate."""
    while not gate.left.empty():
        if not append(gate.left.get_nowait()):
            count("turns_refused")


class MemorySpool:
    """A spool that lasts as long as the process: for in-memory homes, and where no folder can be written."""

    def __init__(self, max_bytes: int = MAX_BYTES, max_records: int = MAX_RECORDS) -> None:
        self._records: deque[bytes] = deque()
        self._bytes = 0
        self._max, self._most = max_bytes, max_records
        self._gate = _Gate()

    @property
    def pending(self) -> int:
        """Records waiting."""
        return len(self._records) + self._gate.left.qsize()

    def append(self, payload: bytes) -> bool:
        """Keep a record in memory."""
        taken = self._gate.run(self._take, payload)
        if taken is None:
            self._gate.left.put(payload)
        return taken is not False

    def _take(self, payload: bytes) -> bool:
        if self._bytes + len(payload) > self._max or len(self._records) >= self._most:
            return False
        self._records.append(payload)
        self._bytes += len(payload)
        return True

    def read(self, limit: int, max_bytes: int = 8_000_000) -> list[bytes]:
        """The oldest records."""
        _take_in(self._gate, self.append)
        return self._gate.run(self._oldest, limit, max_bytes) or []

    def _oldest(self, limit: int, max_bytes: int) -> list[bytes]:
        found: list[bytes] = []
        for payload in self._records:
            if len(found) >= limit or (found and max_bytes < len(payload)):
                break
            found.append(payload)
            max_bytes -= len(payload)
        return found

    def forget(self, amount: int) -> None:
        """Drop the oldest records."""
        self._gate.run(self._drop, amount)

    def _drop(self, amount: int) -> None:
        for _ in range(amount):
            self._bytes -= len(self._records.popleft())

    def close(self) -> None:
        """Nothing is held."""


class FileSpool:
    """This process's spool in ``folder``.

    Raises:
        OSError: The folder cannot be made or written.
    """

    def __init__(self, folder: Path, max_bytes: int = MAX_BYTES, max_records: int = MAX_RECORDS) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        name = uuid7()
        self.path = folder / f"{name}.spool"
        self._lockfile = LockFile(folder / f"{name}.lock")
        if not self._lockfile.acquire():  # pragma: no cover - the name is new, nobody else can hold it
            raise OSError(f"cannot lock {self._lockfile.path}")
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0)
        self._fd = os.open(self.path, flags, 0o600)
        self._max, self._most = max_bytes, max_records
        self._size = self._start = len(HEADER)
        self._pending = 0
        self._gate = _Gate()
        self._reader = self.path.open("rb", buffering=0)  # used by the one thread that drains
        try:
            if os.write(self._fd, HEADER) != len(HEADER):
                raise OSError(errno.ENOSPC, "not even the beginning of a spool could be written")
        except OSError:
            self._close()
            raise

    @property
    def pending(self) -> int:
        """Records waiting."""
        return self._pending + self._gate.left.qsize()

    def append(self, payload: bytes) -> bool:
        """Keep a record on disk: one ``write`` of the operating system, no sync."""
        taken = self._gate.run(self._write, FRAME.pack(len(payload), zlib.crc32(payload)) + payload)
        if taken is None:
            self._gate.left.put(payload)
        return taken is not False

    def _write(self, record: bytes) -> bool:
        full = self._size - self._start + len(record) > self._max or self._pending >= self._most
        if self._fd < 0 or full:
            return False
        try:
            written = os.write(self._fd, record)
            if written != len(record):
                os.ftruncate(self._fd, self._size)
                raise OSError(errno.ENOSPC, "only a part of it could be written")
        except OSError as error:
            count("spool_errors")
            warn("spool", "reflexio: the spool %s cannot be written (%s)", self.path, error)
            return False
        self._size += len(record)
        self._pending += 1
        return True

    def read(self, limit: int, max_bytes: int = 8_000_000) -> list[bytes]:
        """The oldest records. A damaged one ends the reading: it and what follows are set aside and counted."""
        _take_in(self._gate, self.append)
        end, start = self._size, self._start
        found: list[bytes] = []
        while start < end and len(found) < limit:
            frame = self._at(start, FRAME.size)
            length, checksum = FRAME.unpack(frame) if len(frame) == FRAME.size else (0, -1)
            if found and length > max_bytes:
                break
            payload = self._at(start + FRAME.size, length)
            if zlib.crc32(payload) != checksum:
                return found or self._set_aside(start, end)
            found.append(payload)
            start += FRAME.size + length
            max_bytes -= length
        return found

    def _at(self, offset: int, size: int) -> bytes:
        self._reader.seek(offset)
        return self._reader.read(size)

    def _set_aside(self, start: int, end: int) -> list[bytes]:
        keep_damaged(self.path, self._at(start, end - start))
        self._gate.run(self._skip_to, end)
        return []

    def _skip_to(self, end: int) -> None:
        self._start, self._pending = end, 0
        at = end
        while len(frame := self._at(at, FRAME.size)) == FRAME.size:
            at += FRAME.size + int(FRAME.unpack(frame)[0])
            self._pending += 1

    def forget(self, amount: int) -> None:
        """Drop the oldest records; the file shrinks when all are gone, or when much of it is."""
        self._gate.run(self._drop, amount)

    def _drop(self, amount: int) -> None:
        for _ in range(amount):
            length, _checksum = FRAME.unpack(self._at(self._start, FRAME.size))
            self._start += FRAME.size + length
            self._pending -= 1
        if self._start >= self._size:
            os.ftruncate(self._fd, len(HEADER))
            self._size = self._start = len(HEADER)
        elif self._start >= _COMPACT_BYTES and self._start * 2 > self._size:
            self._compact()

    def _compact(self) -> None:
        """Write what waits into a new file and put it in the place of this one, in one step."""
        fresh = self.path.with_suffix(".compacting")
        try:
            with open(fresh, "wb", opener=private) as file:
                file.write(HEADER)
                for at in range(self._start, self._size, 1 << 20):
                    file.write(self._at(at, min(1 << 20, self._size - at)))
            fd = os.open(fresh, os.O_RDWR | os.O_APPEND | getattr(os, "O_BINARY", 0))
        except OSError:  # no room for a second file: this one goes on as it is
            count("spool_errors")
            fresh.unlink(missing_ok=True)
            return
        os.replace(fresh, self.path)
        os.close(self._fd)
        self._reader.close()
        self._fd, self._reader = fd, self.path.open("rb", buffering=0)
        self._size, self._start = self._size - self._start + len(HEADER), len(HEADER)

    def close(self) -> None:
        """Let go of the files. An empty spool is removed; another stays for the next process."""
        _take_in(self._gate, self.append)
        self._gate.run(self._close)

    def _close(self) -> None:
        if self._fd < 0:
            return
        os.close(self._fd)
        self._reader.close()
        self._fd = -1
        if not self._pending:
            self.path.unlink(missing_ok=True)
        self._lockfile.release(remove=not self._pending)

    def abandon_after_fork(self) -> None:
        """In a forked child: close the parent's files without touching the parent's lock."""
        if self._fd >= 0:
            os.close(self._fd)
            self._reader.close()
            self._fd = -1
        self._lockfile.forget()


def keep_damaged(spool: Path, damaged: bytes) -> None:
    """Keep what cannot be read beside its spool, for a person to look at; once, however often it is met."""
    broken = spool.with_suffix(".broken")
    if broken.exists() and damaged in broken.read_bytes():
        return
    with open(broken, "ab", opener=private) as file:
        file.write(damaged)
    count("spool_damaged")
    warn("spool-damaged", "reflexio: a damaged part of a spool was set aside in %s", broken)


def private(name: str, flags: int) -> int:
    """The opener of a file that holds users' words: for its owner alone."""
    return os.open(name, flags, 0o600)


def forget_damaged(folder: Path, values: Collection[str]) -> int:
    """Delete the damaged parts set aside in ``folder`` that hold all of some texts; how many.

    Raises:
        OSError: One cannot be read or deleted.
    """
    data = {path: path.read_bytes() for path in folder.glob("*.broken")}
    theirs = [
        path for path, held in data.items() if all(value.encode("utf-8", "surrogatepass") in held for value in values)
    ]
    for path in theirs:
        path.unlink(missing_ok=True)
    return len(theirs)
