"""The documents are executed: the Python blocks of each run in order, as they are, in one process.

What a block takes for granted (a model, an agent) is made by the document's own ``<!-- setup ... -->`` comment. Where
``<!-- output -->`` follows, the block prints what stands there.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(
    r"^(?:```python|<!-- setup)\n(?P<code>.*?)^(?:```|-->)$(?:\n\n<!-- output -->\n```text\n(?P<output>.*?)^```$)?",
    re.DOTALL | re.MULTILINE,
)
BETWEEN = "--- the next block ---\n"
DOCUMENTS = sorted([*(ROOT / "docs").glob("*.md"), ROOT / "ARCHITECTURE.md", ROOT / "CONTRIBUTING.md"])


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_the_blocks_of_a_document_run(path: Path, tmp_path: Path) -> None:
    """In an empty folder, with nothing set; and print what they are said to."""
    blocks = [match.groupdict() for match in BLOCK.finditer(path.read_text())]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("REFLEXIO_")}
    environment["REFLEXIO_RECALL_TIMEOUT"] = "5"  # a loaded machine must not change what is printed
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), environment.get("PYTHONPATH", "")])  # the tests' own server
    environment["REFLEXIO_STORE"] = f"sqlite:///{tmp_path / 'memory.db'}"
    done = subprocess.run(
        [sys.executable, "-c", f"print({BETWEEN!r}, end='')\n".join(block["code"] for block in blocks)],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for block, printed in zip(blocks, done.stdout.split(BETWEEN), strict=False):
        assert block["output"] in (None, printed)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_the_links_of_a_document_lead_somewhere(path: Path) -> None:
    """Files that are named exist."""
    text = path.read_text()
    for target in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (path.parent / target).exists(), target
    for target in re.findall(r"(?:tests|examples|docs|reflexio_middleware|store)/[\w/.-]+\.\w+", text):
        assert (ROOT / target).exists(), target
