"""Every example runs as it is, quickly, without a key, and shows what it promises."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
SHOWS = {
    "async_web.py": "ann's profiles: ['Lives in Porto.', 'Has a dog called Rex.']",
    "custom_agent.py": "agent: That is 42 kilometres.",
    "langchain_agent.py": "<reflexio_memory>",
    "llm_extraction.py": "learning: done, profiles: 1, playbooks: 1",
    "openai_client.py": "one turn, completed, of 2 calls:",
    "quickstart.py": "<reflexio_memory>",
    "streaming.py": "partial    'Another one.' -> 'Once '",
}


def run(name: str, *arguments: str) -> str:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("REFLEXIO_")}
    environment["REFLEXIO_RECALL_TIMEOUT"] = "5"  # a loaded machine must not change what is printed
    done = subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLES / name), *arguments],
        env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_every_example_is_tested() -> None:
    """A new example needs a line here."""
    assert {path.name for path in EXAMPLES.glob("*.py")} == {*SHOWS, "replay.py"}


@pytest.mark.parametrize("name", SHOWS)
def test_an_example_runs_and_shows_what_it_promises(name: str) -> None:
    """As a user would run it."""
    assert SHOWS[name] in run(name)


def a_conversation(number: int) -> dict[str, object]:
    """A small conversation of every shape: tools (with a repeated id), an unanswered end, an end on a tool result."""
    call = {"id": "c1", "type": "function", "function": {"name": "find", "arguments": json.dumps({"n": number})}}
    messages: list[dict[str, object]] = [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": f"hello {number}"},
        {"role": "assistant", "content": "Let me look.", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "name": "find", "content": "first"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "name": "find", "content": "second"},
        {"role": "assistant", "content": "Here it is."},
        {"role": "user", "content": "thanks"},
    ]
    if number % 2:
        messages += [
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c1", "name": "find", "content": "third"},
        ]
    return {"messages": messages}


def test_three_ways_of_attaching_leave_the_same_record(tmp_path: Path) -> None:
    """Each answered user message is a request; tools stand on their message; nothing is stored twice."""
    path = tmp_path / "conversations.json"
    path.write_text(json.dumps([a_conversation(number) for number in range(4)]))
    lines = run("replay.py", str(path)).splitlines()
    assert [line.split()[-3:] for line in lines[2:]] == [["as", "the", "transcript"]] * 3
    counts = [line.replace("LangChain create_agent", "langchain").split()[1:7] for line in lines[1:]]
    assert counts == [["4", "8", "22", "10", "10", "4"]] * 4
