"""Reading an export line by line: what stands in each, and an error in the place of each that is broken."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import BinaryIO, Final

from reflexio_store.errors import ImportFileError
from reflexio_store.moving import JobRecord

from .lines import BrokenLineError, End, Header, Line, read_line

_TELLS_UNREAD: Final = 3  # the first version of the format that says which turns are unread


def lines_in(file: BinaryIO, name: str, progress: Callable[[int], None] | None) -> Iterator[Line | ImportFileError]:
    """The records of the file from its beginning, and an error in the place of each line that is broken or missing.

    Raises:
        ImportFileError: The file is none of ours, or of a newer release.
    """
    file.seek(0)
    reader = _Reader(name)
    for line in file:
        if progress:
            progress(len(line))
        found = reader.read(line)
        if found is not None:
            yield found
    missing = reader.missing()
    if missing is not None:
        yield missing


class _Reader:
    """What was read so far, for what can only be told from the whole: is the header there, and the end?"""

    def __init__(self, name: str) -> None:
        self._name = name
        self._number = 0
        self._begun = False
        self._counts: Counter[str] = Counter()
        self._broken = False
        self._version = 1
        self._end: End | None = None

    def read(self, line: bytes) -> Line | ImportFileError | None:
        self._number += 1
        if not line.strip():
            return None
        first, self._begun = not self._begun, True
        try:
            return self._noted(read_line(line, first=first), first)
        except BrokenLineError as error:
            problem = self._problem(str(error))
            if error.fatal:
                raise problem from error
            self._broken = True
            return problem

    def _noted(self, found: Header | Line | End, first: bool) -> Line | None:
        if self._end is not None:
            raise BrokenLineError("a line after the end of the export; import each export by itself")
        if isinstance(found, Header):
            self._version = found.version
        elif isinstance(found, End):
            self._end = found
            self._compare(found)
        elif first:
            raise BrokenLineError("the header of the export is missing")
        else:
            self._counts[found.kind] += 1
            return self._of_version(found)
        return None

    def _of_version(self, found: Line) -> Line:
        """The line, with what its version of the format did not tell."""
        if self._version < _TELLS_UNREAD and isinstance(found.record, JobRecord):
            return replace(found, record=replace(found.record, rereads=True))
        return found

    def _compare(self, end: End) -> None:
        for kind, count in end.counts.items():
            if not self._broken and self._counts[kind] != count:
                raise BrokenLineError(f"the export had {count} lines of the type {kind!r}, here are "
                                      f"{self._counts[kind]}: lines are missing or were added")  # fmt: skip

    def missing(self) -> ImportFileError | None:
        """What is wrong with the file as a whole, now that all of it was read."""
        if not self._begun:
            raise ImportFileError(self._name, 1, "the file is empty: an export begins with a header line")
        if self._version == 1 or self._end is not None:
            return None
        self._number += 1
        return self._problem("the line that ends an export is missing: the file was cut off; export or copy it again")

    def _problem(self, reason: str) -> ImportFileError:
        return ImportFileError(self._name, self._number, reason)
