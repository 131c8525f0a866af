"""What the PostgreSQL home costs: storing beside raw COPY of the same rows, listing and deleting in a filled one.

    python -m tests.benchmarks.store_postgres [--requests 100000]

A server of its own with its default settings (it waits for the disk), one connection, requests of 4 messages, 10
requests to a session. Storing and COPY take turns, each in a database of its own with the same tables and indexes.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import closing

import psycopg

from reflexio_store import ids
from reflexio_store.contract import Store
from reflexio_store.homes import open_store
from reflexio_store.models import GetRequestsRequest
from reflexio_store.records import InteractionRecord, TurnRecord
from reflexio_store.sql.rows import interaction_rows, request_row
from reflexio_store.sql.tables import INTERACTION, JOB, REQUEST, SESSION, UNLEARNED
from tests.store.postgres import Server

_TEXT = "The deploy failed again because the staging database was locked by a migration that nobody had announced. "
_SESSION, _USERS = 10, 500


def turns(count: int) -> Iterator[TurnRecord]:
    """Turns, ten to a session, by users who come again and again."""
    for number in range(count):
        session = number // _SESSION
        spoken = [
            InteractionRecord("User" if place % 2 == 0 else "Assistant", f"{_TEXT * 2}{number}", 1_700_000_000 + number)
            for place in range(4)
        ]
        at_us = 1_700_000_000_000_000 + number * 1_000_000
        yield TurnRecord(ids.uuid7(), f"user{session % _USERS}", f"s{session}", "v1", "web_app", at_us, spoken)


def timed(work: Callable[[], object]) -> float:
    """Seconds that it takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def copy(connection: psycopg.Connection[tuple[object, ...]], batch: list[TurnRecord]) -> Callable[[], None]:
    """What puts all rows of a batch, ready made, into the tables by COPY alone, in one transaction."""
    names = {(turn.user_id, turn.session_id): (turn.created_at_us, turn.request_id) for turn in batch}
    tables = (
        (REQUEST, [request_row(turn) for turn in batch]),
        (INTERACTION, [row for turn in batch for row in interaction_rows(turn)]),
        (UNLEARNED, [(turn.user_id, turn.session_id, "", turn.request_id, 4, False) for turn in batch]),
        (SESSION, [(user, f"{name} {last}", at_us, at_us, 1) for (user, name), (at_us, last) in names.items()]),
        (
            JOB,
            [(user, "learn", last, "ready", 0, 0, 1, "", 0, "", None, None) for (user, _), (_, last) in names.items()],
        ),
    )

    def run() -> None:
        with connection.cursor() as cursor:
            for table, rows in tables:
                names = ", ".join(column.name for column in table.columns)
                with cursor.copy(f"COPY {table.name} ({names}) FROM STDIN".encode()) as into:
                    for row in rows:
                        into.write_row(row)
        connection.commit()

    return run


def storing(store: Store, raw: psycopg.Connection[tuple[object, ...]], made: Iterator[TurnRecord], total: int) -> None:
    """Fill both, batch by batch, in turns."""
    print(f"{'storing, batches of':<22}{'requests/s':>12}{'raw COPY':>12}{'ratio':>8}{'p50 ms':>9}{'p99 ms':>9}")
    for size, share in ((1, 0.01), (10, 0.04), (100, 0.35), (1000, 0.6)):
        ours: list[float] = []
        floor: list[float] = []
        for _ in range(max(3, int(total * share / size))):
            batch = [next(made) for _ in range(size)]
            ours.append(timed(lambda batch=batch: store.add_turns(batch)))
            floor.append(timed(copy(raw, batch)))
        rate, most = (size / statistics.median(times) for times in (ours, floor))
        p50, p99 = (sorted(ours)[int(len(ours) * share)] * 1000 for share in (0.5, 0.99))
        print(f"{size:<22}{rate:>12,.0f}{most:>12,.0f}{rate / most:>8.2f}{p50:>9.2f}{p99:>9.2f}")


def reading(store: Store) -> None:
    """Listing in the filled home, and deleting from it."""
    names = iter(range(10**6))
    first = store.get_requests(GetRequestsRequest(top_k=50))
    works: dict[str, tuple[int, Callable[[], object]]] = {
        "newest 50 sessions with everything": (40, lambda: store.get_requests(GetRequestsRequest(top_k=50))),
        "their next page": (40, lambda: store.get_requests(GetRequestsRequest(top_k=50, cursor=first.next_cursor))),
        "newest 20 sessions of a user": (
            100,
            lambda: store.get_requests(GetRequestsRequest(top_k=20, user_id=f"user{next(names) % _USERS}")),
        ),
        "one session": (100, lambda: store.read_session(f"user{(number := next(names)) % _USERS}", f"s{number}")),
        "delete a session of 10 requests": (
            60,
            lambda: store.delete_session(f"s{(number := next(names))}", user_id=f"user{number % _USERS}"),
        ),
    }
    print(f"{'in a filled home':<40}{'p50 ms':>9}{'p99 ms':>9}")
    for name, (rounds, work) in works.items():
        times = sorted(timed(work) for _ in range(rounds))
        print(f"{name:<40}{times[rounds // 2] * 1000:>9.2f}{times[int(rounds * 0.99)] * 1000:>9.2f}")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=100_000, help="how many to store in all")
    total = parser.parse_args().requests
    with Server(durable=True) as server:
        server.make_template()
        version = server.sql("SHOW server_version")[0][0]
        print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, PostgreSQL {version}")
        with (
            server.database() as ours,
            server.database() as floor,
            closing(open_store(ours)) as store,
            psycopg.connect(floor) as raw,
        ):
            storing(store, raw, turns(2 * total), total)
            server.sql("ANALYZE", ours.rpartition("/")[2])
            counts = store.counts()
            print(f"\n{counts['requests']:,} requests in {counts['sessions']:,} sessions")
            reading(store)


if __name__ == "__main__":
    main()
