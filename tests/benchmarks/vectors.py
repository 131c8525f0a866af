"""What a search by meaning costs one user with many vectors: at first, from memory, and after one more was added.

    python -m tests.benchmarks.vectors [--sizes 1000 10000] [--postgres]

With ``--postgres``, on a server of its own, and beside it what pgvector takes in the same server: compared with all
vectors of the user, and by an HNSW index over those of all users.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import Connection, text

from reflexio_store.contract import Meaning
from reflexio_store.homes import open_store
from reflexio_store.models import LearningQuery, UserProfile
from reflexio_store.sql.home import SqlStore
from tests.store.postgres import Server

SIZE, AT_ONCE, RUNS = 384, 5_000, 7
TOP = 30
RANDOM = np.random.default_rng(7)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("--postgres", action="store_true")
    given = parser.parse_args()
    print(f"{platform.machine()}, Python {platform.python_version()}, NumPy {np.__version__}; {SIZE} numbers each;")
    print(f"medians of {RUNS}, in ms (processor time of this process)\n")
    if given.postgres:
        with Server() as server:
            server.make_template()
            with server.database() as url:
                measure(url, given.sizes)
                with_pgvector(url, given.sizes)
    else:
        with tempfile.TemporaryDirectory() as folder:
            measure(f"sqlite:///{Path(folder) / 'memory.db'}", given.sizes)


def measure(url: str, sizes: list[int]) -> None:
    """The searches as they are."""
    with closing(open_store(url)) as store:
        assert isinstance(store, SqlStore)
        for size in sizes:
            fill(store, f"user-{size}", size)
    print("| vectors of the user | first search | from memory | after one more | memory |\n|---|---|---|---|---|")
    for size in sizes:
        user = f"user-{size}"
        first = []
        for _ in range(3):
            with closing(open_store(url)) as store:
                first.append(timed(partial(search, store, user)))
        with closing(open_store(url)) as store:
            assert isinstance(store, SqlStore)
            search(store, user)
            warm = [timed(partial(search, store, user)) for _ in range(RUNS)]
            more = []
            for _ in range(RUNS):
                fill(store, user, 1)
                more.append(timed(partial(search, store, user)))
        print(f"| {size:,} | {told(first)} | {told(warm)} | {told(more)} | {size * (SIZE * 4 + 8) / 1e6:.1f} MB |")


def fill(store: SqlStore, user: str, size: int) -> None:
    """Give a user so many more profiles with vectors."""
    for start in range(0, size, AT_ONCE):
        number = min(AT_ONCE, size - start)
        store.add_learnings([UserProfile(user_id=user, content=f"fact {start + n}") for n in range(number)])
        lacking = store.unembedded("m", limit=number)
        store.put_vectors("m", {item.number: RANDOM.normal(size=SIZE).tolist() for item in lacking})


def search(store: Any, user: str) -> None:
    """One search by meaning alone."""
    asked = LearningQuery(user_id=user, query="", top_k=TOP)
    found = store.search({"profile": asked}, meaning=Meaning("m", RANDOM.normal(size=SIZE).tolist()), mode="vector")
    assert len(found["profile"]) == TOP


def with_pgvector(url: str, sizes: list[int]) -> None:
    """The same vectors in a table of pgvector."""
    with closing(open_store(url)) as store:
        assert isinstance(store, SqlStore)
        with store._database.write() as connection:  # what is measured is no part of the store
            copy_vectors(connection)
        print("\n| vectors of the user | pgvector, all compared | HNSW | found of 30 | HNSW, until enough | found |")
        print("|---" * 6 + "|")
        exact = {size: server_search(store, size) for size in sizes}
        began = time.perf_counter()
        with store._database.write() as connection:
            connection.execute(text("SET LOCAL maintenance_work_mem = '512MB'"))
            connection.execute(text("CREATE INDEX near ON by_pgvector USING hnsw (vector vector_cosine_ops)"))
            took = time.perf_counter() - began
            index = connection.execute(text("SELECT pg_size_pretty(pg_relation_size('near'))")).scalar()
        for size in sizes:
            times, found = server_search(store, size)
            longer, more = server_search(store, size, "SET LOCAL hnsw.iterative_scan = strict_order")
            print(f"| {size:,} | {exact[size][0]} | {times} | {found} | {longer} | {more} |")
        print(f"\nThe index took {took:.0f} s to build, and {index}.")


def copy_vectors(connection: Connection) -> None:
    connection.execute(text("CREATE EXTENSION vector"))
    connection.execute(text(f"CREATE TABLE by_pgvector (owner text, row bigint, vector vector({SIZE}))"))
    connection.execute(text("CREATE INDEX ON by_pgvector (owner)"))
    rows = connection.execute(text("SELECT owner, row, vector FROM reflexio_vector")).all()
    driver: Any = connection.connection.driver_connection
    with driver.cursor() as cursor, cursor.copy("COPY by_pgvector FROM STDIN") as copy:
        for owner, row, packed in rows:
            copy.write_row((owner, row, str(np.frombuffer(packed, "<f4").tolist())))


def server_search(store: SqlStore, size: int, first: str = "SELECT 1") -> tuple[str, int]:
    """What a search in the server takes, and how many it found."""
    statement = text(
        "SELECT row FROM by_pgvector WHERE owner = :owner ORDER BY vector <=> CAST(:asked AS vector) LIMIT :most"
    )
    found = 0

    def run() -> None:
        nonlocal found
        given = {"owner": f"user-{size}", "asked": str(RANDOM.normal(size=SIZE).tolist()), "most": TOP}
        with store._database.read() as connection:
            connection.execute(text(first))
            found = len(connection.execute(statement, given).all())

    return told([timed(run) for _ in range(RUNS)]), found


def timed(call: Callable[[], None]) -> tuple[float, float]:
    """Milliseconds by the wall, and of the processor."""
    wall, processor = time.perf_counter(), time.process_time()
    call()
    return (time.perf_counter() - wall) * 1e3, (time.process_time() - processor) * 1e3


def told(times: list[tuple[float, float]]) -> str:
    walls, processor = zip(*times, strict=True)
    return f"{statistics.median(walls):.1f} ({statistics.median(processor):.1f})"


if __name__ == "__main__":
    main()
