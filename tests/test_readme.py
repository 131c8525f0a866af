"""The README is executed: every Python block runs as it is, and prints what stands beneath it.

``python tests/test_readme.py`` writes the real outputs and the settings table into the README.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
BLOCK = re.compile(r"```python\n(?P<code>.*?)```\n(?:\n<!-- output -->\n```text\n(?P<output>.*?)```\n)?", re.DOTALL)
SETTINGS = re.compile(r"<!-- settings -->\n(?P<table>(?:\|.*\n)*)")


def run(code: str) -> str:
    """What a Python block prints, in a folder of its own."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("REFLEXIO_")}
    environment["REFLEXIO_RECALL_TIMEOUT"] = "5"  # a loaded machine must not change what is printed
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True, timeout=60,
            check=False,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def settings_table() -> str:
    """The settings, their defaults and meaning, as a Markdown table."""
    from reflexio_middleware.settings import Settings

    rows = ["| setting | default | meaning |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        default = "a file in your data folder" if field.default_factory else f"`{field.default}`"
        rows.append(f"| `{name}` | {default} | {field.description} |")
    return "\n".join(rows) + "\n"


BLOCKS = [match.groupdict() for match in BLOCK.finditer(README.read_text())]


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_a_block_prints_what_stands_beneath_it(number: int) -> None:
    """Copied from the README, run in an empty folder."""
    block = BLOCKS[number]
    assert run(block["code"]) == (block["output"] or "")


def test_the_settings_table_is_that_of_the_settings() -> None:
    """Every setting, with its default and meaning."""
    found = SETTINGS.search(README.read_text())
    assert found is not None
    assert found["table"] == settings_table()


def test_the_files_it_names_exist() -> None:
    """No dead link, no command on a file that is not there."""
    text = README.read_text()
    for target in re.findall(r"\]\(([^)#]+)\)", text) + re.findall(r"\b((?:tests|examples)/[\w/.-]*\w)", text):
        assert (ROOT / target).exists(), target


def test_the_first_screen_is_short() -> None:
    """At most 80 words come before the first code."""
    assert len(README.read_text().split("```")[0].split()) <= 80


def rewrite() -> None:
    """Put the real outputs and the settings into the README."""
    text = README.read_text()
    text = BLOCK.sub(
        lambda m: m[0] if m["output"] is None else m[0][: m.start("output") - m.start()] + run(m["code"]) + "```\n",
        text,
    )
    README.write_text(SETTINGS.sub(lambda _: "<!-- settings -->\n" + settings_table(), text))


if __name__ == "__main__":
    rewrite()
