"""Scripts in processes of their own, for what can only be seen from outside of a process: how it ends, what it leaves.
from reflexio_store.sql.dialects.sqlite_driver import driver as sqlite3

A script begins with an ``agent`` that is captured; its store is ``memory.db`` in the folder of the test.
"""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import reflexio_middleware as reflexio
from reflexio_store.sql.dialects.sqlite_driver import driver as sqlite3

BEGINNING = """
import os, sys, threading, time
import reflexio_middleware as reflexio
from reflexio_store.sql.dialects.sqlite_driver import driver as sqlite3

@reflexio.capture
def agent(text):
    return f"answer to {text}"

def talk(*texts):
    with reflexio.session("s", user_id="ann"):
        for text in texts:
            agent(text)

def main_is_over():
    print("OVER", time.monotonic(), flush=True)

"""


@dataclass(frozen=True)
class Ended:
    """How a script ended. ``after_main``: seconds from :func:`main_is_over` to the end of the process."""

    code: int
    out: str
    err: str
    after_main: float


def start(source: str, folder: Path, *, before: str = "", **settings: object) -> subprocess.Popen[str]:
    """Start a script (``before`` runs ahead of everything); ``settings`` are those of ``REFLEXIO_*``."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("REFLEXIO_")}
    environment["REFLEXIO_STORE"] = f"sqlite:///{folder / 'memory.db'}"
    environment |= {f"REFLEXIO_{name.upper()}": str(value) for name, value in settings.items()}
    code = textwrap.dedent(before) + BEGINNING + textwrap.dedent(source)
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-W", "ignore::DeprecationWarning", "-c", code],
        env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def wait(process: subprocess.Popen[str]) -> Ended:
    """Wait for a script to end."""
    try:
        out, err = process.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        raise AssertionError(f"the script did not end:\n{out}\n{err}") from None
    ended = time.monotonic()
    over = [float(line.split()[1]) for line in out.splitlines() if line.startswith("OVER")]
    return Ended(process.returncode, out, err, ended - over[-1] if over else 0.0)


def run(source: str, folder: Path, *, before: str = "", **settings: object) -> Ended:
    """Run a script to its end."""
    return wait(start(source, folder, before=before, **settings))


def said_in(folder: Path) -> list[str]:
    """What users said in the store of ``folder``, as the next process finds it; each turn is there once."""
    with reflexio.ReflexioClient(f"sqlite:///{folder / 'memory.db'}", learning="off") as client:
        assert client.flush(30).complete
        page = client.get_requests(top_k=500)
        sessions = page.sessions
        while page.next_cursor is not None:
            page = client.get_requests(top_k=500, cursor=page.next_cursor)
            sessions = [*sessions, *page.sessions]
    return sorted(data.interactions[0].content for session in sessions for data in session.requests)


def make_store(folder: Path) -> Path:
    """An empty store in ``folder``, closed again."""
    path = folder / "memory.db"
    reflexio.ReflexioClient(f"sqlite:///{path}", learning="off").close()
    return path


@contextmanager
def never_answering(folder: Path) -> Iterator[None]:
    """The store of ``folder`` takes connections and answers no write: somebody else is in a transaction."""
    holder = sqlite3.connect(make_store(folder), isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        holder.execute("ROLLBACK")
        holder.close()


@contextmanager
def refusing(folder: Path) -> Iterator[None]:
    """The store of ``folder`` cannot be opened."""
    path = folder / "memory.db"
    path.mkdir()
    yield
    path.rmdir()
