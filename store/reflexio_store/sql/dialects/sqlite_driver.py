"""Which SQLite: the one that ``pysqlite3`` brings where that is installed, else the one that Python is linked with.

SQLite 3.7.0 to 3.51.2 has a fault in WAL mode: where several connections write and checkpoint at once, in a rare race,
committed pages may be lost or the file damaged (https://sqlite.org/wal.html#walresetbug, mended in 3.51.3, and in
3.50.7 and 3.44.6).

Two copies of SQLite in one process do not see each other's locks on a file, and damage it
(https://sqlite.org/howtocorrupt.html#multiple_copies_of_sqlite_linked_into_the_same_application): what opens a home's
file beside the home, in the same process, has to use the ``driver`` that is named here.
"""

from __future__ import annotations

import logging
import sqlite3
from functools import cache
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import sqlite3 as driver
else:
    try:
        import pysqlite3 as driver
    except ImportError:
        driver = sqlite3

__all__ = ["MEND", "driver", "has_wal_fault", "warn_of_wal_fault"]

MEND: Final = "pip install 'reflexio-middleware[sqlite]'"
_MENDED: Final = (3, 51, 3)
_BACKPORTS: Final = {(3, 44): 6, (3, 50): 7}
_log = logging.getLogger("reflexio_store")
_log.addHandler(logging.NullHandler())  # said to whoever has set logging up, never printed into a host's output


def has_wal_fault(version: tuple[int, ...] = driver.sqlite_version_info) -> bool:
    """Whether a version of SQLite has the fault."""
    backport = _BACKPORTS.get((version[0], version[1]))
    return version < _MENDED and (backport is None or version[2] < backport)


@cache  # once in a process
def warn_of_wal_fault() -> None:
    """Log a warning if the SQLite in use has the fault."""
    if has_wal_fault():
        _log.warning(
            "reflexio: SQLite %s has a fault that may, rarely, damage a database that several processes write at once; "
            "mend it with: %s",
            driver.sqlite_version,
            MEND,
        )
