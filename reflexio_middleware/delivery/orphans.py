"""The spools of processes that ended: taken over, read past what is damaged, and left alone where they are strange."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO, Final

from reflexio_middleware.delivery.spool import FRAME, HEADER, keep_damaged
from reflexio_middleware.guard import count, warn
from reflexio_store.lockfile import LockFile

_FAMILY: Final = HEADER[:6]
_NEAR: Final = 1 << 20  # bytes in which the next sound record is looked for after a damaged one


class UnreadableSpoolError(Exception):
    """A spool in a format that this release does not know; it is left as it is."""


class OrphanSpool:
    """A spool whose owner died, held by this process while it is drained.

    Args:
        path: The file.
        lockfile: What it is held by.
        begun: Where the first record stands that the store does not have.
    """

    def __init__(self, path: Path, lockfile: LockFile, begun: int) -> None:
        self.path = path
        self.begun = begun
        self._read = begun
        self._lockfile = lockfile

    def batches(self, size: int) -> Iterator[list[bytes]]:
        """The records, ``size`` at a time; ``begun`` moves on when the next batch is asked for."""
        batch: list[bytes] = []
        for payload in self.records():
            batch.append(payload)
            if len(batch) == size:
                yield batch
                batch, self.begun = [], self._read
        if batch:
            yield batch
        self.begun = self._read

    def records(self) -> Iterator[bytes]:
        """The records from ``begun`` on. A damaged one is set aside, and passed over to the next sound one.

        Raises:
            OSError: It cannot be read.
            UnreadableSpoolError: It is in another format.
        """
        with self.path.open("rb") as file:
            start, end = self.begun, os.fstat(file.fileno()).st_size
            if (problem := _strange(file.read(len(HEADER)))) is not None:
                raise UnreadableSpoolError(problem)
            while start < end:
                payload = _record(file, start, end)
                if payload is not None:
                    start = self._read = start + FRAME.size + len(payload)
                    yield payload
                    continue
                after = _next_sound(file, start, end)
                _tell_damaged(self.path, file, start, after, end)
                start = after

    def remove(self) -> None:
        """The store has all of it: remove the files."""
        self.path.unlink(missing_ok=True)
        self._lockfile.release(remove=True)

    def release(self) -> None:
        """Leave it for another time."""
        self._lockfile.release(remove=False)


def orphans(folder: Path, begun: Mapping[Path, int] | None = None) -> Iterator[OrphanSpool]:
    """The spools in ``folder`` whose owner is gone, each locked by this process until it is removed or released.

    ``begun`` says of those that were released where the first record stands that the store does not have.
    """
    for path in sorted(folder.glob("*.spool")):
        lockfile = LockFile(path.with_suffix(".lock"))
        try:
            taken = lockfile.acquire()
        except OSError as error:
            count("spools_unreadable")
            warn("orphan", "reflexio: the spool %s cannot be looked at (%s): whose is it?", path, error)
            continue
        if not taken:
            continue
        if path.exists():
            yield OrphanSpool(path, lockfile, (begun or {}).get(path, len(HEADER)))
        else:  # another process drained it between the listing and the lock
            lockfile.release(remove=True)


def _record(file: BinaryIO, start: int, end: int) -> bytes | None:
    """The record at ``start``; None where there is no sound one."""
    file.seek(start)
    frame = file.read(FRAME.size)
    length, checksum = FRAME.unpack(frame) if len(frame) == FRAME.size else (0, 0)
    if length == 0 or start + FRAME.size + length > end:
        return None
    payload = file.read(length)
    return payload if zlib.crc32(payload) == checksum else None


def _next_sound(file: BinaryIO, start: int, end: int) -> int:
    """Where the next sound record begins after a damaged one at ``start``; ``end`` if there is none near."""
    file.seek(start)
    near = file.read(min(_NEAR, end - start))
    for at in range(1, len(near) - FRAME.size):
        length = FRAME.unpack_from(near, at)[0]
        if 0 < length <= end - start - at - FRAME.size and _record(file, start + at, end) is not None:
            return start + at
    return end


def _tell_damaged(spool: Path, file: BinaryIO, start: int, after: int, end: int) -> None:
    """Keep what cannot be read for a person to look at, unless it is the torn end that a kill may leave."""
    file.seek(start)
    damaged = file.read(after - start)
    length = FRAME.unpack_from(damaged)[0] if len(damaged) >= FRAME.size else end
    if after == end and len(damaged) < min(_NEAR, FRAME.size + length):
        count("spool_torn")
        warn("spool-torn", "reflexio: %s ends in a torn record, of a turn that was not acknowledged", spool)
    else:
        keep_damaged(spool, damaged)


def _strange(header: bytes) -> str | None:
    """What is wrong with the beginning of a spool; of one that was killed at its beginning there may be a part."""
    if HEADER.startswith(header):
        return None
    if header.startswith(_FAMILY):
        return "a newer release wrote it: upgrade reflexio-middleware, and it is delivered"
    return "it is no spool, or its beginning is damaged"


def unreadable(folder: Path) -> Iterator[tuple[Path, str]]:
    """The spools in ``folder`` that this release or this user cannot read, and why."""
    for path in sorted(folder.glob("*.spool")):
        try:
            with path.open("rb") as file:
                problem = _strange(file.read(len(HEADER)))
        except OSError as error:
            problem = str(error)
        if problem is not None:
            yield path, problem


def waiting(folder: Path) -> tuple[int, int]:
    """How many spools lie in ``folder``, and how many bytes of records they hold."""
    sizes = [path.stat().st_size - len(HEADER) for path in folder.glob("*.spool")] if folder.is_dir() else []
    return len(sizes), sum(size for size in sizes if size > 0)
