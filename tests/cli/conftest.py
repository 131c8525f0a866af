"""The program under test, and a store in which somebody talked."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import reflexio_middleware as reflexio
from reflexio_middleware.cli.app import app
from reflexio_store.models import AgentPlaybook


class Ran:
    """What a command printed, and its exit code."""

    def __init__(self, result: Any) -> None:
        self.out: str = result.stdout
        self.err: str = result.stderr
        self.code: int = result.exit_code
        self.raised = result.exception if not isinstance(result.exception, SystemExit) else None

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Run = Callable[..., Ran]


@pytest.fixture
def run() -> Run:
    """Runs one command in this process."""

    def invoke(*arguments: str, columns: int = 100, stdin: bytes | str | None = None) -> Ran:
        ran = Ran(CliRunner().invoke(app, list(arguments), env={"COLUMNS": str(columns)}, input=stdin))
        assert ran.raised is None, repr(ran.raised)
        return ran

    return invoke


@pytest.fixture
def url(tmp_path: Path) -> str:
    """The URL of the store in which Ann (corrected the agent) and Bob (did not) talked, each in session ``chat``."""
    made = f"sqlite:///{tmp_path / 'talked.db'}"
    with reflexio.ReflexioClient(made) as client:
        talk(client, "ann", "chat", "How far is it from Berlin to Paris?", "546 miles.")
        talk(client, "ann", "chat", "No, use kilometres, not miles. My name is Ann.", "878 km.")
        talk(client, "bob", "chat", "What is the weather like in [Rome]?", "Sunny.")
        rule = {"content": "Check the time zone.", "trigger": "a question about opening hours"}
        client.add_agent_playbooks([AgentPlaybook(agent_playbook_id=7, agent_version="v1", **rule)])
        assert client.flush(10, learn_now=True).complete
    return made


def talk(client: reflexio.ReflexioClient, user: str, session: str, question: str, answer: str) -> str:
    """One turn with a tool call; its request id."""
    tool = {
        "tool_name": "lookup",
        "tool_data": {"input": {"q": question[:10]}, "output": "x" * 900},
        "status": "success",
    }
    published = client.publish_interaction(
        user, [{"role": "user", "content": question}, {"role": "assistant", "content": answer, "tools_used": [tool]}],
        session_id=session, agent_version="v1", source="test",
    )  # fmt: skip
    assert published.request_id is not None
    return published.request_id
