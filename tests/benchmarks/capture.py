"""What capture costs, beside langfuse and langsmith, all measured in one run, round by round.

    python tests/benchmarks/capture.py [--rounds 5] [--no-peers] [--no-exits] [--peers PYTHON]

Each variant runs in a process of its own; in every round each case is run by each of them in turn. The peers are
installed into an environment in a temporary folder (needs a package index), or taken from that of ``--peers``. Their
backends are on loopback: nothing leaves the machine. Times are of one call. "added" is the difference to the same call
without capture, the median over the rounds; "cpu" is that of the calling thread, "process" that of all threads until
the backlog was delivered; "ratio" is of what is added, to what ours adds. Ends with 1 if a target is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import capture_exits as exits
import capture_peers as peers

OURS = ("none", "ours", "ours, off")
CASES = Path(__file__).with_name("capture_cases.py")


@dataclass(frozen=True)
class Case:
    """One thing that is measured, ``calls`` times a round; the targets are of the added microseconds."""

    name: str
    title: str
    calls: int
    target: float | None = None
    off: float | None = None
    share: float | None = None
    """Most that ours may add, as a share of what the lighter peer adds."""


TABLE = (
    Case("small", "@capture, a no-op with small arguments", 500, target=40, off=1, share=1 / 5),
    Case("large", "@capture, an argument of 10 kB", 200, target=100),
    Case("coroutine", "@capture, a coroutine function", 500, target=40),
    Case("stream", "@capture, a generator of 20 pieces", 200, target=60),
    Case("paced", "@capture, a call every 2 ms", 200),
    Case("invoke", "LangChain, model.invoke", 100, target=150),
    Case("ainvoke", "LangChain, model.ainvoke", 100, target=200),
    Case("chain", "LangChain, a chain of three steps", 60, target=500),
)
LAG = Case("lag", "50 streams of 1,000 events at once", 50)
LAG_TARGET = 20.0
"""Milliseconds that a ticker on the event loop may be late."""


@dataclass
class Taken:
    """What was measured of one variant in one case: per round, and all calls together."""

    medians: list[float] = field(default_factory=list)
    most: list[float] = field(default_factory=list)
    calls: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    process: list[float] = field(default_factory=list)

    def take(self, answer: dict[str, list[float] | float]) -> None:
        """Add a round."""
        wall = answer["wall"]
        assert isinstance(wall, list)
        self.medians.append(statistics.median(wall))
        self.most.append(max(wall))
        self.calls += wall
        for name, numbers in (("cpu", self.cpu), ("process", self.process)):
            value = answer[name]
            assert isinstance(value, float)
            numbers.append(value)

    def percentile(self, share: float) -> float:
        """Of all calls, in microseconds."""
        ordered = sorted(self.calls)
        return ordered[min(len(ordered) - 1, round(share * len(ordered)))]

    def added_to(self, bare: Taken) -> float:
        """The median, over the rounds, of what the median call took longer than a ``bare`` one."""
        return statistics.median(mine - other for mine, other in zip(self.medians, bare.medians, strict=True))


class Runner:
    """A process that runs the cases of one variant on command."""

    def __init__(self, variant: str, python: Path, endpoint: str, folder: Path) -> None:
        folder.mkdir()
        self._process = subprocess.Popen(
            [python, CASES, variant], env=peers.environment(variant, endpoint, folder), text=True, cwd=folder,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=(folder / "stderr").open("w"),
        )  # fmt: skip

    def run(self, case: Case, calls: int) -> dict[str, list[float] | float]:
        """The answer of :mod:`capture_cases` to one command."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"case": case.name, "calls": calls}) + "\n")
        self._process.stdin.flush()
        answer: dict[str, list[float] | float] = json.loads(self._process.stdout.readline())
        return answer

    def end(self) -> None:
        """Let it end; what hangs is killed."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(exits.CAP)
        except subprocess.TimeoutExpired:
            self._process.kill()


Results = dict[str, dict[str, Taken]]
"""By case, by variant."""


def measure(pythons: dict[str, Path], rounds: int) -> Results:
    """Run every case of every variant, round by round."""
    results: Results = defaultdict(lambda: defaultdict(Taken))
    with ExitStack() as open_things:
        folder = Path(open_things.enter_context(tempfile.TemporaryDirectory()))
        endpoint = open_things.enter_context(peers.sink())
        runners = {}
        for variant, python in pythons.items():
            runners[variant] = Runner(variant, python, endpoint, folder / variant)
            open_things.callback(runners[variant].end)
        for number in range(-1, rounds):
            for case in (*TABLE, LAG):
                for variant, runner in runners.items():
                    if number < 0:  # to warm up
                        runner.run(case, max(1, case.calls // 10))
                    elif case is not LAG or number < 3:
                        results[case.name][variant].take(runner.run(case, case.calls))
            print(".", end="", file=sys.stderr, flush=True)
    return results


def show(results: Results) -> bool:
    """Print the tables; whether every target is met."""
    met = [_show_case(case, results[case.name]) for case in TABLE]
    return all([*met, _show_lag(results[LAG.name])])


def _show_case(case: Case, taken: dict[str, Taken]) -> bool:
    met = True
    columns = "".join(f"{name:>9}" for name in ("median", "p99", "added", "ratio", "cpu", "process"))
    print(f"\n{case.title} (µs)\n{'':<12}{columns}  target")
    bare, ours = taken["none"], taken["ours"].added_to(taken["none"])
    for variant, mine in taken.items():
        added = mine.added_to(bare)
        verdict, good = _verdict(case, variant, added, taken)
        met &= good
        compared = f"{added:>9.1f}{added / ours:>9.2f}" if variant != "none" else " " * 18
        spent = f"{statistics.median(mine.cpu):>9.1f}{statistics.median(mine.process):>9.1f}"
        print(
            f"{variant:<12}{statistics.median(mine.medians):>9.1f}{mine.percentile(0.99):>9.1f}{compared}{spent}",
            end="",
        )
        print(f"  {verdict}".rstrip())
    return met


def _show_lag(taken: dict[str, Taken]) -> bool:
    met = True
    print(f"\n{LAG.title}: how late a ticker of 5 ms was (ms; latest: of a run, the median of the runs)")
    print(f"{'':<12}{'median':>9}{'p99':>9}{'latest':>9}  target")
    for variant, mine in taken.items():
        latest = statistics.median(mine.most) / 1000
        shown = [mine.percentile(0.5) / 1000, mine.percentile(0.99) / 1000, latest]
        verdict, good = _compared(latest, LAG_TARGET if variant == "ours" else None, "below")
        met &= good
        print(f"{variant:<12}{''.join(f'{number:>9.1f}' for number in shown)}  {verdict}".rstrip())
    return met


def _verdict(case: Case, variant: str, added: float, taken: dict[str, Taken]) -> tuple[str, bool]:
    target = {"ours": case.target, "ours, off": case.off}.get(variant)
    verdict, met = _compared(added, target, "at most")
    lighter = [taken[peer].added_to(taken["none"]) for peer in peers.PEERS if peer in taken]
    if variant != "ours" or case.share is None or not lighter:
        return verdict, met
    of_peer, smaller = _compared(added, case.share * min(lighter), f"{case.share:.0%} of the lighter peer, at most")
    return f"{verdict}; {of_peer}", met and smaller


def _compared(value: float, target: float | None, words: str) -> tuple[str, bool]:
    if target is None:
        return "", True
    return f"{words} {target:.0f}: {'met' if value <= target else 'MISSED'}", value <= target


def show_exits(pythons: dict[str, Path]) -> bool:
    """Print how scripts end whose backend is of no use; whether ours end as they should."""
    print(f"\nA script of {exits.TURNS} turns, from its own end to the end of the process (s)")
    print(f"{'':<12}{'backend':<14}{'seconds':>9}{'code':>8}{'delivered by the next process':>31}  target")
    met = True
    backends: dict[str, exits.Backend] = {"refuses": exits.refusing, "never answers": exits.silent}
    for variant in ("ours", *(peer for peer in peers.PEERS if peer in pythons)):
        for name, backend in backends.items():
            end = exits.ended(variant, pythons[variant], backend)
            held = variant != "ours" or end.held
            met &= held
            seconds = f"{end.seconds:.2f}" if end.code is not None else f">{exits.CAP:.0f}"
            verdict = f"at most 2 s, all turns: {'met' if held else 'MISSED'}" if variant == "ours" else ""
            kept = end.delivered if end.delivered is not None else "nothing is kept"
            print(f"{variant:<12}{name:<14}{seconds:>9}{end.code or 'killed':>8}{kept:>31}  {verdict}".rstrip())
    return met


def machine() -> str:
    """What this was measured on."""
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    return f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores{load}, Python {platform.python_version()}"


def versions(python: Path, packages: tuple[str, ...]) -> str:
    """The installed versions of packages, as that interpreter sees them."""
    code = f"import importlib.metadata as m; print(', '.join(f'{{p}} {{m.version(p)}}' for p in {packages!r}))"
    return subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--no-exits", action="store_true")
    parser.add_argument("--peers", type=Path, metavar="PYTHON", help="an interpreter that has langfuse and langsmith")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        pythons = dict.fromkeys(OURS, Path(sys.executable))
        print(f"{machine()}; {versions(pythons['ours'], ('reflexio-middleware', 'langchain-core'))}")
        if not options.no_peers:
            python = options.peers or peers.python_with_peers(Path(name))
            pythons |= dict.fromkeys(peers.PEERS, python)
            print(f"{versions(python, (*peers.PEERS, 'langchain-core'))}")
        met = show(measure(pythons, options.rounds))
        if not options.no_exits:
            met &= show_exits(pythons)
    sys.exit(0 if met else 1)


if __name__ == "__main__":
    main()
