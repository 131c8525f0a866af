"""``@capture(recall=...)``: the agent function is handed what fits, in every kind of function."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from reflexio_middleware import ReflexioClient, capture, session
from reflexio_middleware.guard import raise_internal_errors
from reflexio_middleware.recall.render import OPEN


@pytest.fixture(autouse=True)
def known(client: ReflexioClient) -> Iterator[ReflexioClient]:
    """Ann's memory, in her session."""
    client.add_user_profile([{"user_id": "ann", "content": "Is allergic to peanuts."}])
    client.recall("warm up", user_id="ann", timeout=5)
    with session("s1", user_id="ann", client=client):
        yield client


QUESTION = "Does the curry contain peanuts?"


def test_a_function_is_handed_the_block(client: ReflexioClient) -> None:
    """As ``memory``; the caller's signature does not change, and the turn notes what was shown and cited."""

    @capture(recall=True)
    def agent(question: str, memory: str = "") -> str:
        assert memory.startswith(OPEN)
        return f"No peanuts for you [p1]; {len(memory) > 0}"

    assert agent(QUESTION) == "No peanuts for you [p1]; True"
    client.flush()
    [data] = client.get_requests(user_id="ann").sessions[0].requests
    answer = data.interactions[-1]
    assert [message.content for message in data.interactions] == [QUESTION, "No peanuts for you [p1]; True"]
    assert [(item.kind, item.tag) for item in answer.retrieved_learnings] == [("profile", "p1")]
    shown = answer.retrieved_learnings[0].learning_id
    assert [(item.real_id, item.tag) for item in answer.citations] == [(shown, "p1")]


def test_every_kind_of_function_is_handed_the_block() -> None:
    """Generators and methods, too."""

    @capture(recall="facts")
    def pieces(question: str, *, facts: str) -> Iterator[str]:
        got = yield facts
        yield str(got)

    class Agent:
        @capture(recall=True)
        def ask(self, question: str, memory: str) -> str:
            return memory

        @capture(recall=True)
        @staticmethod
        def answer(question: str, memory: str) -> str:
            return memory

    stream = pieces(QUESTION)  # type: ignore[call-arg]
    assert next(stream).startswith(OPEN)
    assert stream.send("sent") == "sent"  # type: ignore[attr-defined]
    stream.close()  # type: ignore[attr-defined]
    assert Agent().ask(QUESTION).startswith(OPEN)  # type: ignore[call-arg]
    assert Agent.answer(QUESTION).startswith(OPEN)  # type: ignore[call-arg]


async def test_asynchronous_functions_are_handed_the_block() -> None:
    """Without blocking their event loop."""

    @capture(recall=True)
    async def agent(question: str, memory: str = "") -> str:
        return memory

    @capture(recall=True)
    async def pieces(question: str, memory: str = "") -> AsyncIterator[str]:
        yield memory
        yield "end"

    assert (await agent(QUESTION)).startswith(OPEN)
    assert [piece[: len(OPEN)] async for piece in pieces(QUESTION)] == [OPEN, "end"]


def test_what_the_caller_gives_is_left_alone() -> None:
    """By position or by name."""

    @capture(recall=True)
    def agent(question: str, memory: str = "") -> str:
        return memory

    assert agent(QUESTION, "mine") == agent(QUESTION, memory="mine") == "mine"


def test_nothing_that_fits_is_an_empty_text() -> None:
    """So is a recall that fails."""

    @capture(recall=True)
    def agent(question: str, memory: str) -> str:
        return f"<{memory}>"

    assert agent("Write a haiku about autumn leaves.") == "<>"  # type: ignore[call-arg]


def test_a_recall_that_fails_is_an_empty_text() -> None:
    """Whatever is in the place of the client."""

    class Broken:
        def recall(self, query: str) -> Any:
            raise RuntimeError("broken")

        @property
        def sink(self) -> Any:
            return self

        def put(self, turn: Any) -> bool:
            return True

    @capture(recall=True)
    def agent(question: str, memory: str) -> str:
        return f"<{memory}>"

    with session("s1", user_id="ann", client=Broken()), raise_internal_errors(False):
        assert agent(QUESTION) == "<>"  # type: ignore[call-arg]


def test_a_parameter_that_is_not_there_is_an_error_at_once() -> None:
    """It names those that are."""
    with pytest.raises(TypeError, match=r"capture\(recall='memory'\): no such parameter; the function has: question"):

        @capture(recall=True)
        def agent(question: str) -> str:
            return question


def test_with_capture_off_the_sessions_client_recalls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not the default one, which would open another home."""

    @capture(recall=True)
    def agent(question: str, memory: str = "") -> str:
        return memory

    monkeypatch.setenv("REFLEXIO_CAPTURE", "off")
    with ReflexioClient("sqlite://", recall_timeout=5.0) as other:
        other.add_user_profile([{"user_id": "ann", "content": "Loves peanuts in curry."}])
        with session("s2", client=other):
            assert "Loves peanuts" in agent(QUESTION)
