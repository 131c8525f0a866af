"""Which SQLite is used, and what is said of one that has the WAL-reset fault."""

from __future__ import annotations

import importlib.util
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from reflexio_store.homes import open_store
from reflexio_store.sql.dialects.sqlite_driver import MEND, driver, has_wal_fault

_OPENING = """
import logging, sys
if sys.argv[2] == "linked":
    sys.modules["pysqlite3"] = None
if sys.argv[3] == "logging":
    logging.basicConfig(format="%(name)s %(message)s")
from reflexio_store.homes import open_store
for url in ("sqlite://", sys.argv[1], sys.argv[1]):
    store = open_store(url)
    store.close()
from reflexio_store.sql.dialects.sqlite_driver import driver
print(driver.__name__)
"""


def _open(path: Path, *arguments: str) -> tuple[str, str]:
    command = [sys.executable, "-W", "error", "-c", _OPENING, f"sqlite:///{path}", *arguments]
    ran = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    return ran.stdout.strip(), ran.stderr


@pytest.mark.parametrize(
    ("version", "faulty"),
    [
        *((v, True) for v in ((3, 40, 1), (3, 44, 5), (3, 50, 6), (3, 51, 2), (3, 45, 0))),
        *((v, False) for v in ((3, 44, 6), (3, 50, 7), (3, 51, 3), (3, 53, 4), (4, 0, 0))),
    ],
)
def test_the_versions_that_have_the_fault_are_known(version: tuple[int, ...], faulty: bool) -> None:
    """All in WAL mode below 3.51.3, but for two that it was mended in as well."""
    assert has_wal_fault(version) == faulty


@pytest.mark.skipif(not has_wal_fault(sqlite3.sqlite_version_info), reason="this Python is linked with a sound one")
def test_a_faulty_sqlite_is_named_once_in_the_log_with_what_mends_it(tmp_path: Path) -> None:
    """For a file, not for a database in memory."""
    _, said = _open(tmp_path / "home.db", "linked", "logging")
    assert said.startswith("reflexio_store reflexio: SQLite 3.")
    assert said.count("\n") == 1 and MEND in said


def test_nothing_is_printed_where_the_host_has_set_no_logging_up(tmp_path: Path) -> None:
    """Not even the warning."""
    assert _open(tmp_path / "home.db", "linked", "silent") == ("sqlite3", "")


@pytest.mark.skipif(importlib.util.find_spec("pysqlite3") is None, reason="the extra is not installed")
def test_the_extra_is_used_where_it_is_installed(tmp_path: Path) -> None:
    """And brings a SQLite without the fault, so that nothing is said; the file is the same for both."""
    assert _open(tmp_path / "home.db", "any", "logging") == ("pysqlite3", "")
    assert _open(tmp_path / "home.db", "linked", "silent") == ("sqlite3", "")
    store = open_store(f"sqlite:///{tmp_path / 'home.db'}")
    levels = {finding.subject: finding.level for finding in store.check()}
    store.close()
    assert driver.__name__ == "pysqlite3"
    assert levels["sqlite"] == "ok"
