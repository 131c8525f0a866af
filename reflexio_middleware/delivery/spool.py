"""The spool: finished turns wait here, on disk, until the store has them.

One append-only file per process, so that a turn survives the process being killed the moment ``append`` has returned
(not a power cut: the file is not synced). Format: an 8-byte header, then records of a little-endian ``u32`` length, a
``u32`` CRC-32 and that many bytes of JSON. A torn or damaged tail loses only itself. Whoever holds the lock file
beside a spool owns it; a spool whose owner died is adopted by the next process.
"""

from __future__ import annotations

import os
import struct
import threading
import zlib
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Protocol

from reflexio_middleware.guard import count, warn
from reflexio_store.ids import uuid7
from reflexio_store.lockfile import LockFile

HEADER: Final = b"RFXSPL1\n"
_FRAME: Final = struct.Struct("<II")
_COMPACT_BYTES: Final = 8 * 1024 * 1024
MAX_BYTES: Final = 256 * 1024 * 1024
"""Default bound of one spool; what comes beyond it is refused and counted."""


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


class MemorySpool:
    """A spool that lasts as long as the process: for in-memory homes, and where no folder can be written."""

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._records: deque[bytes] = deque()
        self._bytes = 0
        self._max = max_bytes
        self._lock = threading.Lock()

    @property
    def pending(self) -> int:
        """Records waiting."""
        return len(self._records)

    def append(self, payload: bytes) -> bool:
        """Keep a record in memory."""
        with self._lock:
            if self._bytes + len(payload) > self._max:
                return False
            self._records.append(payload)
            self._bytes += len(payload)
        return True

    def read(self, limit: int, max_bytes: int = 8_000_000) -> list[bytes]:
        """The oldest records."""
        with self._lock:
            found: list[bytes] = []
            for payload in self._records:
                if len(found) >= limit or (found and max_bytes < len(payload)):
                    break
                found.append(payload)
                max_bytes -= len(payload)
            return found

    def forget(self, amount: int) -> None:
        """Drop the oldest records."""
        with self._lock:
            for _ in range(amount):
                self._bytes -= len(self._records.popleft())

    def close(self) -> None:
        """Nothing is held."""


class FileSpool:
    """This process's spool in ``folder``.

    Raises:
        OSError: The folder cannot be made or written.
    """

    def __init__(self, folder: Path, max_bytes: int = MAX_BYTES) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        name = uuid7()
        self.path = folder / f"{name}.spool"
        self._lockfile = LockFile(folder / f"{name}.lock")
        if not self._lockfile.acquire():  # pragma: no cover - the name is new, nobody else can hold it
            raise OSError(f"cannot lock {self._lockfile.path}")
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0)
        self._fd = os.open(self.path, flags, 0o600)
        os.write(self._fd, HEADER)
        self._reader = self.path.open("rb", buffering=0)  # used by the one thread that drains
        self._max = max_bytes
        self._size = self._start = len(HEADER)
        self._pending = 0
        self._lock = threading.Lock()

    @property
    def pending(self) -> int:
        """Records waiting."""
        return self._pending

    def append(self, payload: bytes) -> bool:
        """Keep a record on disk: one ``write`` of the operating system, no sync."""
        record = _FRAME.pack(len(payload), zlib.crc32(payload)) + payload
        with self._lock:
            if self._fd < 0 or self._size - self._start + len(record) > self._max:
                return False
            try:
                written = os.write(self._fd, record)
                if written != len(record):
                    os.ftruncate(self._fd, self._size)
                    return False
            except OSError as error:
                count("spool_errors")
                warn("spool", "reflexio: the spool %s cannot be written (%s)", self.path, error)
                return False
            self._size += len(record)
            self._pending += 1
        return True

    def read(self, limit: int, max_bytes: int = 8_000_000) -> list[bytes]:
        """The oldest records. A damaged one ends the reading: it and what follows are set aside and counted."""
        with self._lock:
            end, start = self._size, self._start
        found: list[bytes] = []
        while start < end and len(found) < limit:
            length, checksum = _FRAME.unpack(self._at(start, _FRAME.size))
            if found and length > max_bytes:
                break
            payload = self._at(start + _FRAME.size, length)
            if zlib.crc32(payload) != checksum:
                return found or self._set_aside(start, end)
            found.append(payload)
            start += _FRAME.size + length
            max_bytes -= length
        return found

    def _at(self, offset: int, size: int) -> bytes:
        self._reader.seek(offset)
        return self._reader.read(size)

    def _set_aside(self, start: int, end: int) -> list[bytes]:
        broken = self.path.with_suffix(".broken")
        broken.write_bytes(self._at(start, end - start))
        count("spool_damaged")
        warn("spool-damaged", "reflexio: a damaged part of the spool was set aside in %s", broken)
        with self._lock:
            self._start = end
            self._pending = 0
        return []

    def forget(self, amount: int) -> None:
        """Drop the oldest records; the file shrinks when all are gone, or when much of it is."""
        with self._lock:
            for _ in range(amount):
                length, _checksum = _FRAME.unpack(self._at(self._start, _FRAME.size))
                self._start += _FRAME.size + length
                self._pending -= 1
            if self._start >= self._size:
                os.ftruncate(self._fd, len(HEADER))
                self._size = self._start = len(HEADER)
            elif self._start >= _COMPACT_BYTES and self._start * 2 > self._size:
                self._compact()

    def _compact(self) -> None:
        """Write what waits into a new file and put it in the place of this one, in one step."""
        fresh = self.path.with_suffix(".compacting")
        flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND | getattr(os, "O_BINARY", 0)
        fd = os.open(fresh, flags, 0o600)
        os.write(fd, HEADER)
        at = self._start
        while at < self._size:
            piece = self._at(at, min(1 << 20, self._size - at))
            os.write(fd, piece)
            at += len(piece)
        os.replace(fresh, self.path)
        os.close(self._fd)
        self._reader.close()
        self._fd, self._reader = fd, self.path.open("rb", buffering=0)
        self._size, self._start = self._size - self._start + len(HEADER), len(HEADER)

    def close(self) -> None:
        """Let go of the files. An empty spool is removed; another stays for the next process."""
        with self._lock:
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


class OrphanSpool:
    """A spool whose owner died, held by this process while it is drained."""

    def __init__(self, path: Path, lockfile: LockFile) -> None:
        self.path = path
        self._lockfile = lockfile

    def records(self) -> Iterator[bytes]:
        """The records up to the end or the first damaged one."""
        with self.path.open("rb") as file:
            if file.read(len(HEADER)) != HEADER:
                return
            while len(frame := file.read(_FRAME.size)) == _FRAME.size:
                length, checksum = _FRAME.unpack(frame)
                payload = file.read(length)
                if len(payload) != length or zlib.crc32(payload) != checksum:
                    count("spool_damaged")
                    warn("spool-damaged", "reflexio: %s ends in a torn record; what came before is kept", self.path)
                    return
                yield payload

    def remove(self) -> None:
        """The store has all of it: remove the files."""
        self.path.unlink(missing_ok=True)
        self._lockfile.release(remove=True)

    def release(self) -> None:
        """Leave it for another time."""
        self._lockfile.release(remove=False)


def orphans(folder: Path) -> Iterator[OrphanSpool]:
    """The spools in ``folder`` whose owner is gone, each locked by this process until it is removed or released."""
    for path in sorted(folder.glob("*.spool")):
        lockfile = LockFile(path.with_suffix(".lock"))
        if not lockfile.acquire():
            continue
        if path.exists():
            yield OrphanSpool(path, lockfile)
        else:  # another process drained it between the listing and the lock
            lockfile.release(remove=True)


def waiting(folder: Path) -> tuple[int, int]:
    """How many spools lie in ``folder``, and how many bytes of records they hold."""
    sizes = [path.stat().st_size - len(HEADER) for path in folder.glob("*.spool")] if folder.is_dir() else []
    return len(sizes), sum(size for size in sizes if size > 0)
