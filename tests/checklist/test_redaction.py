"""RED: secrets are masked before the first write, however a turn came about."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from langchain_core.runnables import RunnableLambda

import reflexio_middleware as reflexio
from reflexio_integrations.langchain import ReflexioCallbackHandler
from reflexio_middleware import capture, current_turn, session, turn
from reflexio_middleware.capture.redaction import Redaction
from reflexio_middleware.delivery.writer import Delivery
from tests.checklist.test_exit import Stuck
from tests.conftest import ListSink

CANARY = "sk-proj-canary0canary1canary2canary3"


def test_red_1_a_rule_that_raises_leaves_a_marker(tmp_path: Path, client: reflexio.ReflexioClient) -> None:
    """The kind of the error, never the value and never the error's text."""

    def rule(text: str) -> str:
        raise ValueError(f"cannot mask {text}")

    failing = reflexio.ReflexioClient(f"sqlite:///{tmp_path / 'failing.db'}", learning="off", redactors=[rule])
    with failing, session("s", user_id="ann", client=failing):
        capture(lambda text: "the answer")("the question")
        failing.flush()
        kept = failing.get_requests().sessions[0].requests[0].interactions
    assert [item.content for item in kept] == ["[redacted: a rule failed with ValueError]"] * 2
    assert not _files_with(tmp_path, "the question", "the answer", "cannot mask")


def _files_with(folder: Path, *words: str) -> list[Path]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    return [path for path in files if any(word.encode() in path.read_bytes() for word in words)]


def _everywhere(client: Any) -> None:
    """One turn with the canary in every field, and across the chunks of a stream."""

    @capture
    def agent(text: str) -> Iterator[str]:
        made = current_turn()
        assert made is not None
        made.tool(f"t {CANARY}", {"in": [CANARY], CANARY: 1}, {"out": {"deep": f"({CANARY}) {CANARY}"}})
        made.add("user", {"json": CANARY})
        yield from ("your key: ", CANARY[:10], CANARY[10:20], CANARY[20:])
        raise ValueError(f"bad key {CANARY}")

    metadata = {"note": CANARY, "list": [CANARY], "api_key": "hunter2"}
    with session("s", user_id="ann", client=client, metadata=metadata), pytest.raises(ValueError, match="bad key"):
        list(agent(f"my key is {CANARY}"))


def test_red_2_secrets_are_masked_before_the_first_write(tmp_path: Path) -> None:
    """Inputs, outputs, metadata, errors, tool data, and chunks joined over their boundaries: already in the spool."""

    class Client:
        stuck = Stuck()
        sink = Delivery(stuck.open, tmp_path / "spool", prepare=Redaction())  # type: ignore[arg-type]

    _everywhere(Client)
    assert Client.stuck.asked.wait(10)
    (spool,) = (tmp_path / "spool").glob("*.spool")
    written = spool.read_bytes()
    assert written.count(b"[redacted: api key]") >= 8
    assert not _files_with(tmp_path, CANARY, CANARY[:20], "hunter2")
    Client.stuck.answer.set()
    assert Client.sink.close(10) == 0


def test_red_3_masking_twice_is_masking_once_and_rules_are_given_text(tmp_path: Path) -> None:
    """Decorator and handler alike: every rule is given strings, leaf by leaf, and its own result changes no more."""
    given: list[object] = []
    sink = ListSink()

    def rule(text: str) -> str:
        given.append(text)
        return text.replace("Ann", "[name]")

    redaction = Redaction(more=[rule])

    class Client:
        pass

    Client.sink = sink  # type: ignore[attr-defined]
    with session("s", user_id="ann", client=Client, metadata={"by": ["Ann", 1]}):
        capture(lambda text: {"told": "Ann"})(f"I am Ann, {CANARY}")
        RunnableLambda(lambda text: "Ann").invoke("I am Ann", {"callbacks": [ReflexioCallbackHandler()]})
    for made in sink.turns:
        redaction(made)
        once = copy.deepcopy(made)
        redaction(made)
        assert made == once
        assert "Ann" not in repr(made)
    assert len(sink.turns) == 2
    assert {type(text) for text in given} == {str}


def _by_decorator(client: reflexio.ReflexioClient) -> None:
    _everywhere(client)


def _by_hand(client: reflexio.ReflexioClient) -> None:
    with turn("s", user_id="ann", client=client) as made:
        made.user(f"my key is {CANARY}")
        made.add_messages([{"role": "assistant", "tool_calls": [
            {"id": "1", "function": {"name": "f", "arguments": f'{{"key": "{CANARY}"}}'}}]}])  # fmt: skip
        made.assistant(CANARY)


def _by_handler(client: reflexio.ReflexioClient) -> None:
    def fail(text: str) -> str:
        raise ValueError(text)

    config: Any = {"callbacks": [ReflexioCallbackHandler(client=client, user_id="ann", metadata={"note": CANARY})]}
    RunnableLambda(lambda text: f"yours: {text}").invoke(CANARY, config)
    with pytest.raises(ValueError, match="canary"):
        RunnableLambda(fail).invoke(CANARY, config)


def _by_publishing(client: reflexio.ReflexioClient) -> None:
    interactions: Any = [
        {"role": "User", "content": CANARY, "shadow_content": CANARY, "user_action_description": CANARY},
        {"role": "Assistant", "content": "ok", "tools_used": [{"tool_name": "t", "tool_data": {"input": CANARY}}]},
    ]
    client.publish_interaction(user_id="ann", session_id="s", interactions=interactions, wait_for_response=True)


@pytest.mark.parametrize("attach", [_by_decorator, _by_hand, _by_handler, _by_publishing])
def test_red_4_a_canary_is_found_in_no_file(tmp_path: Path, attach: Callable[[reflexio.ReflexioClient], None]) -> None:
    """Whichever way turns come in: spool, store, what is learned, and what is set aside."""
    with reflexio.ReflexioClient(f"sqlite:///{tmp_path / 'memory.db'}") as client:
        attach(client)
        assert client.flush().complete
        assert client.get_requests().sessions
        assert not _files_with(tmp_path, CANARY, "hunter2")
    assert not _files_with(tmp_path, CANARY, "hunter2")
