"""What moving house costs: export, import and copy of a SQLite home, each in a process of its own.

Run by hand: ``python -m tests.benchmarks.exchange [REQUESTS]`` (100,000). Each request holds 4 messages, and every
tenth taught a profile. The floor is SQLite's own backup of the same file, measured in the same run; ``busy`` is the
processor time of the process in seconds, and memory its highest resident size, of which the import of the packages
alone is shown. The PostgreSQL server is that of the tests, and does not wait for the disk.
"""

from __future__ import annotations

import multiprocessing
import os
import platform
import resource
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from reflexio_middleware.exchange import check_lines, copy, export_to, import_from, pages_of
from reflexio_store.homes import open_store
from reflexio_store.models import Evidence, UserProfile
from reflexio_store.records import InteractionRecord, TurnRecord
from tests.store.postgres import Server

_AT_ONCE = 1000
_START_US = 1_700_000_000_000_000


def fill(folder: Path, requests: int) -> None:
    """The home that is moved."""
    said = [InteractionRecord("user", "Please find me a flight to Porto on Friday. " * 4, _START_US // 1_000_000)] * 4
    with closing(open_store(f"sqlite:///{folder / 'old.db'}")) as store:
        for start in range(0, requests, _AT_ONCE):
            numbers = range(start, min(start + _AT_ONCE, requests))
            store.add_turns(
                [TurnRecord(f"r{at:08d}", f"u{at % 997}", f"s{at // 10}", "v1", "web", _START_US + at, said)
                 for at in numbers],
                learn_after=None,
            )  # fmt: skip
            store.put_records(
                [UserProfile(profile_id=f"p{at}", user_id=f"u{at % 997}", content=f"Fact number {at}.",
                             evidence=[Evidence(request_id=f"r{at:08d}")]) for at in numbers if at % 10 == 0]
            )  # fmt: skip


def nothing(folder: Path) -> None:
    """Only what every process pays."""


def backup(folder: Path) -> None:
    """The floor: the pages of the file, copied by SQLite."""
    with closing(sqlite3.connect(folder / "old.db")) as old, closing(sqlite3.connect(folder / "backup.db")) as new:
        old.backup(new)


def read(folder: Path) -> None:
    """All records, page by page."""
    with closing(open_store(f"sqlite:///{folder / 'old.db'}")) as store:
        for _ in pages_of(store):
            pass


def export(folder: Path) -> None:
    """To a file."""
    with closing(open_store(f"sqlite:///{folder / 'old.db'}")) as store, (folder / "all.jsonl").open("wb") as file:
        export_to(store, file, release="0")


def check(folder: Path) -> None:
    """The first half of an import."""
    with (folder / "all.jsonl").open("rb") as file:
        check_lines(file, "all.jsonl")


def import_(folder: Path) -> None:
    """From that file into an empty home; every line is checked first."""
    with closing(open_store(f"sqlite:///{folder / 'imported.db'}")) as store, (folder / "all.jsonl").open("rb") as file:
        import_from(store, file, "all.jsonl")


def copy_all(folder: Path) -> None:
    """From home to home."""
    with (
        closing(open_store(f"sqlite:///{folder / 'old.db'}")) as old,
        closing(open_store(f"sqlite:///{folder / 'new.db'}")) as new,
    ):
        copy(old, new)


def copy_to_postgresql(folder: Path) -> None:
    """From a file to a server."""
    with (
        closing(open_store(f"sqlite:///{folder / 'old.db'}")) as old,
        closing(open_store((folder / "postgresql").read_text())) as new,
    ):
        copy(old, new)


STEPS: dict[str, Callable[[Path], None]] = {
    "start only": nothing,
    "SQLite backup (floor)": backup,
    "read": read,
    "export": export,
    "check": check,
    "import": import_,
    "copy": copy_all,
    "copy again (nothing missing)": copy_all,
    "copy to PostgreSQL": copy_to_postgresql,
}


def measured(
    step: Callable[[Path], None], folder: Path, answers: multiprocessing.Queue[tuple[float, float, int]]
) -> None:
    """Run a step, and tell its seconds, those of the processor, and the highest memory of its process (MiB)."""
    start, busy = time.perf_counter(), time.process_time()
    step(folder)
    seconds, busy = time.perf_counter() - start, time.process_time() - busy
    answers.put((seconds, busy, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024))


def main() -> None:
    """Fill a home, move it in every way, and print the table."""
    requests = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    context = multiprocessing.get_context("spawn")
    answers: multiprocessing.Queue[tuple[float, float, int]] = context.Queue()
    with tempfile.TemporaryDirectory() as name, Server() as server, server.database(template="template1") as url:
        folder = Path(name)
        (folder / "postgresql").write_text(url)
        fill(folder, requests)
        rows = requests * 5 + -(-requests // 10) * 2
        size = (folder / "old.db").stat().st_size / 1e6
        machine = f"{os.cpu_count()} cores, Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}"
        print(f"{requests:,} requests, {rows:,} rows, {size:,.0f} MB; {machine}")
        print(f"{'':30} {'seconds':>8} {'busy':>7} {'requests/s':>11} {'rows/s':>9} {'peak MiB':>9}")
        for label, step in STEPS.items():
            process = context.Process(target=measured, args=(step, folder, answers))
            process.start()
            process.join()
            if process.exitcode != 0:
                raise SystemExit(f"{label}: the process ended with {process.exitcode}")
            seconds, busy, memory = answers.get()
            rates = (requests / seconds, rows / seconds) if step is not nothing else (0, 0)
            print(f"{label:30} {seconds:8.2f} {busy:7.2f} {rates[0]:11,.0f} {rates[1]:9,.0f} {memory:9,}")


if __name__ == "__main__":
    main()
