"""SQLite's errors in our words: what is wrong, where, and how to mend it."""

from __future__ import annotations

import sqlite3
from typing import Final

from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from reflexio_store.errors import InvalidInputError, ReflexioError, StoreCorruptError, StoreError, StoreUnavailableError

from .sqlite_url import SqlitePlace

_DAMAGED: Final = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_ADVICE: Final = {
    sqlite3.SQLITE_BUSY: "another process kept it locked for longer than {timeout:g} s; "
    "find the process that holds it, or wait longer with ?timeout=SECONDS in the URL",
    sqlite3.SQLITE_LOCKED: "another connection kept it locked; try again",
    sqlite3.SQLITE_READONLY: "it is read-only; make the file and its folder writable, or name another file",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened; check that its folder exists and is writable, "
    "and that the name is not that of a folder",
    sqlite3.SQLITE_FULL: "the disk is full; free some space",
    sqlite3.SQLITE_IOERR: "the disk reported an error; check the disk and its file system",
    sqlite3.SQLITE_PERM: "access was denied; check the permissions of the file and its folder",
    sqlite3.SQLITE_AUTH: "access was denied; check the permissions of the file and its folder",
}


def explain(error: Exception, place: SqlitePlace) -> ReflexioError:
    """The error of ours for one of the driver, SQLAlchemy or the operating system."""
    where = f"The SQLite database {place.path}" if place.path else "The SQLite database in memory"
    if isinstance(error, PoolTimeoutError):
        return StoreUnavailableError(f"{where}: all its connections stayed in use; read from fewer threads at once.")
    if isinstance(error, UnicodeError):
        return InvalidInputError("A text holds half of a surrogate pair and cannot be stored or looked up; mend it.")
    if isinstance(error, OverflowError):
        return InvalidInputError("A number does not fit into 64 bits and cannot be stored or looked up.")
    if isinstance(error, OSError):
        return StoreUnavailableError(f"{where} cannot be reached ({error}); check its folder and the permissions.")
    original = error.orig if isinstance(error, DBAPIError) else error
    code = getattr(original, "sqlite_errorcode", None)
    primary = code & 0xFF if isinstance(code, int) else None
    if primary in _DAMAGED:
        return StoreCorruptError(
            f"{where} is damaged or is no SQLite database ({original}); restore a backup, or name another file."
        )
    if primary in _ADVICE:
        advice = _ADVICE[primary].format(timeout=place.timeout)
        return StoreUnavailableError(f"{where} is not available ({original}): {advice}.")
    return StoreError(f"{where} could not do what was asked ({original}).")
