"""Workers on one store: what a turn costs in sessions of any length, jobs per second, and what SIGKILLs cost.

    python tests/benchmarks/workers.py [--store postgresql://...] [--jobs 400] [--kills 50]

Each worker is a process of its own, as on several machines; each job learns from one session by statements. The floor
is one process that does the same without anybody beside it. Of the killed: *lost* are sessions of which nothing was
learned in the end, *twice* those of which an effect shows twice (a second learning, or a second piece of evidence).
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.table import Table

from reflexio_middleware.learning.doing import Doer
from reflexio_middleware.learning.setup import readers_of, steps_of
from reflexio_middleware.settings import read_settings
from reflexio_store import ids
from reflexio_store.contract import Store
from reflexio_store.homes import open_store
from reflexio_store.models import LearningQuery, UserProfile
from reflexio_store.records import InteractionRecord, TurnRecord

WORKERS = (1, 2, 4, 8)
LEASE_SECONDS = 2.0
WORKER = """
import sys, time
from reflexio_middleware.learning.service import WorkerService
from reflexio_middleware.learning.setup import readers_of, steps_of
from reflexio_middleware.settings import read_settings
from reflexio_store.homes import open_store
settings = read_settings(store=sys.argv[1])
store = open_store(settings.store)
steps = steps_of(readers_of(("statements",), settings), settings)
service = WorkerService(store, steps, drain=sys.argv[2] == "drain", lease_seconds=float(sys.argv[3]))
print("ready", flush=True)
sys.stdin.readline()
began = time.process_time()
service.run()
print(time.process_time() - began)
"""


_LETTERS = str.maketrans("0123456789", "bcdfghjklm")


def fill(store: Store, jobs: int, prefix: str) -> None:
    """Sessions of as many users, each with one thing to learn."""
    for start in range(0, jobs, 200):
        store.add_turns([_turn(f"{prefix}{number}") for number in range(start, min(jobs, start + 200))])


def _turn(user: str) -> TurnRecord:
    name = "Ann" + user.translate(_LETTERS)  # what has digits is not taken for a name
    said = [
        InteractionRecord("user", f"Hello. My name is {name}. What can you do for me?", int(time.time())),
        InteractionRecord("assistant", "Hello! I can look up flights and hotels.", int(time.time())),
    ]
    return TurnRecord(ids.uuid7(), user, "s", "v1", "", time.time_ns() // 1000, said)


def lengths(to: Console, sizes: tuple[int, ...] = (10, 100, 1000)) -> None:
    """A table of processor time that learning from one new turn takes, by how long its session is already."""
    table = Table("turns before", "median ms", "max ms", title="learning from one more turn (processor time)")
    with home(None) as url, contextlib.closing(open_store(url)) as store:
        settings = read_settings(store=url)
        doer = Doer(steps_of(readers_of(("statements",), settings), settings))
        for size in sizes:
            user = f"long{size}"
            store.add_turns([_turn(user) for _ in range(size)])
            while doer.do_one(store):
                pass
            taken = []
            for _ in range(50):
                store.add_turns([_turn(user)])
                began = time.thread_time()
                assert doer.do_one(store)
                taken.append(1000 * (time.thread_time() - began))
            table.add_row(str(size), f"{statistics.median(taken):.1f}", f"{max(taken):.1f}")
    to.print(table)


def started(url: str, mode: str) -> subprocess.Popen[str]:
    """A worker that has opened the store, and waits for a line to begin."""
    command = [sys.executable, "-c", WORKER, url, mode, str(LEASE_SECONDS)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def go(process: subprocess.Popen[str]) -> None:
    """Let a worker begin."""
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()


def rate(url: str, jobs: int, workers: int) -> tuple[float, float, float]:
    """Jobs per second, the seconds it took, and the processor seconds of the workers (the first jobs of a process have
    statements to compile; beyond the number of cores, workers share them)."""
    with contextlib.closing(open_store(url)) as store:
        fill(store, jobs, f"w{workers}-")
        processes = [started(url, "drain") for _ in range(workers)]
        began = time.perf_counter()
        for process in processes:
            go(process)
        while sum(store.backlog().values()):
            time.sleep(0.02)
        took = time.perf_counter() - began
    spent = sum(float(process.communicate()[0]) for process in processes)
    return jobs / took, took, spent


def killed(url: str, jobs: int, kills: int, workers: int = 8) -> tuple[int, int, float]:
    """Sessions lost, sessions with a double effect, and the seconds until all was done."""
    random.seed(7)
    with contextlib.closing(open_store(url)) as store:
        fill(store, jobs, "k")
        processes = [started(url, "stay") for _ in range(workers)]
        began = time.perf_counter()
        for process in processes:
            go(process)
        done = 0
        while done < kills:
            time.sleep(random.uniform(0.01, 0.15))
            place = random.randrange(workers)
            processes[place].kill()
            processes[place].communicate()
            processes[place] = started(url, "stay")
            go(processes[place])
            done += 1
            if sum(store.backlog().values()) < workers:  # keep them busy until the last kill
                fill(store, 50, f"more{done}-")
                jobs += 50
        while sum(store.backlog().values()):
            time.sleep(0.05)
        took = time.perf_counter() - began
        for process in processes:
            process.kill()
            process.communicate()
        learned = [_effects(store, user) for user in store.user_ids() if user.startswith(("k", "more"))]
    assert len(learned) == jobs
    return learned.count(0), sum(effects > 1 for effects in learned), took


def _effects(store: Store, user: str) -> int:
    found = store.get_learnings("profile", LearningQuery(user_id=user))
    return sum(len(item.evidence) for item in found if isinstance(item, UserProfile))


@contextlib.contextmanager
def home(url: str | None) -> Iterator[str]:
    """The store under test; a new SQLite file where none is given."""
    if url is not None:
        yield url
        return
    with tempfile.TemporaryDirectory() as folder:
        yield f"sqlite:///{Path(folder) / 'm.db'}"


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--store")
    parser.add_argument("--jobs", type=int, default=400)
    parser.add_argument("--kills", type=int, default=50)
    given = parser.parse_args()
    to = Console()
    to.print(f"{platform.python_implementation()} {platform.python_version()}, {os.cpu_count()} cores")
    lengths(to)
    columns = ("workers (processes)", "jobs", "seconds", "jobs/s", "of one", "processor ms/job")
    table = Table(*columns, title="jobs per second")
    first = 0.0
    for workers in WORKERS:
        with home(given.store) as url:
            speed, took, spent = rate(url, given.jobs, workers)
        first = first or speed
        table.add_row(
            str(workers),
            str(given.jobs),
            f"{took:.2f}",
            f"{speed:.0f}",
            f"{speed / first:.2f}",
            f"{1000 * spent / given.jobs:.1f}",
        )
    to.print(table)
    with home(given.store) as url:
        lost, twice, took = killed(url, given.jobs, given.kills)
    to.print(f"{given.kills} SIGKILLs among 8 workers: {lost} lost, {twice} twice, all done after {took:.1f} s")


if __name__ == "__main__":
    main()
