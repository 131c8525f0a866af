"""Export and import: a whole home, or one user's part of it, as JSON Lines.

One object a line. The first is the header, each other one a record::

    {"format": "reflexio-middleware-export", "version": 1, "release": "0.1.0", "exported_at": 1767225600, …}
    {"type": "request", "request_id": "…", "user_id": "…", "created_at_us": …, "interactions": […], "options": {…}}
    {"type": "profile" | "user_playbook" | "agent_playbook", …, "evidence": […]}

Both directions stream: one page of the home, or one batch of lines, is in memory at a time. An import changes nothing
before every line was checked, and importing twice changes nothing more.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import BinaryIO, Final

from reflexio_middleware.recall.render import kind_of
from reflexio_store.contract import Store
from reflexio_store.errors import ImportFileError
from reflexio_store.models import Learning
from reflexio_store.records import TurnRecord

from .lines import BrokenLineError, Header, Record, encode_header, encode_learning, encode_request, read_line
from .pages import learnings_in, requests_in

KINDS: Final[tuple[str, ...]] = ("request", "profile", "user_playbook", "agent_playbook")
"""The types of the records, in the order in which an export holds them."""
_BATCH: Final = 200
_BATCH_BYTES: Final = 8_000_000
_MAX_NAMED: Final = 1000

Progress = Callable[[int], None]
"""Called with how much further it went since the last call: records (export) or bytes (import)."""


@dataclass(frozen=True, slots=True)
class Exported:
    """How many records of each type were written."""

    counts: dict[str, int]


@dataclass(slots=True)
class Imported:
    """What an import did: ``counts`` by type of record, how many requests were ``new`` here, how many lines were
    ``skipped`` because they are broken, and the first 1000 of those as errors that name the line."""

    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))
    new: int = 0
    skipped: int = 0
    broken: list[ImportFileError] = field(default_factory=list)


def export_to(
    store: Store, file: BinaryIO, *, release: str, user_id: str | None = None, progress: Progress | None = None
) -> Exported:
    """Write the requests and the learnings of a home to ``file``, newest first.

    It is no snapshot: what changes meanwhile may be in it as it was before, as it is after, or not at all.

    Args:
        store: The home.
        file: Where the lines go; it stays open.
        release: Version of this project, noted in the header.
        user_id: Only this user's requests, profiles and user playbooks; None: everything.
        progress: Told of every record.

    Raises:
        StoreError: The home cannot be read.
        OSError: The file cannot be written.
    """
    counts: dict[str, int] = dict.fromkeys(KINDS, 0)
    file.write(encode_header(Header(release=release, exported_at=int(time.time()), user_id=user_id)))
    for name, line in _lines(store, user_id):
        file.write(line)
        counts[name] += 1
        if progress:
            progress(1)
    return Exported(counts)


def _lines(store: Store, user_id: str | None) -> Iterator[tuple[str, bytes]]:
    for data, created_at_us in requests_in(store, user_id):
        yield "request", encode_request(data, created_at_us)
    for learning in learnings_in(store, user_id):
        yield kind_of(learning), encode_learning(learning)


def import_from(
    store: Store, file: BinaryIO, name: str, *, skip_broken: bool = False, progress: Progress | None = None
) -> Imported:
    """Read an export into a home. Requests that it has stay as they are; learnings of a known id are replaced.

    The whole file is checked before anything is stored. No job is made: the imported requests are not learned from
    again, as their learnings come along.

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


def check_lines(file: BinaryIO, name: str, *, skip_broken: bool = False, progress: Progress | None = None) -> Imported:
    """The first half of :func:`import_from`, which needs no home: check every line."""
    done = Imported()
    for found in _read(file, name, progress):
        if isinstance(found, ImportFileError):
            if not skip_broken:
                raise found
            done.skipped += 1
            if len(done.broken) < _MAX_NAMED:
                done.broken.append(found)
    return done


def store_lines(
    store: Store, file: BinaryIO, name: str, checked: Imported, progress: Progress | None = None
) -> Imported:
    """The second half: store the lines that can be read, and add their counts to what the check found."""
    batch = _Batch(store)
    for found in _read(file, name, progress):
        if isinstance(found, Record):
            batch.add(found)
            checked.counts[found.kind] += 1
    batch.store()
    checked.new = batch.new
    return checked


class _Batch:
    """Records on their way into a home, a few at a time."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._turns: list[TurnRecord] = []
        self._learnings: list[Learning] = []
        self._bytes = 0
        self.new = 0

    def add(self, record: Record) -> None:
        if isinstance(record.value, TurnRecord):
            self._turns.append(record.value)
        else:
            self._learnings.append(record.value)
        self._bytes += record.size
        if len(self._turns) + len(self._learnings) >= _BATCH or self._bytes >= _BATCH_BYTES:
            self.store()

    def store(self) -> None:
        if self._turns:
            self.new += self._store.add_turns(self._turns, learn_after=None)
        if self._learnings:
            self._store.add_learnings(self._learnings)
        self._turns, self._learnings, self._bytes = [], [], 0


def _read(file: BinaryIO, name: str, progress: Progress | None) -> Iterator[Record | ImportFileError]:
    """The records of the file from its beginning, and an error in the place of each line that is broken."""
    file.seek(0)
    number = 0
    for number, line in enumerate(file, 1):
        if progress:
            progress(len(line))
        if not line.strip():
            continue
        try:
            found = read_line(line, first=number == 1)
        except BrokenLineError as error:
            problem = ImportFileError(name, number, str(error))
            if error.fatal:
                raise problem from error
            yield problem
            continue
        if isinstance(found, Record):
            if number == 1:
                yield ImportFileError(name, 1, "the header of the export is missing")
            yield found
    if number == 0:
        raise ImportFileError(name, 1, "the file is empty: an export begins with a header line")


__all__ = ["KINDS", "Exported", "Imported", "check_lines", "export_to", "import_from", "store_lines"]
