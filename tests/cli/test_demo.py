"""``demo``: the main job, in one go."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest

from .conftest import Run


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_the_next_prompt_carries_what_was_learned_and_nobody_elses_does(run: Run) -> None:
    """Corrected in the first conversation, right in the second; the other user's prompt holds nothing."""
    first, learned, second, other = run("demo").out.split("──\n")[1:5]
    assert "miles" in first
    assert "Name is Ann." in learned and "Use kilometres, not miles." in learned
    assert "<reflexio_memory>" in second and "Prefers trains to planes." in second and "1,054 km." in second
    assert "<reflexio_memory>" not in other and "655 miles." in other and "kilometres" not in other


def test_it_leaves_a_file_and_the_commands_to_look_into_it(run: Run) -> None:
    """The printed commands work as they are; all of it fits two screens."""
    ran = run("demo", columns=80)
    assert Path("reflexio-demo.db").exists()
    assert len(ran.out.splitlines()) <= 48
    printed = [shlex.split(line) for line in ran.out.splitlines() if line.startswith("  reflexio-middleware")]
    assert len(printed) >= 3
    for command in printed:
        found = run(*command[1:], *(["--yes"] if "delete" in command else []))
        assert found.code == 0 and found.out


def test_it_can_be_run_again_with_the_same_outcome(run: Run) -> None:
    """What the demo's users said before is cleared, and only that."""
    first, second = run("demo").out, run("demo").out
    assert second.replace("ms", "").split("Conversation 2")[1] == first.replace("ms", "").split("Conversation 2")[1]
    assert len(run("sessions", "--json", "--store", "sqlite:///reflexio-demo.db").json["sessions"]) == 3


def test_it_writes_where_it_is_told_to(run: Run, url: str) -> None:
    """Before or after the name of the command; what others said stays."""
    assert run("demo", "--store", url).code == 0
    assert run("--store", url, "demo").code == 0
    users = {item["user_id"] for item in run("sessions", "--json", "--store", url).json["sessions"]}
    assert users == {"ann", "bob", "demo-ann", "demo-bob"}
    assert not Path("reflexio-demo.db").exists()


def test_it_says_what_keeps_it_from_working(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Capture that is switched off is named."""
    monkeypatch.setenv("REFLEXIO_CAPTURE", "off")
    ran = run("demo")
    assert ran.code == 2 and "REFLEXIO_CAPTURE" in ran.err


def test_a_fresh_process_does_it_offline_in_seconds(tmp_path: Path) -> None:
    """With an environment that holds settings for something else."""
    command = [sys.executable, "-c", "import sys; from reflexio_middleware.cli import main; sys.exit(main())", "demo"]
    started = time.perf_counter()
    ran = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, encoding="utf-8", timeout=60,
        env={**os.environ, "REFLEXIO_EXTRACTOR": "llm", "REFLEXIO_LEARNING": "off", "PYTHONUTF8": "1"},
    )  # fmt: skip
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "1,054 km." in ran.stdout
    assert time.perf_counter() - started < 5 * 4  # 5 s on a machine that does nothing else
