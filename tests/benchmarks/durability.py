"""What is lost when processes are killed, or many publish at once: nothing, in any home.

    python tests/benchmarks/durability.py [--home sqlite] [--rounds 200] [--turns 10000]

A round: a process publishes from eight threads and is killed at a random moment; the next process takes over what it
left, and must list every request that was acknowledged, once, with its four interactions. Then 16 processes publish at
once. Ends with 1 if anything was lost, stored twice or refused.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from capture import machine

PROCESSES = 16
sys.path.insert(0, str(Path(__file__).parents[2]))  # for the server that the tests start
_CHILD = Path(__file__).with_name("durability_child.py")
_LATEST = 0.6
"""Seconds after its first turn at which a process is killed at the latest."""


@dataclass(frozen=True)
class Place:
    """Where a home and its spools are. ``disturb`` is called while processes publish: to kill a server, for one."""

    url: str
    spool: Path
    disturb: Callable[[], None] = lambda: None


@contextlib.contextmanager
def sqlite(folder: Path) -> Iterator[Place]:
    """A file."""
    yield Place(f"sqlite:///{folder / 'home.db'}", folder / "spool")


@contextlib.contextmanager
def postgresql(folder: Path) -> Iterator[Place]:
    """A database of a server that waits for the disk."""
    from tests.store.postgres import Server

    with Server(durable=True) as server:
        yield Place(server.url(), folder / "spool")


@contextlib.contextmanager
def remote(folder: Path) -> Iterator[Place]:
    """A server of the tests that keeps its data in a file, and is killed and started again in each round."""
    running: list[subprocess.Popen[str]] = []

    def start() -> None:
        command = [
            sys.executable,
            "-m",
            "tests.reflexio_server",
            "--port",
            str(port),
            "--data",
            str(folder / "server.db"),
        ]
        process = subprocess.Popen(command, cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        process.stdout.readline()
        running[:] = [process]

    def end() -> None:
        for process in running:
            process.kill()
            process.communicate()

    def again() -> None:
        end()
        start()

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    start()
    try:
        yield Place(f"http://127.0.0.1:{port}", folder / "spool", again)
    finally:
        end()


HOMES: dict[str, Callable[[Path], AbstractContextManager[Place]]] = {
    "sqlite": sqlite,
    "postgresql": postgresql,
    "remote": remote,
}
"""By the name of the option, a place that lasts as long as it is entered."""


@dataclass
class Tally:
    """What became of turns."""

    acknowledged: int = 0
    lost: int = 0
    twice: int = 0
    torn: int = 0
    refused: int = 0

    @property
    def clean(self) -> bool:
        """Whether nothing went wrong."""
        return not (self.lost or self.twice or self.torn or self.refused)

    def compare(self, acknowledged: set[str], stored: Counter[str], torn: int) -> None:
        """Take in what one session should hold and what it does."""
        self.acknowledged += len(acknowledged)
        self.lost += len(acknowledged - stored.keys())
        self.twice += sum(count - 1 for count in stored.values())
        self.torn += torn

    def show(self, title: str, seconds: float) -> None:
        """Print a line."""
        print(f"{title}: {self.acknowledged:,} turns acknowledged; lost {self.lost}, stored twice {self.twice}, "
              f"torn {self.torn}, refused {self.refused}; {seconds:.0f} s")  # fmt: skip


def killed(place: Place, rounds: int) -> Tally:
    """The rounds of killing."""
    tally, chance = Tally(), random.Random(7)
    for number in range(rounds):
        session = f"round-{number}"
        acknowledged = _killed_once(place, session, chance.uniform(0.0, _LATEST))
        tally.compare(acknowledged, *_stored(place, session))
        print("." if tally.clean else "!", end="", file=sys.stderr, flush=True)
    return tally


def _killed_once(place: Place, session: str, after: float) -> set[str]:
    with _child("publish", place, session) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(after)
        place.disturb()
        process.send_signal(signal.SIGKILL)
        return {line.strip() for line in process.stdout if line.endswith("\n")}


def _stored(place: Place, session: str) -> tuple[Counter[str], int]:
    """The requests of a session, as the next process lists them, and how many of them lack interactions."""
    with _child("stored", place, session) as process:
        assert process.stdout is not None
        rows = [line.split() for line in process.stdout]
        assert process.wait() == 0
    return Counter(request_id for request_id, _ in rows), sum(count != "4" for _, count in rows)


def at_once(place: Place, turns: int) -> Tally:
    """Many processes that publish at once."""
    tally = Tally()
    each = turns // PROCESSES
    with contextlib.ExitStack() as stack:
        processes = [stack.enter_context(_child("some", place, "at-once", str(each))) for _ in range(PROCESSES)]
        place.disturb()
        for process in processes:
            assert process.stdout is not None
            tally.refused += int(process.stdout.read())
            tally.refused += process.wait() != 0
    stored, torn = _stored(place, "at-once")
    tally.compare(set(), stored, torn)
    tally.acknowledged = each * PROCESSES
    tally.lost = tally.acknowledged - len(stored)
    return tally


def _child(command: str, place: Place, session: str, *more: str) -> subprocess.Popen[str]:
    environment = os.environ | {"REFLEXIO_SPOOL_DIR": str(place.spool)}
    program = [sys.executable, _CHILD, command, place.url, session, *more]
    return subprocess.Popen(program, env=environment, stdout=subprocess.PIPE, text=True)


def main() -> None:
    """Print a line for each home and trial."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", choices=[*HOMES, "all"], default="all")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--turns", type=int, default=10_000)
    options = parser.parse_args()
    print(machine())
    clean = True
    for name in HOMES if options.home == "all" else [options.home]:
        with tempfile.TemporaryDirectory() as folder, HOMES[name](Path(folder)) as place:
            trials = {
                f"{options.rounds} rounds of SIGKILL": lambda place=place: killed(place, options.rounds),
                f"{PROCESSES} processes at once": lambda place=place: at_once(place, options.turns),
            }
            for title, trial in trials.items():
                began = time.monotonic()
                tally = trial()
                clean &= tally.clean
                print(file=sys.stderr)
                tally.show(f"{name}, {title}", time.monotonic() - began)
    sys.exit(0 if clean else 1)


if __name__ == "__main__":
    main()
