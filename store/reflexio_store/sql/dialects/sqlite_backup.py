"""A copy of a SQLite home as it is at one moment, while others read and write it."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path

from reflexio_store.errors import StoreCorruptError, StoreUnavailableError

from .sqlite_driver import driver
from .sqlite_errors import explain
from .sqlite_url import SqlitePlace


def back_up(place: SqlitePlace, target: Path) -> int:
    """Write a sound copy of the database to ``target``, which appears (or is replaced) when it is complete.

    A file that is written cannot just be copied: its newest pages are in the write-ahead log beside it, and may move
    while the copy is made. This reads it in one transaction, which holds up nobody. Returns the size in bytes.

    Raises:
        StoreError: The database cannot be read, or the copy cannot be written.
        StoreCorruptError: The copy is not sound, because the database is not.
    """
    made = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        made.touch(mode=0o600)  # it holds users' words
        with (
            closing(driver.connect(f"{place.path}", timeout=place.timeout)) as source,
            closing(driver.connect(f"{made}")) as copy,
        ):
            source.backup(copy)
            problems = [str(row[0]) for row in copy.execute("PRAGMA quick_check(5)")]
        if problems != ["ok"]:
            raise StoreCorruptError(f"{place.path} is damaged ({'; '.join(problems)}): no copy was made of it")
        size = made.stat().st_size
        os.replace(made, target)
    except (driver.Error, OSError) as error:
        problem = explain(error, place)
        if not isinstance(problem, StoreCorruptError):
            problem = StoreUnavailableError(
                f"{place.path} could not be copied to {target} ({error}): check both, their rights, and the free space."
            )
        raise problem from error
    finally:
        for left in (made, *(made.with_name(f"{made.name}{end}") for end in ("-wal", "-shm", "-journal"))):
            left.unlink(missing_ok=True)
    return size
