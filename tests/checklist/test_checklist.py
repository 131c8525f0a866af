"""The checklist itself: every statement is tested, or stands in the documentation with the reason why it is not."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
CODES = (HERE / "codes.txt").read_text().split()


def codes_of_tests() -> Counter[str]:
    """The codes in the names of tests, in all folders of tests."""
    source = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    names = re.findall(r"^ *(?:async )?def test_([a-z]+)_(\d+)_\w", source, re.MULTILINE)
    return Counter(f"{section.upper()}-{number}" for section, number in names)


def excused() -> Counter[str]:
    """The codes at the beginning of a line of the list in ``docs/capture.md``."""
    text = (ROOT / "docs" / "capture.md").read_text(encoding="utf-8")
    section = text.split("\n## The checklist\n")[1].split("\n## ")[0]
    return Counter(re.findall(r"^- \*\*([A-Z]+-\d+)\*\*[^\n]{20,}", section, re.MULTILINE))


def test_every_statement_of_the_checklist_is_found_exactly_once() -> None:
    """As the name of one test, or with a reason in the documentation."""
    assert len(CODES) == len(set(CODES)) == 96
    found = codes_of_tests() + excused()
    assert {code: found[code] for code in CODES if found[code] != 1} == {}
    assert set(excused()) <= set(CODES)
