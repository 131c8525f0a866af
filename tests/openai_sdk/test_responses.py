"""The Responses API: items, chains at the server, streams of events."""

from __future__ import annotations

from typing import Any

import openai
import pytest
from openai.lib.streaming.responses import ResponseStream
from openai.types.responses import Response
from pydantic import BaseModel

import reflexio_middleware as reflexio
from reflexio_integrations.openai import finish_open_turns
from reflexio_middleware.testing import ScriptedStream
from tests.openai_sdk.scripted import AsyncClient, Client, Memory, Serve, calls, output, user

FIND = ("c1", "find", {"q": "x"})
TOOL = ("find", {"q": "x"}, "found x", "success")
TOLD = [[("user", "Look"), ("assistant", "Let me look.", [TOOL]), ("assistant", "Here it is.")]]


@pytest.mark.parametrize(
    "given", ["How?", [user("Hi"), {"role": "assistant", "content": "Hello"}, user("How?")],
              [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "How?"}]}]],
)  # fmt: skip
def test_a_call_is_a_turn_of_what_is_new(given: Any, memory: Memory, serve: Serve, client_of: Client) -> None:
    """Of a text, of messages and of items; instructions are nobody's words."""
    client = client_of(serve("Like this."))
    done = client.responses.create(model="m", input=given, instructions="Be kind.")
    assert isinstance(done, Response)
    assert done.output_text == "Like this."
    assert memory.turns() == [[("user", "How?"), ("assistant", "Like this.")]]


async def test_an_async_call_is_a_turn(memory: Memory, serve: Serve, async_client_of: AsyncClient) -> None:
    """As its sync twin; streamed, too."""
    client = async_client_of(serve("Like this.", "Like this."))
    await client.responses.create(model="m", input="How?")
    async with client.responses.stream(model="m", input="How?") as stream:
        assert (await stream.get_final_response()).output_text == "Like this."
    assert memory.turns() == [[("user", "How?"), ("assistant", "Like this.")]] * 2


class Way(BaseModel):
    how: str


def test_parse_is_captured(memory: Memory, serve: Serve, client_of: Client) -> None:
    """The caller gets the parsed object."""
    done = client_of(serve('{"how": "so"}')).responses.parse(model="m", input="How?", text_format=Way)
    assert done.output_parsed == Way(how="so")
    assert memory.turns() == [[("user", "How?"), ("assistant", '{"how": "so"}')]]


def test_a_stream_is_captured_and_unchanged(memory: Memory, serve: Serve, client_of: Client) -> None:
    """Each event comes as it is."""
    server = serve("Like this.", "Like this.")
    with openai.OpenAI(base_url=server.base_url, api_key="k") as plain:
        expected = [event.type for event in plain.responses.create(model="m", input="How?", stream=True)]
    stream = client_of(server).responses.create(model="m", input="How?", stream=True)
    assert type(stream) is openai.Stream
    assert [event.type for event in stream] == expected
    assert memory.turns() == [[("user", "How?"), ("assistant", "Like this.")]]
    assert memory.statuses() == ["completed"]


def test_the_stream_helper_is_captured(memory: Memory, serve: Serve, client_of: Client) -> None:
    """To its end, and left early."""
    client = client_of(serve("Like this.", "one two three"))
    with client.responses.stream(model="m", input="How?") as stream:
        assert isinstance(stream, ResponseStream)
        assert stream.get_final_response().output_text == "Like this."
    with client.responses.stream(model="m", input="How?") as left:
        for event in left:
            if event.type == "response.output_text.delta":
                break
    assert [turn[1] for turn in memory.turns()] == [("assistant", "Like this."), ("assistant", "one")]
    assert memory.statuses() == ["completed", "partial"]


def test_a_stream_that_breaks_is_an_error_with_what_there_was(memory: Memory, serve: Serve, client_of: Client) -> None:
    """Its text so far is kept."""
    client = client_of(serve(ScriptedStream("one two", break_after=5)))
    with pytest.raises(Exception, match=r"(?i)connection|peer|incomplete"):
        list(client.responses.create(model="m", input="Tell", stream=True))
    assert memory.turns() == [[("user", "Tell"), ("assistant", "one")]]
    assert memory.statuses() == ["error"]


def test_raw_responses_are_captured(memory: Memory, serve: Serve, client_of: Client) -> None:
    """What is parsed of them is the SDK's own."""
    raw = client_of(serve("Like this.")).responses.with_raw_response.create(model="m", input="How?")
    assert raw.parse().output_text == "Like this."
    assert memory.turns() == [[("user", "How?"), ("assistant", "Like this.")]]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("session_id", [None, "s1"])
def test_a_loop_by_previous_response_is_one_turn(
    session_id: str | None, stream: bool, memory: Memory, serve: Serve, client_of: Client
) -> None:
    """The second call carries the result only."""
    client = client_of(serve(calls(FIND, content="Let me look."), "Here it is."), session_id=session_id)
    if stream:
        with client.responses.stream(model="m", input="Look") as events:
            first: Any = events.get_final_response()
    else:
        first = client.responses.create(model="m", input="Look")
    last = client.responses.create(model="m", previous_response_id=first.id, input=[output("c1", "found x")])
    assert last.output_text == "Here it is."
    assert memory.turns() == TOLD


def test_a_loop_that_carries_its_items_is_one_turn(memory: Memory, serve: Serve, client_of: Client) -> None:
    """Several calls, each followed by its result or all by all, over several answers."""
    two = calls(("c2", "count", {}), ("c3", "count", {}))
    client = client_of(serve(calls(FIND, content="Let me look."), two, "Here it is."))
    items: list[Any] = [user("Look")]
    items += [*client.responses.create(model="m", input=items).output, output("c1", "found x")]
    items += client.responses.create(model="m", input=items).output
    items[-1:] = [output("c2", "2"), items[-1], output("c3", "3")]
    client.responses.create(model="m", input=items)
    counts = [("count", {}, "2", "success"), ("count", {}, "3", "success")]
    assert memory.turns() == [[*TOLD[0][:2], ("assistant", "", counts), TOLD[0][2]]]


def test_inside_capture_a_loop_belongs_to_the_turn(memory: Memory, serve: Serve, client_of: Client) -> None:
    """The question and the answer are told by the function."""
    client = client_of(serve(calls(FIND, content="Let me look."), "Here it is."))

    @reflexio.capture(user_id="ann", client=memory.client)
    def agent(question: str) -> str:
        first = client.responses.create(model="m", input=question)
        items = [output("c1", "found x")]
        return client.responses.create(model="m", previous_response_id=first.id, input=items).output_text

    agent("Look")
    assert memory.turns() == TOLD


def test_a_chain_of_responses_is_one_session(memory: Memory, serve: Serve, client_of: Client) -> None:
    """Although no session is named anywhere; another chain is another one."""
    client = client_of(serve("A.", "B.", "C."))
    first = client.responses.create(model="m", input="One")
    client.responses.create(model="m", input="Two", previous_response_id=first.id)
    client.responses.create(model="m", input="Else")
    sessions = [item.request.session_id for item in memory.requests()]
    assert sessions[0] == sessions[1] != sessions[2]
    assert [turn[0] for turn in memory.turns()] == [("user", "One"), ("user", "Two"), ("user", "Else")]


def test_a_conversation_at_the_server_is_a_session(memory: Memory, serve: Serve, client_of: Client) -> None:
    """By its id, unless another one is named."""
    client = client_of(serve("A.", "B.", "C."))
    client.responses.create(model="m", input="One", conversation="conv_1")
    client.responses.create(model="m", input="Two", conversation={"id": "conv_1"})
    with reflexio.session("mine", user_id="ann"):
        client.responses.create(model="m", input="Three", conversation="conv_1")
    assert [item.request.session_id for item in memory.requests()] == ["conv_1", "conv_1", "mine"]


def test_a_chain_that_goes_on_without_the_result_ends_the_turn(memory: Memory, serve: Serve, client_of: Client) -> None:
    """It is interrupted, with an open call."""
    client = client_of(serve(calls(FIND), "All right."))
    first = client.responses.create(model="m", input="Look")
    client.responses.create(model="m", input="Never mind", previous_response_id=first.id)
    open_call = ("assistant", "", [("find", {"q": "x"}, None, "")])
    assert memory.turns()[0] == [("user", "Look"), open_call]
    assert memory.statuses() == ["interrupted", "completed"]


def test_tools_that_the_server_runs_are_kept_with_what_they_gave(
    memory: Memory, serve: Serve, client_of: Client
) -> None:
    """They wait for nothing; a failed one says so; pictures are only named."""
    items: list[dict[str, Any]] = [
        {"id": "r1", "type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}]},
        {"id": "m1", "type": "mcp_call", "server_label": "s", "name": "read", "arguments": "{}", "error": "gone"},
        {"id": "g1", "type": "image_generation_call", "status": "completed", "result": "AAAA"},
        {"id": "t1", "type": "message", "role": "assistant", "status": "completed",
         "content": [{"type": "output_text", "text": "Here.", "annotations": []}]},
    ]  # fmt: skip
    client_of(serve({"output": items})).responses.create(model="m", input="Draw")
    (question, (role, text, tools)) = memory.turns()[0]
    assert (question, role, text) == (("user", "Draw"), "assistant", "Here.")
    assert [(name, result, status) for name, _, result, status in tools] == [
        ("read", "gone", "error"), ("image_generation", "[image]", "success"),
    ]  # fmt: skip


def test_an_incomplete_and_a_failed_response_say_so(memory: Memory, serve: Serve, client_of: Client) -> None:
    """The status is the server's, plain and streamed."""
    short = {"content": "Half", "status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}
    failed = {"content": "", "status": "failed", "error": {"code": "server_error", "message": "on fire"}}
    client = client_of(serve(short, failed, short, failed))
    for stream in (False, True):
        for _ in range(2):
            done = client.responses.create(model="m", input="Tell", stream=stream)
            list(done) if stream else None
    assert memory.statuses() == ["partial", "error"] * 2
    assert [item.request.error for item in memory.requests()] == ["", "on fire"] * 2


def test_other_calls_of_the_client_pass_untouched(memory: Memory, serve: Serve, client_of: Client) -> None:
    """Whatever is neither of the two."""
    client = client_of(serve())
    assert [model.id for model in client.models.list()] == ["scripted-model"]
    assert len(client.embeddings.create(model="m", input="x").data) == 1
    finish_open_turns()
    assert memory.turns() == []
