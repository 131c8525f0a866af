"""Dead letters: turns that the store refuses for good wait in a file, with the reason, until somebody has mended it.

One line of JSON each: ``at`` (epoch seconds), ``error``, and ``turn`` (the record's own JSON, as text).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import orjson

from reflexio_middleware.delivery.spool import private
from reflexio_middleware.guard import count, warn
from reflexio_store.lockfile import LockFile
from reflexio_store.records import TurnRecord

FILE: Final = "dead_letters.jsonl"
_TAKEN: Final = "dead_letters.retrying"
_LOCK: Final = "dead_letters.lock"
_WAIT: Final = 5.0  # seconds; nobody holds the lock for so long


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A turn that was refused; ``request_id`` is ``""`` where the turn cannot be read."""

    at: int
    error: str
    request_id: str
    turn: str

    @classmethod
    def of(cls, line: bytes) -> DeadLetter:
        """What a line says; one that is no letter is its own reason."""
        try:
            note = orjson.loads(line)
            turn = str(note["turn"])
            at, error = int(note.get("at", 0)), str(note["error"])
        except (ValueError, TypeError, KeyError):
            return cls(0, "this line of the file cannot be read", "", line.decode("utf-8", "replace"))
        try:
            return cls(at, error, str(orjson.loads(turn)["request_id"]), turn)
        except (ValueError, TypeError, KeyError):
            return cls(at, error, "", turn)


class DeadLetters:
    """The dead letters of the home whose spool is in ``folder``; the file takes at most ``max_bytes``."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._file, self._taken, self._max = folder / FILE, folder / _TAKEN, max_bytes
        self._lock = folder / _LOCK

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """No other thread or process writes a letter or changes the file meanwhile."""
        lock = LockFile(self._lock)
        lock.acquire(_WAIT)
        try:
            yield
        finally:
            lock.release(remove=True)

    def add(self, payload: bytes, error: str) -> None:
        """Write a turn down; never raises, because the turns behind it have to go on."""
        letter = {"at": int(time.time()), "error": error, "turn": payload.decode("utf-8", "replace")}
        try:
            with self._alone(), open(self._file, "ab", opener=private) as file:
                if file.tell() >= self._max:
                    raise OSError(f"the file holds {file.tell()} bytes already")
                file.write(orjson.dumps(letter) + b"\n")
        except OSError as refused:
            count("dead_letters_lost")
            warn("dead-letter-lost", "reflexio: the turn set aside could not be written down (%s)", refused)

    def _files(self) -> list[Path]:
        """Those that are there; the first is left by a process that ended while it sent them again."""
        return [path for path in (self._taken, self._file) if path.exists()]

    def __iter__(self) -> Iterator[DeadLetter]:
        for path in self._files():
            with path.open("rb") as lines:
                yield from map(DeadLetter.of, lines)

    def resend(self, put: Callable[[TurnRecord], bool]) -> tuple[int, int]:
        """Hand all letters to ``put``; those that it does not take, or that cannot be read, stay. How many of either.

        The file goes only when all were handed over: a process that ends before resends them all again, which stores
        none of them twice.
        """
        sent: list[bool] = []
        for path in self._files():
            with self._alone():
                os.replace(path, self._taken)
            with self._taken.open("rb") as lines:
                sent += [self._sent(DeadLetter.of(line), put) for line in lines]
            self._taken.unlink()
        return sent.count(True), sent.count(False)

    def forget(self, **names: str) -> int:
        """Drop the letters whose turns have these values (such as ``user_id="ann"``), and those that cannot be read and
        hold all of the values anywhere; how many.

        Raises:
            OSError: The file cannot be read or written.
        """
        if not self._files():
            return 0
        with self._alone():
            return sum(_without(path, names) for path in self._files())

    def _sent(self, letter: DeadLetter, put: Callable[[TurnRecord], bool]) -> bool:
        try:
            turn = TurnRecord.from_json(orjson.loads(letter.turn))
        except (ValueError, TypeError, KeyError) as error:
            self.add(letter.turn.encode(), f"the turn cannot be read ({type(error).__name__}: {error})")
            return False
        if put(turn):
            return True
        self.add(letter.turn.encode(), letter.error)
        return False


def _without(path: Path, names: Mapping[str, str]) -> int:
    """Rewrite the file without the letters about these; how many there were."""
    lines = path.read_bytes().splitlines(keepends=True)
    kept = [line for line in lines if not _is_about(line, names)]
    if len(kept) < len(lines):
        fresh = path.with_suffix(".rewriting")
        with open(fresh, "wb", opener=private) as file:
            file.writelines(kept)
        os.replace(fresh, path)
    return len(lines) - len(kept)


def _is_about(line: bytes, names: Mapping[str, str]) -> bool:
    try:
        turn = orjson.loads(orjson.loads(line)["turn"])
        return all(turn[name] == value for name, value in names.items())
    except (ValueError, KeyError, TypeError):
        return all(value.encode("utf-8", "surrogatepass") in line for value in names.values())
