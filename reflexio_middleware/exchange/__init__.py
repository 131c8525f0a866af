"""Moving house: export to a file, import from one, and copying one home into another.

An export is JSON Lines. The first line is the header, the last one counts what is between, each other one is a record::

    {"format": "reflexio-middleware-export", "version": 3, "release": "0.1.0", "exported_at": 1767225600, …}
    {"type": "erasure", "digest": "…", "at_us": …}
    {"type": "request", "request_id": "…", "user_id": "…", "created_at_us": …, "interactions": […], "options": {…}}
    {"type": "profile" | "user_playbook" | "agent_playbook", …, "evidence": […]}
    {"type": "support" | "event" | "dismissal" | "opt_out" | "outcome" | "usage" | "job", …}
    {"type": "end", "counts": {"request": 1, …}}

All three ways are one: pages of records go from where they are read to where they are stored, one page in memory at a
time. Storing a record twice changes nothing, so what was interrupted is simply begun again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO, Final

from reflexio_store.contract import Store
from reflexio_store.errors import ImportFileError
from reflexio_store.moving import RECORD_KINDS, Record, RecordKind, Stored, record_kind

from .lines import Header, Line, encode_end, encode_header, encode_record
from .reading import lines_in

_BATCH: Final = 500
_BATCH_BYTES: Final = 8_000_000
_MAX_NAMED: Final = 1000

Progress = Callable[[int], None]
"""Called with how much further it went since the last call: records (export, copy) or bytes (import)."""


@dataclass(slots=True)
class Moved:
    """What became of the records of each kind. ``skipped`` lines of an import are broken; the first 1000 of them are in
    ``broken``, as errors that name the line."""

    kinds: dict[RecordKind, Stored] = field(default_factory=lambda: dict.fromkeys(RECORD_KINDS, Stored()))
    skipped: int = 0
    broken: list[ImportFileError] = field(default_factory=list)

    @property
    def counts(self) -> dict[RecordKind, int]:
        """How many records of each kind there were."""
        return {kind: stored.total for kind, stored in self.kinds.items()}

    def note(self, records: Sequence[Record], stored: Stored) -> None:
        """Count what became of some records of one kind."""
        if records:
            self.kinds[record_kind(records[0])] += stored


def export_to(
    store: Store,
    file: BinaryIO,
    *,
    release: str,
    user_id: str | None = None,
    exported_at: int | None = None,
    progress: Progress | None = None,
) -> Moved:
    """Write all that a home keeps to ``file``. The same home gives the same bytes, apart from the header.

    It is no snapshot: what changes meanwhile may be in it as it was before, as it is after, or not at all.

    Args:
        store: The home.
        file: Where the lines go; it stays open.
        release: Version of this project, noted in the header.
        user_id: Only what is held on this user; None: everything.
        exported_at: Epoch seconds, noted in the header; None: now.
        progress: Told of every record.

    Raises:
        StoreError: The home cannot be read.
        OSError: The file cannot be written.
    """
    moved = Moved()
    at = int(time.time()) if exported_at is None else exported_at
    file.write(encode_header(Header(release, at, user_id, tuple(store.losses()))))
    for page in pages_of(store, user_id):
        file.writelines(map(encode_record, page))
        moved.note(page, Stored(new=len(page)))
        if progress:
            progress(len(page))
    file.write(encode_end(moved.counts))
    return moved


def import_from(
    store: Store, file: BinaryIO, name: str, *, skip_broken: bool = False, progress: Progress | None = None
) -> Moved:
    """Read an export into a home. Requests that it has stay as they are; learnings of a known id are replaced.

    The whole file is checked before anything is stored. The imported requests are not learned from again, as their
    learnings come along; learning that was still due where they come from is due here.

    Args:
        store: The home.
        file: The lines; it is read twice, so it must be seekable.
        name: What the file is called in errors.
        skip_broken: Import the lines that can be read, and report the others in the answer.
        progress: Told of the bytes that were read (the file's size, twice).

    Raises:
        ImportFileError: A line is broken (and ``skip_broken`` is False), or the file is none of ours. Nothing was
            stored.
        StoreError: The home refused a batch; the batches before it are stored, and importing again is safe.
    """
    return store_lines(store, file, name, check_lines(file, name, skip_broken=skip_broken, progress=progress), progress)


def check_lines(file: BinaryIO, name: str, *, skip_broken: bool = False, progress: Progress | None = None) -> Moved:
    """The first half of :func:`import_from`, which needs no home: check every line."""
    checked = Moved()
    for found in lines_in(file, name, progress):
        if isinstance(found, ImportFileError):
            if not skip_broken:
                raise found
            checked.skipped += 1
            if len(checked.broken) < _MAX_NAMED:
                checked.broken.append(found)
    return checked


def store_lines(store: Store, file: BinaryIO, name: str, checked: Moved, progress: Progress | None = None) -> Moved:
    """The second half: store the lines that can be read, and add what became of them to what the check found."""
    found = (line for line in lines_in(file, name, progress) if isinstance(line, Line))
    for page in _batches(found):
        checked.note(page, store.put_records(page))
    return checked


def copy(source: Store, target: Store, *, progress: Progress | None = None) -> Moved:
    """Store all that one home keeps in another one. Made again after an interruption, it stores only what is missing.

    Requests that the target has stay as they are (and count as ``differ`` where they are others); learnings of a known
    id are replaced by those of the source. What only the target has stays.

    Args:
        source: Where the records are; nothing is changed there.
        target: Where they go.
        progress: Told of every record.

    Raises:
        StoreError: A home cannot be read or written; the pages before that are stored, and copying again is safe.
    """
    moved = Moved()
    for page in pages_of(source):
        moved.note(page, target.put_records(page))
        if progress:
            progress(len(page))
    return moved


def pages_of(store: Store, user_id: str | None = None) -> Iterator[Sequence[Record]]:
    """All that a home keeps (on one user), in pages of one kind."""
    for kind in RECORD_KINDS:
        cursor = None
        while True:
            page = store.read_records(kind, user_id=user_id, cursor=cursor)
            if page.records:
                yield page.records
            cursor = page.next_cursor
            if cursor is None:
                break


def _batches(lines: Iterable[Line]) -> Iterator[Sequence[Record]]:
    """Records of one kind that follow one another, a few at a time."""
    batch: list[Record] = []
    size = 0
    for line in lines:
        other = bool(batch) and type(batch[0]) is not type(line.record)
        if other or len(batch) >= _BATCH or size >= _BATCH_BYTES:
            yield batch
            batch, size = [], 0
        batch.append(line.record)
        size += line.size
    if batch:
        yield batch


__all__ = ["Moved", "check_lines", "copy", "export_to", "import_from", "pages_of", "store_lines"]
