"""How long a script of ten turns takes to end when its backend is of no use, and what becomes of the turns."""

from __future__ import annotations

import contextlib
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import capture_peers as peers

TURNS, CODE = 10, 3
CAP = 20.0
"""Seconds after which a script that does not end is killed."""

_ATTACH = {
    "ours": "from reflexio_middleware import capture, session",
    "langfuse": "from contextlib import nullcontext as session\nfrom langfuse import observe as capture",
    "langsmith": "from contextlib import nullcontext as session\nfrom langsmith import traceable as capture",
}
_SCRIPT = """
import sys, time
{attach}

@capture
def agent(question):
    return "on its way"

with session({session}):
    for number in range({turns}):
        agent(f"question {{number}}")
print(time.time(), flush=True)
sys.exit({code})
"""
_NEXT = """
import reflexio_middleware as reflexio

with reflexio.ReflexioClient() as client:
    client.flush(30)
    found = client.get_requests(user_id="ann", top_k=100).sessions
    print(sum(len(session.requests) for session in found))
"""


@dataclass(frozen=True)
class Exit:
    """How a script ended: ``seconds`` from its last own line, and what the next process found (None: nothing kept)."""

    seconds: float
    code: int | None
    delivered: int | None

    @property
    def held(self) -> bool:
        """Whether it ended within two seconds, with its own code, and every turn was delivered in the end."""
        return self.seconds <= 2.0 and self.code == CODE and self.delivered == TURNS


Backend = Callable[[str, Path], AbstractContextManager[str]]
"""From a variant and its folder to the address of a backend that is of no use, while it is entered."""


@contextlib.contextmanager
def refusing(variant: str, folder: Path) -> Iterator[str]:
    """Nobody listens; for a file: a folder stands in its place."""
    if variant == "ours":
        (folder / "memory.db").mkdir()
    yield peers.refusing()
    if variant == "ours":
        (folder / "memory.db").rmdir()


@contextlib.contextmanager
def silent(variant: str, folder: Path) -> Iterator[str]:
    """Connections are accepted and nothing is answered; for a file: another process holds its lock."""
    if variant != "ours":
        with peers.silent() as address:
            yield address
        return
    subprocess.run([sys.executable, "-c", _NEXT], env=peers.environment("ours", "", folder), check=True,
                   stdout=subprocess.DEVNULL)  # fmt: skip
    holder = sqlite3.connect(folder / "memory.db", isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    yield ""
    holder.close()


def ended(variant: str, python: Path, backend: Backend) -> Exit:
    """Run the script with this backend, then, with a backend in order, the process after it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with backend(variant, folder) as address:
            environment = peers.environment(variant, address, folder)
            seconds, code = _run(python, _script(variant), environment)
        if variant != "ours":
            return Exit(seconds, code, None)
        after = subprocess.run([python, "-c", _NEXT], env=environment, capture_output=True, text=True, check=True)
        return Exit(seconds, code, int(after.stdout))


def _script(variant: str) -> str:
    names = '"s1", user_id="ann"' if variant == "ours" else ""
    return _SCRIPT.format(attach=_ATTACH[variant], session=names, turns=TURNS, code=CODE)


def _run(python: Path, script: str, environment: dict[str, str]) -> tuple[float, int | None]:
    with subprocess.Popen(
        [python, "-c", script], env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        done = float(process.stdout.readline())
        try:
            code: int | None = process.wait(CAP)
        except subprocess.TimeoutExpired:
            process.kill()
            code = None
        return time.time() - done, code
