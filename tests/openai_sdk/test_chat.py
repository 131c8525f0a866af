"""Chat completions: each way of calling is captured, and gives what the SDK gives."""

from __future__ import annotations

import threading
from typing import Any

import openai
import pytest
from openai.lib.streaming.chat import ChatCompletionStream
from openai.types.chat import ChatCompletion
from pydantic import BaseModel

import reflexio_middleware as reflexio
from reflexio_middleware.testing import ScriptedError, ScriptedStream
from tests.openai_sdk.scripted import AsyncClient, Client, Memory, Serve, calls, result, user

ASK = [{"role": "system", "content": "Be kind."}, user("Hi"), {"role": "assistant", "content": "Hello"}, user("How?")]
TOLD = [[("user", "How?"), ("assistant", "Like this.")]]


def test_a_call_is_a_turn_of_what_is_new(memory: Memory, serve: Serve, client_of: Client) -> None:
    """The unanswered user message and the answer; no history, no system prompt."""
    done = client_of(serve("Like this."), agent_version="v2", source="web_app").chat.completions.create(
        model="m", messages=ASK
    )
    assert isinstance(done, ChatCompletion)
    assert memory.turns() == TOLD
    request = memory.requests()[0].request
    assert (request.user_id, request.agent_version, request.source) == ("ann", "v2", "web_app")
    assert request.status == "completed"


async def test_an_async_call_is_a_turn(memory: Memory, serve: Serve, async_client_of: AsyncClient) -> None:
    """As its sync twin."""
    await async_client_of(serve("Like this.")).chat.completions.create(model="m", messages=ASK)
    assert memory.turns() == TOLD


class Way(BaseModel):
    how: str


def test_parse_is_captured(memory: Memory, serve: Serve, client_of: Client) -> None:
    """The answer is kept as its JSON; the caller gets the parsed object."""
    client = client_of(serve('{"how": "so"}'))
    done = client.chat.completions.parse(model="m", messages=ASK, response_format=Way)
    assert done.choices[0].message.parsed == Way(how="so")
    assert memory.turns() == [[("user", "How?"), ("assistant", '{"how": "so"}')]]


def test_a_parsed_answer_that_was_cut_short_is_an_error_with_its_text(
    memory: Memory, serve: Serve, client_of: Client
) -> None:
    """The SDK raises; the turn holds what there was."""
    client = client_of(serve({"content": '{"ho', "finish_reason": "length"}))
    with pytest.raises(openai.LengthFinishReasonError):
        client.chat.completions.parse(model="m", messages=ASK, response_format=Way)
    assert memory.turns() == [[("user", "How?"), ("assistant", '{"ho')]]
    assert memory.statuses() == ["error"]


def test_a_stream_is_the_same_object_with_the_same_chunks(memory: Memory, serve: Serve, client_of: Client) -> None:
    """Type, attributes, chunks and their order are the SDK's."""
    server = serve("Like this.", "Like this.")
    plain = openai.OpenAI(base_url=server.base_url, api_key="k")
    with plain, plain.chat.completions.create(model="m", messages=ASK, stream=True) as stream:
        expected = [chunk.choices[0].delta for chunk in stream]
    with client_of(server).chat.completions.create(model="m", messages=ASK, stream=True) as stream:
        assert type(stream) is openai.Stream
        assert stream.response.status_code == 200
        assert [chunk.choices[0].delta for chunk in stream] == expected
    assert memory.turns() == TOLD
    assert memory.statuses() == ["completed"]


async def test_an_async_stream_is_captured(memory: Memory, serve: Serve, async_client_of: AsyncClient) -> None:
    """Its chunks come as they are."""
    stream = await async_client_of(serve("Like this.")).chat.completions.create(model="m", messages=ASK, stream=True)
    assert type(stream) is openai.AsyncStream
    texts = [chunk.choices[0].delta.content or "" async for chunk in stream]
    assert "".join(texts) == "Like this."
    assert memory.turns() == TOLD


def test_chunks_come_in_time(memory: Memory, serve: Serve, client_of: Client) -> None:
    """A chunk is given while the server has not sent the next one."""
    go_on = threading.Event()
    client = client_of(serve(ScriptedStream("one two", pause_after=2, go_on=go_on)))
    stream = client.chat.completions.create(model="m", messages=ASK, stream=True)
    first = [next(stream).choices[0].delta.content for _ in range(2)]
    assert first == ["", "one"]
    go_on.set()
    assert [chunk.choices[0].delta.content for chunk in stream] == [" two", None]
    assert memory.turns() == [[("user", "How?"), ("assistant", "one two")]]


@pytest.mark.parametrize("way", ["close", "with", "drop"])
def test_a_stream_that_is_left_early_is_partial(way: str, memory: Memory, serve: Serve, client_of: Client) -> None:
    """Closed, left by its block, or dropped: what was streamed is kept, once."""
    stream = client_of(serve("one two three four")).chat.completions.create(model="m", messages=ASK, stream=True)
    next(stream), next(stream), next(stream)
    if way == "close":
        stream.close()
        stream.close()
    elif way == "with":
        with stream:
            pass
    stream.response.close()
    del stream
    assert memory.turns() == [[("user", "How?"), ("assistant", "one two")]]
    assert memory.statuses() == ["partial"]


def test_leaving_a_stream_after_its_last_word_is_no_early_end(memory: Memory, serve: Serve, client_of: Client) -> None:
    """Many loops break at the finish reason; the turn is stored although the stream lives on."""
    stream = client_of(serve("one")).chat.completions.create(model="m", messages=ASK, stream=True)
    for chunk in stream:
        if chunk.choices[0].finish_reason:
            break
    assert memory.turns() == [[("user", "How?"), ("assistant", "one")]]
    assert memory.statuses() == ["completed"]
    stream.close()


def test_a_stream_that_breaks_is_an_error_with_what_there_was(memory: Memory, serve: Serve, client_of: Client) -> None:
    """The exception is the SDK's."""
    stream = client_of(serve(ScriptedStream("one two", break_after=2))).chat.completions.create(
        model="m", messages=ASK, stream=True
    )
    with pytest.raises(openai.APIConnectionError if openai.VERSION[0] != "2" else Exception):
        list(stream)
    assert memory.turns() == [[("user", "How?"), ("assistant", "one")]]
    assert memory.statuses() == ["error"]


def test_the_stream_helper_is_captured(memory: Memory, serve: Serve, client_of: Client) -> None:
    """Events and the final completion are the helper's own."""
    with client_of(serve("Like this.")).chat.completions.stream(model="m", messages=ASK) as stream:
        assert isinstance(stream, ChatCompletionStream)
        deltas = [event.delta for event in stream if event.type == "content.delta"]
        assert stream.get_final_completion().choices[0].message.content == "".join(deltas) == "Like this."
    assert memory.turns() == TOLD


def test_a_stream_helper_that_is_left_early_is_partial(memory: Memory, serve: Serve, client_of: Client) -> None:
    """The helper closes the response, not the stream: that is heard, although the helper lives on."""
    with client_of(serve("one two three")).chat.completions.stream(model="m", messages=ASK) as stream:
        for event in stream:
            if event.type == "content.delta" and event.delta:
                break
    assert memory.turns() == [[("user", "How?"), ("assistant", "one")]]
    assert memory.statuses() == ["partial"]
    assert stream is not None


async def test_an_async_stream_helper_is_captured(memory: Memory, serve: Serve, async_client_of: AsyncClient) -> None:
    """To its end, and left early."""
    client = async_client_of(serve("Like this.", "one two three"))
    async with client.chat.completions.stream(model="m", messages=ASK) as stream:
        assert (await stream.get_final_completion()).choices[0].message.content == "Like this."
    async with client.chat.completions.stream(model="m", messages=ASK) as left:
        async for event in left:
            if event.type == "content.delta" and event.delta:
                break
    assert memory.turns() == [*TOLD, [("user", "How?"), ("assistant", "one")]]
    assert memory.statuses() == ["completed", "partial"]


def test_raw_responses_are_captured(memory: Memory, serve: Serve, client_of: Client) -> None:
    """Plain and streamed; what is parsed of them is the SDK's own."""
    client = client_of(serve("Like this.", "Like this."))
    raw = client.chat.completions.with_raw_response.create(model="m", messages=ASK)
    assert raw.status_code == 200
    assert raw.parse().choices[0].message.content == "Like this."
    streamed = client.chat.completions.with_raw_response.create(model="m", messages=ASK, stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in streamed.parse()) == "Like this."
    assert memory.turns() == TOLD * 2


def test_streaming_responses_pass_untouched(tea: Memory, serve: Serve, client_of: Client) -> None:
    """Their content cannot be seen without reading it: nothing is stored, nothing is put in."""
    server = serve("Tea.")
    messages = [user("Make tea")]
    with client_of(server).chat.completions.with_streaming_response.create(model="m", messages=messages) as raw:
        assert raw.parse().choices[0].message.content == "Tea."
    assert server.requests[0]["messages"] == messages
    assert tea.turns() == []


def test_a_refusal_is_the_answer(memory: Memory, serve: Serve, client_of: Client) -> None:
    """It is what the model said."""
    client_of(serve({"content": None, "refusal": "I cannot."})).chat.completions.create(model="m", messages=ASK)
    assert memory.turns() == [[("user", "How?"), ("assistant", "I cannot.")]]


def test_media_are_named_not_stored(memory: Memory, serve: Serve, client_of: Client) -> None:
    """Text is kept."""
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    content = [{"type": "text", "text": "What is this?"}, image]
    client_of(serve("A cat.")).chat.completions.create(model="m", messages=[{"role": "user", "content": content}])
    ((question, answer),) = memory.turns()
    assert question[1].startswith("What is this?\n[image")
    assert "AAAA" not in question[1]
    assert answer == ("assistant", "A cat.")


def test_an_api_error_is_the_callers_and_a_turn(memory: Memory, serve: Serve, client_of: Client) -> None:
    """One turn, after the SDK's own retries."""
    server = serve(lambda body: ScriptedError(500, "on fire"))
    with pytest.raises(openai.InternalServerError) as caught:
        client_of(server, max_retries=1).chat.completions.create(model="m", messages=ASK)
    assert len(server.requests) == 2
    (request,) = memory.requests()
    assert (request.request.status, memory.turns()) == ("error", [[("user", "How?")]])
    assert "InternalServerError" in request.request.error
    assert "on fire" in str(caught.value)


def test_a_wrong_argument_is_the_sdks_own_error(memory: Memory, serve: Serve, client_of: Client) -> None:
    """It is raised before there is a call; nothing is stored."""
    with pytest.raises(TypeError, match="messages"):
        client_of(serve()).chat.completions.create(model="m")  # type: ignore[call-overload]
    assert memory.turns() == []


def test_messages_of_the_caller_stay_as_they_are(tea: Memory, serve: Serve, client_of: Client) -> None:
    """Also where a block is put in."""
    messages: list[Any] = [user("Make tea")]
    client_of(serve("Yes.")).chat.completions.create(model="m", messages=messages)
    assert messages == [user("Make tea")]


def test_an_iterator_of_messages_is_read_once(memory: Memory, serve: Serve, client_of: Client) -> None:
    """By the SDK."""
    server = serve("Like this.")
    client_of(server).chat.completions.create(model="m", messages=iter(ASK))
    assert server.requests[0]["messages"] == ASK
    assert memory.turns() == TOLD


def test_capture_can_be_switched_off(
    memory: Memory, serve: Serve, client_of: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the environment, at any time."""
    monkeypatch.setenv("REFLEXIO_CAPTURE", "off")
    client_of(serve("Yes.")).chat.completions.create(model="m", messages=ASK)
    assert memory.turns() == []


def test_a_custom_tool_and_an_old_function_are_read(memory: Memory, serve: Serve, client_of: Client) -> None:
    """Calls in forms of other days, streamed too."""
    custom = {"id": "c1", "type": "custom", "custom": {"name": "sql", "input": "select 1"}}
    old = {"content": None, "function_call": {"name": "add", "arguments": '{"a": 1}'}}
    client = client_of(serve({"content": None, "tool_calls": [custom]}, "One.", old, "Two."))
    with reflexio.session("s", user_id="ann"):
        first: list[Any] = [user("Ask"), {"role": "assistant", "content": None, "tool_calls": [custom]}]
        client.chat.completions.create(model="m", messages=first[:1])
        client.chat.completions.create(model="m", messages=[*first, result("c1", "1")])
        then: list[Any] = [user("Add"), {"role": "assistant", **old}]
        client.chat.completions.create(model="m", messages=then[:1])
        then.append({"role": "function", "name": "add", "content": "2"})
        list(client.chat.completions.create(model="m", messages=then, stream=True))
    assert memory.turns() == [
        [("user", "Ask"), ("assistant", "", [("sql", "select 1", "1", "success")]), ("assistant", "One.")],
        [("user", "Add"), ("assistant", "", [("add", {"a": 1}, "2", "success")]), ("assistant", "Two.")],
    ]


def test_streamed_tool_calls_are_put_together(memory: Memory, serve: Serve, client_of: Client) -> None:
    """Several in one answer."""
    server = serve(calls(("a", "find", {"q": "x"}), ("b", "count", {}), content="Let me see."))
    with reflexio.turn(user_id="ann", client=memory.client) as turn:
        turn.user("Go")
        list(client_of(server).chat.completions.create(model="m", messages=[user("Go")], stream=True))
    tools = [("find", {"q": "x"}, None, ""), ("count", {}, None, "")]
    assert memory.turns() == [[("user", "Go"), ("assistant", "Let me see.", tools)]]
