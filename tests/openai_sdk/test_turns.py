"""Which calls make a turn: loops with tools, inside of other turns and outside of any."""

from __future__ import annotations

import asyncio
import gc
import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import openai
import pytest
from langchain_core.runnables import RunnableLambda

import reflexio_middleware as reflexio
from reflexio_integrations.langchain import ReflexioCallbackHandler
from reflexio_integrations.openai import finish_open_turns, wrap
from reflexio_middleware.testing import ScriptedDelay, ScriptedError, ScriptedModelServer, ScriptedStream
from tests.openai_sdk.scripted import AsyncClient, Client, Memory, Serve, calls, result, user

FIND = ("c1", "find", {"q": "x"})
LOOP = (calls(FIND, content="Let me look."), calls(("c2", "count", {"n": 1})), "Here it is.")
TOOLS = [
    ("assistant", "Let me look.", [("find", {"q": "x"}, "found x", "success")]),
    ("assistant", "", [("count", {"n": 1}, "done count", "success")]),
]
TOLD = [[("user", "Look"), *TOOLS, ("assistant", "Here it is.")]]


def loop(client: openai.OpenAI, messages: list[Any], *, stream: bool = False) -> str:
    """An agent as people write it: it calls the model until that calls no more tools."""
    while True:
        if stream:
            with client.chat.completions.stream(model="m", messages=messages) as events:
                message: Any = events.get_final_completion().choices[0].message
        else:
            message = client.chat.completions.create(model="m", messages=messages).choices[0].message
        messages.append(message.model_dump(exclude_none=True, exclude={"parsed"}))
        if not message.tool_calls:
            return str(message.content)
        for call in message.tool_calls:
            words = {"find": "found x", "count": "done count"}
            messages.append(result(call.id, words[call.function.name]))


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("named", [False, True])
def test_a_bare_loop_is_one_turn(named: bool, stream: bool, memory: Memory, serve: Serve, client_of: Client) -> None:
    """With a session around and without; tool inputs and outputs stand on the answer that made the calls."""
    client = client_of(serve(*LOOP))
    if named:
        with reflexio.session("s1", user_id="ann"):
            assert loop(client, [user("Look")], stream=stream) == "Here it is."
    else:
        assert loop(client, [user("Look")], stream=stream) == "Here it is."
    assert memory.turns() == TOLD
    assert memory.statuses() == ["completed"]


def test_a_loop_whose_ids_repeat_is_one_turn(memory: Memory, serve: Serve, client_of: Client) -> None:
    """Some servers number the calls of each answer anew."""
    again = calls(("c1", "count", {"n": 1}))
    assert loop(client_of(serve(LOOP[0], again, again, "Here it is.")), [user("Look")]) == "Here it is."
    assert memory.turns() == [[("user", "Look"), TOOLS[0], TOOLS[1], TOOLS[1], ("assistant", "Here it is.")]]


def test_parallel_calls_and_a_failing_tool(memory: Memory, serve: Serve, client_of: Client) -> None:
    """Each result finds its call, in whatever order they come."""
    client = client_of(serve(calls(FIND, ("c2", "count", {})), "Sorry."))
    messages: list[Any] = [user("Look")]
    done = client.chat.completions.create(model="m", messages=messages)
    messages += [done.choices[0].message, result("c2", "2"), result("c1", "Error: not found")]
    client.chat.completions.create(model="m", messages=messages)
    tools = [("find", {"q": "x"}, "Error: not found", "success"), ("count", {}, "2", "success")]
    assert memory.turns() == [[("user", "Look"), ("assistant", "", tools), ("assistant", "Sorry.")]]


@reflexio.capture
def agent_of_text(question: str, client: openai.OpenAI) -> str:
    return loop(client, [user(question)])


@reflexio.capture
def agent_of_messages(messages: list[Any], client: openai.OpenAI) -> str:
    return loop(client, messages)


@reflexio.capture
def agent_of_history(messages: list[Any], client: openai.OpenAI) -> list[Any]:
    loop(client, messages)
    return messages


@pytest.mark.parametrize("agent", [agent_of_text, agent_of_messages, agent_of_history])
def test_inside_capture_a_loop_belongs_to_the_turn(agent: Any, memory: Memory, serve: Serve, client_of: Client) -> None:
    """Also where the captured function shows the very same calls: each is kept once."""
    given: Any = "Look" if agent is agent_of_text else [user("Look")]
    with reflexio.session("s1", user_id="ann", client=memory.client):
        agent(given, client_of(serve(*LOOP)))
    assert memory.turns() == TOLD


def test_inside_turn_a_loop_belongs_to_the_turn(memory: Memory, serve: Serve, client_of: Client) -> None:
    """Its maker tells the question and the answer; they are there once."""
    with reflexio.turn("s1", user_id="ann", client=memory.client) as turn:
        turn.user("Look")
        turn.assistant(loop(client_of(serve(*LOOP)), [user("Look")]))
    assert memory.turns() == TOLD


def test_inside_turn_what_nobody_tells_is_told_by_the_calls(memory: Memory, serve: Serve, client_of: Client) -> None:
    """A bare `with turn():` around a loop loses neither question nor answer."""
    with reflexio.turn("s1", user_id="ann", client=memory.client):
        loop(client_of(serve(*LOOP)), [user("Look")])
    assert memory.turns() == TOLD


def test_inside_capture_a_retry_is_not_told_twice(memory: Memory, serve: Serve, client_of: Client) -> None:
    """An agent that catches an error of the API and calls again is one completed turn."""

    @reflexio.capture(user_id="ann", client=memory.client)
    def agent(question: str) -> str:
        messages: list[Any] = [user(question)]
        done = client.chat.completions.create(model="m", messages=messages)
        messages += [done.choices[0].message, result("c1", "found x")]
        with pytest.raises(openai.RateLimitError):
            client.chat.completions.create(model="m", messages=messages)
        return str(client.chat.completions.create(model="m", messages=messages).choices[0].message.content)

    client = client_of(serve(LOOP[0], ScriptedError(429), "Here it is."))
    agent("Look")
    assert memory.turns() == [[("user", "Look"), TOOLS[0], ("assistant", "Here it is.")]]
    assert memory.statuses() == ["completed"]


def test_inside_a_langchain_run_a_loop_belongs_to_its_turn(memory: Memory, serve: Serve, client_of: Client) -> None:
    """A chain with a step that uses the SDK is one turn, with the tools of that step."""
    client = client_of(serve(*LOOP))
    chain = RunnableLambda(lambda question: loop(client, [user(str(question))])) | RunnableLambda(str)
    handler = ReflexioCallbackHandler(client=memory.client, user_id="ann")
    assert chain.invoke("Look", config={"callbacks": [handler]}) == "Here it is."
    assert memory.turns() == TOLD


def test_a_session_of_several_turns_is_stored_without_repeats(memory: Memory, serve: Serve, client_of: Client) -> None:
    """Each request carries the whole history; each message is kept once."""
    client = client_of(serve("A.", *LOOP, "C."))
    messages: list[Any] = []
    with reflexio.session("s1", user_id="ann"):
        for question in ("One", "Look", "Three"):
            messages.append(user(question))
            loop(client, messages)
    assert memory.turns() == [
        [("user", "One"), ("assistant", "A.")],
        *TOLD,
        [("user", "Three"), ("assistant", "C.")],
    ]
    assert {item.request.session_id for item in memory.requests()} == {"s1"}


def test_a_tool_that_asks_the_model_does_not_end_the_loop(memory: Memory, serve: Serve, client_of: Client) -> None:
    """Its call is a turn of its own, beside the one that waits for it."""
    client = client_of(serve(LOOP[0], "summary", "Here it is."))
    messages: list[Any] = [user("Look")]
    with reflexio.session("s1", user_id="ann"):
        done = client.chat.completions.create(model="m", messages=messages)
        inner = client.chat.completions.create(model="m", messages=[user("Summarise x")])
        messages += [done.choices[0].message, result("c1", str(inner.choices[0].message.content))]
        client.chat.completions.create(model="m", messages=messages)
    tools = [("find", {"q": "x"}, "summary", "success")]
    assert memory.turns() == [
        [("user", "Look"), ("assistant", "Let me look.", tools), ("assistant", "Here it is.")],
        [("user", "Summarise x"), ("assistant", "summary")],
    ]


def test_a_conversation_that_goes_on_without_the_results_ends_the_turn(
    memory: Memory, serve: Serve, client_of: Client
) -> None:
    """It is interrupted, with an open call."""
    client = client_of(serve(LOOP[0], "All right."))
    with reflexio.session("s1", user_id="ann"):
        client.chat.completions.create(model="m", messages=[user("Look")])
        client.chat.completions.create(
            model="m", messages=[user("Look"), {"role": "assistant", "content": "..."}, user("Stop")]
        )
    open_call = ("assistant", "Let me look.", [("find", {"q": "x"}, None, "")])
    assert memory.turns() == [[("user", "Look"), open_call], [("user", "Stop"), ("assistant", "All right.")]]
    assert memory.statuses() == ["interrupted", "completed"]


def test_results_with_a_remark_of_the_user_go_on_with_the_turn(memory: Memory, serve: Serve, client_of: Client) -> None:
    """Some tools hand an image over so."""
    client = client_of(serve(LOOP[0], "A cat."))
    messages: list[Any] = [user("Look")]
    with reflexio.session("s1", user_id="ann"):
        done = client.chat.completions.create(model="m", messages=messages)
        messages += [done.choices[0].message, result("c1", "found x"), user("What is on it?")]
        client.chat.completions.create(model="m", messages=messages)
    assert memory.turns() == [
        [("user", "Look"), TOOLS[0], ("user", "What is on it?"), ("assistant", "A cat.")],
    ]


def test_results_of_calls_that_nobody_saw_come_with_their_calls(
    memory: Memory, serve: Serve, client_of: Client
) -> None:
    """A loop that begins before it is captured."""
    asking = {"role": "assistant", **calls(FIND)}
    client_of(serve("Here it is.")).chat.completions.create(
        model="m", messages=[user("Look"), asking, result("c1", "found x")]
    )
    tools = [("find", {"q": "x"}, "found x", "success")]
    assert memory.turns() == [[("assistant", "", tools), ("assistant", "Here it is.")]]


def test_open_turns_can_be_finished(memory: Memory, serve: Serve, client_of: Client) -> None:
    """A turn that waits, and one whose stream is half read."""
    client = client_of(serve(LOOP[0], "one two three"))
    client.chat.completions.create(model="m", messages=[user("Look")])
    stream = client.chat.completions.create(model="m", messages=[user("Tell")], stream=True)
    next(stream), next(stream)
    assert memory.turns() == []
    finish_open_turns()
    assert memory.statuses() == ["interrupted", "partial"]
    assert [turn[-1][1] for turn in memory.turns()] == ["Let me look.", "one"]
    stream.close()


def test_closing_the_client_finishes_its_turns_that_wait(tmp_path: Path, serve: Serve, client_of: Client) -> None:
    """They are stored, and those that go elsewhere go on waiting."""
    urls = [f"sqlite:///{tmp_path / name}" for name in ("closing.db", "open.db")]
    client = client_of(serve(lambda body: LOOP[0]), recall=False, reflexio=None)
    with reflexio.ReflexioClient(urls[1]) as other:
        with reflexio.ReflexioClient(urls[0]) as closing:
            for home in (closing, other):
                with reflexio.session("s", user_id="u", client=home):
                    client.chat.completions.create(model="m", messages=[user("Look")])
        assert other.get_requests().sessions == []
        finish_open_turns()
        assert len(other.get_requests().sessions) == 1
    with reflexio.ReflexioClient(urls[0]) as again:
        (data,) = again.get_requests().sessions[0].requests
        assert (data.request.status, len(data.interactions)) == ("interrupted", 2)


def test_turns_that_wait_are_bounded(memory: Memory, serve: Serve, client_of: Client) -> None:
    """Beyond the bound the oldest is finished; nothing is lost."""
    client = client_of(serve(lambda body: LOOP[0]), recall=False)
    for number in range(260):
        client.chat.completions.create(model="m", messages=[user(f"q{number}")])
    assert len(memory.turns()) == 4
    finish_open_turns()
    assert len(memory.turns()) == 260


def test_a_process_that_ends_stores_its_open_turns(tmp_path: Path) -> None:
    """They are finished before the client closes."""
    code = """
import openai, reflexio_middleware as reflexio
from reflexio_integrations.openai import wrap
from reflexio_middleware.testing import ScriptedModelServer
from tests.openai_sdk.scripted import calls, user
with ScriptedModelServer([calls(("c1", "find", {})), "one two"]) as server:
    made = openai.OpenAI(base_url=server.base_url, api_key="k")
    client = wrap(made, user_id="ann")
    client.chat.completions.create(model="m", messages=[user("Look")])
    stream = client.chat.completions.create(model="m", messages=[user("Tell")], stream=True)
    next(stream), next(stream)
"""
    store = f"sqlite:///{tmp_path}/exit.db"
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, timeout=60, check=False,
        env={"REFLEXIO_STORE": store, "REFLEXIO_LEARNING": "off", "PATH": ""},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    with reflexio.ReflexioClient(store, learning="off") as client:
        assert sorted(Memory(client).statuses()) == ["interrupted", "partial"]


async def test_a_cancelled_call_is_cancelled(memory: Memory, async_client_of: AsyncClient, serve: Serve) -> None:
    """The cancellation is the caller's; the turn says so."""
    server = serve(ScriptedDelay(30, "late"))
    client = async_client_of(server)
    task = asyncio.create_task(client.chat.completions.create(model="m", messages=[user("Wait")]))
    await asyncio.to_thread(server.asked.wait, 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    server.close()
    assert memory.turns() == [[("user", "Wait")]]
    assert memory.statuses() == ["cancelled"]


async def test_a_task_that_is_cancelled_while_it_reads_is_cancelled(
    memory: Memory, async_client_of: AsyncClient, serve: Serve
) -> None:
    """With what was streamed until then."""
    server = serve(ScriptedStream("one two", pause_after=2))
    client = async_client_of(server)
    read = asyncio.Event()

    async def consume() -> None:
        async for chunk in await client.chat.completions.create(model="m", messages=[user("Tell")], stream=True):
            if chunk.choices[0].delta.content:
                read.set()

    task = asyncio.create_task(consume())
    await read.wait()
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    server.close()
    assert memory.turns() == [[("user", "Tell"), ("assistant", "one")]]
    assert memory.statuses() == ["cancelled"]


def echo(body: dict[str, Any]) -> Any:
    """A model that calls one tool with the question, then answers with its result."""
    last = body["messages"][-1]
    return calls(("c1", "find", {"q": last["content"]})) if last["role"] == "user" else f"answer {last['content']}"


def told_of(name: str) -> list[Any]:
    tools = [("find", {"q": name}, f"found {name}", "success")]
    return [("user", name), ("assistant", "", tools), ("assistant", f"answer found {name}")]


def test_threads_over_one_client_keep_apart(memory: Memory, serve: Serve, client_of: Client) -> None:
    """Each loop is a turn of its own session and user, although all the ids are alike."""
    client = client_of(serve(echo), user_id=None, recall=False)

    def run(name: str) -> None:
        messages: list[Any] = [user(name)]
        with reflexio.session(f"s-{name}" if int(name) % 2 else None, user_id=f"u-{name}"):
            done = client.chat.completions.create(model="m", messages=messages)
            messages += [done.choices[0].message, result("c1", f"found {name}")]
            client.chat.completions.create(model="m", messages=messages)

    threads = [threading.Thread(target=run, args=(str(number),)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    requests = memory.requests()
    assert sorted(memory.turns(), key=lambda turn: int(turn[0][1])) == [told_of(str(number)) for number in range(16)]
    assert {(item.request.user_id, item.interactions[0].content) for item in requests} == {
        (f"u-{number}", str(number)) for number in range(16)
    }


async def test_tasks_over_one_client_keep_apart(memory: Memory, serve: Serve, async_client_of: AsyncClient) -> None:
    """Likewise, interleaved on one event loop."""
    client = async_client_of(serve(echo), recall=False)

    async def run(name: str) -> None:
        messages: list[Any] = [user(name)]
        async with reflexio.session(f"s-{name}"):
            done = await client.chat.completions.create(model="m", messages=messages)
            messages += [done.choices[0].message, result("c1", f"found {name}")]
            await client.chat.completions.create(model="m", messages=messages)

    await asyncio.gather(*(run(str(number)) for number in range(30)))
    assert sorted(memory.turns(), key=lambda turn: int(turn[0][1])) == [told_of(str(number)) for number in range(30)]


def test_nothing_is_kept_of_turns_that_ended(memory: Memory, serve: Serve, client_of: Client) -> None:
    """A long-lived client holds no more after many turns than after one."""
    from reflexio_integrations.openai import recalling, turns

    client = client_of(serve(echo), session_id="s1")
    for number in range(20):
        messages: list[Any] = [user(str(number))]
        done = client.chat.completions.create(model="m", messages=messages)
        messages += [done.choices[0].message, result("c1", "x")]
        client.chat.completions.create(model="m", messages=messages)
    gc.collect()
    assert (len(turns.TURNS), len(recalling._of_turns)) == (0, 0)


def test_where_the_session_is_named(memory: Memory, serve: Serve) -> None:
    """Argument, the request's metadata, the scope: in this order."""
    with (
        ScriptedModelServer(lambda body: "Yes.") as server,
        openai.OpenAI(base_url=server.base_url, api_key="k") as own,
    ):
        request: dict[str, Any] = {"model": "m", "messages": [user("Is it?")]}
        named = {"thread_id": "meta", "user_id": "bob"}
        with reflexio.session("around", user_id="ann", client=memory.client):
            wrap(own, session_id="argument").chat.completions.create(**request, metadata=named)
            wrap(own).chat.completions.create(**request, metadata=named)
            wrap(own).chat.completions.create(**request)
    told = [(item.request.session_id, item.request.user_id) for item in memory.requests()]
    assert told == [("argument", "bob"), ("meta", "bob"), ("around", "ann")]


def test_tool_arguments_that_are_no_json_are_kept(memory: Memory, serve: Serve, client_of: Client) -> None:
    """As they came."""
    broken = calls(FIND)
    broken["tool_calls"][0]["function"]["arguments"] = '{"q": '
    client = client_of(serve(broken))
    client.chat.completions.create(model="m", messages=[user("Look")])
    finish_open_turns()
    assert memory.turns()[0][1] == ("assistant", "", [("find", '{"q": ', None, "")])
    assert json.dumps(memory.turns())
