"""Precision and recall of the statements extractor on the gold conversations: ``python tests/benchmarks/learning.py``.

``--wrong`` lists what was missed and what was false, on the tuned half only: the other half is there to be measured.
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "learning"))

import gold

from reflexio_middleware.learning.extractor import SessionView
from reflexio_middleware.learning.statements import StatementsExtractor


def main() -> None:
    """Print one line per group and half."""
    print(f"{'half':<10}{'group':<14}{'cases':>6}{'wanted':>8}{'right':>7}{'missed':>8}{'false':>7}")
    for half, cases in (("tuned", gold.TUNED), ("held out", gold.HELD_OUT)):
        total: Counter[str] = Counter()
        groups = dict.fromkeys(case.group for case in cases)
        for group in groups:
            counts: Counter[str] = Counter()
            for case in cases:
                if case.group == group:
                    counts += score(case, show=half == "tuned" and "--wrong" in sys.argv)
            total += counts
            print(_line(half, group, counts))
        print(_line(half, "all", total))
        precision = total["right"] / max(1, total["right"] + total["false"])
        print(f"{half}: precision {precision:.3f}, recall {total['right'] / total['wanted']:.3f}\n")


def score(case: gold.Case, *, show: bool = False) -> Counter[str]:
    """How many learnings of one case were wanted, right, missed and false."""
    session = SessionView("u1", "case", "v1", gold.session_of(case))
    learned = [change.learning for change in StatementsExtractor().extract(session) if change.learning]
    result = gold.compared(case, learned)
    if show and (result.missed or result.false):
        print(f"  {case.text!r}\n    missed {result.missed}\n    false  {result.false}")
    counts = Counter(cases=1, wanted=len(case.wants), right=result.right)
    return counts + Counter(missed=len(result.missed), false=len(result.false))


def _line(half: str, group: str, counts: Counter[str]) -> str:
    numbers = "".join(f"{counts[name]:>{width}}" for name, width in _COLUMNS)
    return f"{half:<10}{group:<14}{numbers}"


_COLUMNS = (("cases", 6), ("wanted", 8), ("right", 7), ("missed", 8), ("false", 7))

if __name__ == "__main__":
    main()
