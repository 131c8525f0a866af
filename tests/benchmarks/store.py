"""What the SQLite home and the spool do in a second, and how long one waits for them.

    python tests/benchmarks/store.py [--requests 20000] [--rounds 5]      (--requests 1000000 takes some 10 minutes)

A request has four interactions, a session ten requests. One user has up to 4,000 sessions. "share" is that of the speed
of the driver's `executemany`: the same rows, made beforehand, in batches of the same size, with the same `synchronous`,
measured in turn with ours.
Ends with 1 if a target is missed.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import orjson
from capture import machine
from store_data import HEAVY, Talk

from reflexio_middleware.delivery.spool import FileSpool
from reflexio_store.models import GetRequestsRequest, SearchInteractionRequest
from reflexio_store.records import TurnRecord
from reflexio_store.sql.dialects.sqlite_driver import driver
from reflexio_store.sql.home import SqlStore
from reflexio_store.sql.listing import _page
from reflexio_store.sql.rows import interaction_rows, request_row

BATCHES = (1, 16, 100, 256)
SHARE_OF_RAW = 0.6
PAGE = 50
_RAW = (
    f"INSERT INTO reflexio_request VALUES ({', '.join('?' * 13)}) ON CONFLICT DO NOTHING",
    f"INSERT INTO reflexio_interaction VALUES ({', '.join('?' * 16)})",
    f"INSERT INTO reflexio_unlearned VALUES ({', '.join('?' * 6)})",
    "INSERT INTO reflexio_session VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET last_at_us = excluded.last_at_us, "
    "n_requests = n_requests + excluded.n_requests",
    f"INSERT INTO reflexio_job VALUES ({', '.join('?' * 12)}) ON CONFLICT DO UPDATE SET "
    "generation = generation + excluded.generation",
)


class Report:
    """Prints lines and knows whether every target was met."""

    def __init__(self) -> None:
        self.met = True

    def verdict(self, good: bool, target: str) -> str:
        """What is said of a target."""
        self.met &= good
        return f"{target}: {'met' if good else 'MISSED'}"

    def times(self, title: str, seconds: Sequence[float], target: float | None = None, of: str = "p50") -> None:
        """A line of milliseconds; the target is of the ``p50``, the ``p99`` or the ``max``."""
        ordered = sorted(seconds)
        shown = {
            "p50": statistics.median(ordered),
            "p99": ordered[round(0.99 * (len(ordered) - 1))],
            "max": ordered[-1],
        }
        said = "" if target is None else self.verdict(shown[of] * 1000 <= target, f"{of} at most {target:g} ms")
        numbers = "".join(f"{value * 1000:>10.3f}" for value in shown.values())
        print(f"{title:<58}{len(ordered):>7}{numbers}  {said}".rstrip())


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    report, talk = Report(), Talk()
    print(f"{machine()}, SQLite {driver.sqlite_version} ({driver.__name__})")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        storing(report, talk, folder, options.rounds)
        with closing(SqlStore(f"sqlite:///{folder / 'large.db'}")) as store:
            heavy = filled(store, talk, options.requests)
            print(f"\n{'(ms)':<58}{'times':>7}{'p50':>10}{'p99':>10}{'max':>10}  target")
            reading(report, store, heavy)
            deleting(report, store, talk, heavy)
            deleting_a_user(report, store, talk, folder / "large.db", heavy)
        spooling(report, talk, folder / "spool")
    sys.exit(0 if report.met else 1)


def storing(report: Report, talk: Talk, folder: Path, rounds: int) -> None:
    """add_turns beside the driver alone."""
    columns = "".join(f"{name:>11}" for name in ("raw", "ours", "turns/s", "share"))
    print(f"\nStoring (ms; median of {rounds})\n{'synchronous, turns in a batch':<32}{columns}  target")
    for synchronous in ("normal", "full"):
        for size in BATCHES:
            turns = talk.turns(3000 if size > 1 else 500)
            raw, ours = [], []
            for _ in range(rounds):
                raw.append(_stored_raw(turns, size, synchronous, folder))
                ours.append(_stored(turns, size, synchronous, folder))
            floor, mine = statistics.median(raw), statistics.median(ours)
            said = report.verdict(floor / mine >= SHARE_OF_RAW, f"at least {SHARE_OF_RAW}") if size >= 100 else ""
            numbers = f"{floor * 1000:>11.1f}{mine * 1000:>11.1f}{len(turns) / mine:>11,.0f}{floor / mine:>11.2f}"
            print(f"{synchronous + ', ' + str(size):<32}{numbers}  {said}".rstrip())


def _stored(turns: Sequence[TurnRecord], size: int, synchronous: str, folder: Path) -> float:
    with _fresh(folder) as path, closing(SqlStore(f"sqlite:///{path}?synchronous={synchronous}")) as store:
        store.add_turns(turns[:1])
        return _timed(lambda: [store.add_turns(part, learn_after=60.0) for part in _batches(turns, size)])


def _stored_raw(turns: Sequence[TurnRecord], size: int, synchronous: str, folder: Path) -> float:
    with _fresh(folder) as path:
        SqlStore(f"sqlite:///{path}").close()
        with closing(driver.connect(path, isolation_level=None)) as connection:
            for pragma in (f"synchronous = {synchronous}", "foreign_keys = ON", "secure_delete = ON"):
                connection.execute(f"PRAGMA {pragma}")
            batches = [_rows(part) for part in _batches(turns, size)]

            def store(rows: list[list[Any]]) -> None:
                connection.execute("BEGIN IMMEDIATE")
                for statement, some in zip(_RAW, rows, strict=True):
                    connection.executemany(statement, some)
                connection.execute("COMMIT")

            return _timed(lambda: [store(rows) for rows in batches])


def _rows(turns: Sequence[TurnRecord]) -> list[list[Any]]:
    sessions: dict[tuple[str, str], list[Any]] = {}
    for turn in turns:
        at = turn.created_at_us
        sessions.setdefault((turn.user_id, turn.session_id), [turn.user_id, turn.session_id, at, at, 0])[4] += 1
    jobs = [
        (user, "learn", name, "ready", 0, 0, row[4], "", 0, "", None, None) for (user, name), row in sessions.items()
    ]
    interactions = [row for turn in turns for row in interaction_rows(turn)]
    unread = [(turn.user_id, turn.session_id, "", turn.request_id, 4, False) for turn in turns]
    return [[request_row(turn) for turn in turns], interactions, unread, list(sessions.values()), jobs]


def filled(store: SqlStore, talk: Talk, requests: int) -> int:
    """Fill the store; how many sessions the heavy user has."""
    heavy = min(4000, requests // 50)
    began, spent = time.perf_counter(), 0.0
    for turns in talk.history(requests, heavy, users=max(1, requests // 1000)):
        spent += _timed(lambda: store.add_turns(turns, learn_after=None))  # noqa: B023 - called at once
    counts = store.counts()
    print(f"\nFilled: {counts['requests']:,} requests in {counts['sessions']:,} sessions, {heavy:,} of one user: "
          f"{requests / spent:,.0f} requests/s ({time.perf_counter() - began:.0f} s with making them)")  # fmt: skip
    return heavy


def reading(report: Report, store: SqlStore, heavy: int) -> None:
    """Listing and paging."""
    for title, user in (("newest 50 session ids, of all", None), ("newest 50 session ids, of the heavy user", HEAVY)):
        statement = _page(GetRequestsRequest(user_id=user), None).limit(PAGE)
        report.times(title, _many(200, lambda: _run(store, statement)), 1.0)  # noqa: B023
    query = GetRequestsRequest(user_id=HEAVY, top_k=20)
    report.times("newest 20 sessions of the heavy user, whole", _many(100, lambda: store.get_requests(query)), 10.0)
    pages = list(_paged(store))
    first, last = pages[1:21], pages[-21:-1]
    report.times(f"a page of {PAGE} sessions: pages 2 to 21", first)
    report.times(f"a page of {PAGE} sessions: pages {len(pages) - 20:,} to {len(pages) - 1:,}", last)
    ratio = statistics.median(last) / statistics.median(first)
    print(f"{'  the last beside the first':<58}{ratio:>17.2f}{'':>20}  {report.verdict(ratio <= 1.25, 'at most 1.25')}")


def _run(store: SqlStore, statement: Any) -> None:
    with store._database.read() as connection:
        connection.execute(statement).all()


def _paged(store: SqlStore) -> Iterator[float]:
    cursor: str | None = None
    while True:
        began = time.perf_counter()
        page = store.get_requests(GetRequestsRequest(top_k=PAGE, cursor=cursor))
        yield time.perf_counter() - began
        cursor = page.next_cursor
        if cursor is None:
            return


def deleting(report: Report, store: SqlStore, talk: Talk, heavy: int) -> None:
    """One session, before and after the messages of the heavy user are in the full text."""
    count = min(40, heavy // 10)
    names = iter([f"heavy-{number}" for number in range(2 * count)])
    times = _many(count, lambda: store.delete_session(next(names), user_id=HEAVY))
    report.times("delete a session of 10 requests", times, 10.0)
    seconds = _timed(lambda: store.search_interactions(SearchInteractionRequest(user_id=HEAVY, query=talk.text())))
    print(f"the first search of the heavy user, which indexes the newest 1,000 requests, took {seconds:.1f} s")
    times = _many(count, lambda: store.delete_session(next(names), user_id=HEAVY))
    report.times("delete a session of 10 requests, indexed", times, 10.0)
    seconds = _timed(lambda: store.wait_for_compaction(600.0))
    print(f"nothing of them was left in the pages of the full text {seconds:.1f} s later")


def deleting_a_user(report: Report, store: SqlStore, talk: Talk, path: Path, heavy: int) -> None:
    """All of the heavy user, while others store turns."""
    context = multiprocessing.get_context("spawn")
    stop, times = context.Event(), context.Queue()
    other = context.Process(target=_write_on, args=(str(path), stop, times))
    other.start()
    times.get()  # it is there
    ended, own = threading.Event(), list[float]()
    beside = threading.Thread(target=lambda: own.extend(_writes(store, talk, ended.is_set)))
    beside.start()
    receipt = None

    def delete() -> None:
        nonlocal receipt
        receipt = store.delete_user(HEAVY)

    seconds = _timed(delete)
    after = _timed(lambda: store.wait_for_compaction(600.0))
    ended.set()
    stop.set()
    waits = times.get()
    beside.join()
    other.join()
    print(f"{receipt}\n  in {seconds:.1f} s, and out of the pages of the full text {after:.1f} s later; meanwhile:")
    report.times("storing one turn, another process", waits, 100.0, "max")
    report.times("storing one turn, another thread of this process", own, 100.0, "max")


def _write_on(path: str, stop: Any, times: Any) -> None:
    with closing(SqlStore(f"sqlite:///{path}")) as store:
        talk = Talk()
        store.add_turns([talk.turn("writer", "first")])
        times.put("ready")
        times.put(list(_writes(store, talk, stop.is_set)))


def _writes(store: SqlStore, talk: Talk, over: Callable[[], bool]) -> Iterator[float]:
    while not over():
        turn = talk.turn("writer", "s")
        yield _timed(lambda: store.add_turns([turn]))  # noqa: B023
        time.sleep(0.002)


def spooling(report: Report, talk: Talk, folder: Path) -> None:
    """One process appends turns while eight others do, each some 500 in a second."""
    payload = orjson.dumps(talk.turn("ann", "s1"))
    context = multiprocessing.get_context("spawn")
    stop, ready = context.Event(), context.Queue()
    others = [context.Process(target=_append_on, args=(str(folder), payload, stop, ready)) for _ in range(8)]
    print(
        f"\n{f'Spool, a turn of {len(payload):,} bytes (ms)':<58}{'times':>7}{'p50':>10}{'p99':>10}{'max':>10}  target"
    )
    with _spool(folder) as spool:
        report.times("append, alone", _paced(spool, payload, 2000))
    for other in others:
        other.start()
    for _ in others:
        ready.get()
    with _spool(folder) as spool:
        seconds = _paced(spool, payload, 4000)
    stop.set()
    for other in others:
        other.join()
    report.times("append, while 8 other processes do", seconds, 0.02)
    report.times("append, while 8 other processes do", seconds, 1.0, "p99")


def _append_on(folder: str, payload: bytes, stop: Any, ready: Any) -> None:
    with _spool(Path(folder)) as spool:
        ready.put("ready")
        while not stop.is_set():
            _paced(spool, payload, 50)


@contextmanager
def _spool(folder: Path) -> Iterator[FileSpool]:
    spool = FileSpool(folder)
    yield spool
    spool.forget(spool.pending)
    spool.close()


def _paced(spool: FileSpool, payload: bytes, count: int) -> list[float]:
    seconds = []
    for _ in range(count):
        seconds.append(_timed(lambda: spool.append(payload)))
        time.sleep(0.002)
    return seconds


@contextmanager
def _fresh(folder: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=folder) as name:
        yield Path(name) / "home.db"


def _batches(turns: Sequence[TurnRecord], size: int) -> Iterable[Sequence[TurnRecord]]:
    return [turns[start : start + size] for start in range(0, len(turns), size)]


def _many(count: int, call: Callable[[], object]) -> list[float]:
    return [_timed(call) for _ in range(count)]


def _timed(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
