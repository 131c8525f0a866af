"""Which session and user a run is filed under, what is captured without callbacks, and what is captured once."""

from __future__ import annotations

import asyncio
import contextvars
import gc
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import pytest
from langchain.agents import create_agent
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.runnables import RunnableLambda, RunnableParallel
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langsmith.run_helpers import tracing_context
from langsmith.run_trees import RunTree

import reflexio_middleware as reflexio
from reflexio_integrations.langchain import ReflexioCallbackHandler, attach, detach
from reflexio_integrations.langchain.parked import MAX_PARKED
from reflexio_middleware.guard import raise_internal_errors
from tests.langchain.conftest import Memory
from tests.langchain.scripted import ScriptedModel, StreamingModel, call

Config = dict[str, Any]


def model(*answers: Any, **kind: Any) -> ScriptedModel:
    return ScriptedModel(answers=list(answers or ["yes"]), **kind)


@tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def filed(memory: Memory) -> list[tuple[str, str, str, str]]:
    """Session, user, agent version and source of each turn."""
    found = [item.request for item in memory.requests()]
    return [(item.session_id, item.user_id, item.agent_version, item.source) for item in found]


@pytest.mark.parametrize(
    ("given", "metadata", "scope", "session_id"),
    [
        ({"session_id": "arg"}, {"session_id": "meta", "thread_id": "thread"}, "around", "arg"),
        ({}, {"session_id": "meta", "thread_id": "thread"}, "around", "meta"),
        ({}, {"thread_id": "thread", "conversation_id": "talk"}, "around", "thread"),
        ({}, {"conversation_id": "talk"}, "around", "talk"),
        ({}, {}, "around", "around"),
    ],
)
def test_the_session_is_found_where_it_is_named(
    memory: Memory, given: Any, metadata: Any, scope: str, session_id: str
) -> None:
    """Argument, metadata (session, thread, conversation), scope."""
    handler = ReflexioCallbackHandler(client=memory.client, **given)
    with reflexio.session(scope, user_id="ann"):
        model().invoke("hi", {"callbacks": [handler], "metadata": metadata})
    assert filed(memory)[0][:2] == (session_id, "ann")


def test_user_and_version_are_found_like_the_session(memory: Memory) -> None:
    """Argument before metadata before scope; the rest comes from the scope around."""
    named = ReflexioCallbackHandler(client=memory.client, user_id="arg", agent_version="v3", source="cli")
    plain = ReflexioCallbackHandler(client=memory.client)
    with reflexio.session("s", user_id="around", agent_version="v1", source="web"):
        for handler in (named, plain):
            model().invoke("hi", {"callbacks": [handler], "metadata": {"user_id": "meta", "agent_version": "v2"}})
        model().invoke("hi", {"callbacks": [plain]})
    assert filed(memory) == [("s", "arg", "v3", "cli"), ("s", "meta", "v2", "web"), ("s", "around", "v1", "web")]


def test_thread_and_user_of_a_graph_are_used(memory: Memory) -> None:
    """As LangGraph users name them: in configurable."""
    talk = create_agent(model(), checkpointer=InMemorySaver())
    config = {"callbacks": [ReflexioCallbackHandler(client=memory.client)]}
    talk.invoke({"messages": "hi"}, {**config, "configurable": {"thread_id": "t1", "user_id": "bob"}})
    assert filed(memory)[0][:2] == ("t1", "bob")


def test_every_run_in_a_session_is_captured_once_attached(memory: Memory) -> None:
    """With no callbacks given; outside of a session nothing is."""
    attach(memory.client)
    model("outside").invoke("hi")
    with reflexio.session("s", user_id="ann"):
        model().invoke("one")
        asyncio.run(model().ainvoke("two"))
        asyncio.run(asyncio.to_thread(model().invoke, "three"))  # type: ignore[arg-type]
        list(StreamingModel(answers=["yes"]).stream("four"))
        RunnableParallel(a=model(), b=RunnableLambda(str)).invoke("five")
        create_agent(model(call("add", "c1", a=1, b=2), "yes"), [add]).invoke({"messages": "six"})
    detach()
    with reflexio.session("s", user_id="ann"):
        model().invoke("detached")
    assert [turn[0] for turn in memory.turns()] == [
        ("user", word) for word in ("one", "two", "three", "four", "five", "six")
    ]
    assert {turn[-1] for turn in map(tuple, memory.turns())} == {("assistant", "yes")}


def test_turns_go_to_the_client_of_the_session(memory: Memory) -> None:
    """Unless one was named on attaching."""
    attach()
    with reflexio.session("s", user_id="ann", client=memory.client):
        model().invoke("hi")
    assert len(memory.turns()) == 1


def test_a_run_that_several_handlers_see_is_one_turn(memory: Memory, config: Config) -> None:
    """Attached, given twice, given as another instance, bound, in the model's constructor."""
    attach(memory.client)
    again = ReflexioCallbackHandler(client=memory.client)
    with reflexio.session("s", user_id="ann"):
        model().invoke("one", {"callbacks": [*config["callbacks"], *config["callbacks"], again]})
        model().with_config(config).invoke("two", config)
        (RunnableLambda(str) | model(callbacks=[again])).invoke("three")
        RunnableLambda(lambda text: model().invoke(text, {"callbacks": [again]}).text).invoke("four", config)
    assert [turn[0][1] for turn in memory.turns()] == ["one", "two", "three", "four"]


def test_a_handler_in_the_models_constructor_sees_one_turn(memory: Memory) -> None:
    """It is told of each model call of an agent alone; calls that go on after tools belong to the turn."""
    inner = model(call("add", "c1", a=1, b=2), "three", callbacks=[ReflexioCallbackHandler(client=memory.client)])
    create_agent(inner, [add]).invoke({"messages": "1+2?"})
    called = ("assistant", "", [("add", {"a": 1, "b": 2}, "3", "success")])
    assert memory.turns() == [[("user", "1+2?"), called, ("assistant", "three")]]


def test_a_run_inside_a_langsmith_trace_is_a_turn(memory: Memory, config: Config) -> None:
    """Its parent is no run of LangChain."""
    with tracing_context(parent=RunTree(name="outer", inputs={}), enabled=False):
        model().invoke("hi", config)
    assert len(memory.turns()) == 1


def test_inside_a_captured_function_the_tools_are_added_to_its_turn(memory: Memory, config: Config) -> None:
    """Its question and its answer are the function's; the answer is stored once."""

    @reflexio.capture(client=memory.client, user_id="ann")
    def ask(question: str) -> str:
        run = create_agent(model(call("add", "c1", a=1, b=2), "three"), [add])
        return str(run.invoke({"messages": question}, config)["messages"][-1].text)

    ask("1+2?")
    called = ("assistant", "", [("add", {"a": 1, "b": 2}, "3", "success")])
    assert memory.turns() == [[("user", "1+2?"), called, ("assistant", "three")]]


@pytest.mark.parametrize("tools_are_runs", [True, False])
def test_a_loop_by_hand_inside_a_turn_is_that_turn(memory: Memory, config: Config, tools_are_runs: bool) -> None:
    """Results find their calls, whether a tool run or the next messages tell them."""
    asking = model(call("add", "c1", a=1, b=2), "three")
    with reflexio.turn("s", user_id="ann", client=memory.client) as turn:
        turn.user("1+2?")
        messages: list[Any] = [HumanMessage("1+2?")]
        while (answer := asking.invoke(messages, config)).tool_calls:
            run = add.invoke(answer.tool_calls[0], config) if tools_are_runs else ToolMessage("3", tool_call_id="c1")
            messages += [answer, run]
        turn.assistant(answer.text)
    called = ("assistant", "", [("add", {"a": 1, "b": 2}, "3", "success")])
    assert memory.turns() == [[("user", "1+2?"), called, ("assistant", "three")]]


def test_interleaved_runs_keep_apart(memory: Memory) -> None:
    """200 tasks and 32 threads over one handler: each turn has its own session, question and answer."""
    config: Config = {"callbacks": [ReflexioCallbackHandler(client=memory.client)]}
    echo = RunnableLambda(lambda text: text) | RunnableLambda(lambda text: f"re {text}")

    async def one(name: str) -> None:
        async with reflexio.session(f"session {name}", user_id=f"user {name}"):
            await echo.ainvoke(name, config)

    async def many() -> None:
        await asyncio.gather(*(one(f"task {number}") for number in range(200)))

    def in_thread(number: int) -> None:
        with reflexio.session(f"session thread {number}", user_id=f"user thread {number}"):
            echo.invoke(f"thread {number}", config)

    asyncio.run(many())
    with ThreadPoolExecutor(32) as pool:
        list(pool.map(in_thread, range(32)))
    requests = memory.requests()
    assert len(requests) == 232
    for item in requests:
        name = item.interactions[0].content
        assert (item.request.session_id, item.request.user_id) == (f"session {name}", f"user {name}")
        assert [said.content for said in item.interactions] == [name, f"re {name}"]


def test_a_handler_holds_nothing_after_its_runs(memory: Memory, handler: ReflexioCallbackHandler) -> None:
    """1,000 turns of every kind of end leave it as it was."""
    config: Config = {"callbacks": [handler]}
    chain = RunnableLambda(str) | StreamingModel(answers=["yes it is"])
    broken = RunnableLambda(str) | model(ValueError("down"))
    for _ in range(250):
        chain.invoke("hi", config)
        list(chain.stream("hi", config))
        stream = chain.stream("hi", config)
        next(stream)
        stream.close()
        with pytest.raises(ValueError, match="down"):
            broken.invoke("hi", config)
    gc.collect()
    assert handler.open_runs == 0
    assert len(memory.requests()) == 1000


def test_a_context_is_left_as_it_was(config: Config) -> None:
    """No context variable of ours is set when the run has ended."""
    before = dict(contextvars.copy_context().items())
    model().invoke("hi", config)
    after = dict(contextvars.copy_context().items())
    assert {variable: value for variable, value in after.items() if variable.name.startswith("reflexio")} == {
        variable: value for variable, value in before.items() if variable.name.startswith("reflexio")
    }


def test_what_goes_wrong_inside_does_not_reach_the_agent() -> None:
    """A client without a sink."""
    with raise_internal_errors(False):
        answer = model().invoke("hi", {"callbacks": [ReflexioCallbackHandler(client=object(), user_id="ann")]})
    assert answer.text == "yes"


def test_capture_can_be_switched_off(memory: Memory, config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the environment, at any time."""
    monkeypatch.setenv("REFLEXIO_CAPTURE", "off")
    model().invoke("hi", config)
    assert memory.turns() == []


def test_runs_that_never_end_are_given_up(memory: Memory, handler: ReflexioCallbackHandler) -> None:
    """The oldest beyond a thousand becomes a turn with what there was; one that comes too late starts none."""
    first, child = uuid4(), uuid4()
    handler.on_chain_start({}, {"messages": "are you there?"}, run_id=first)
    handler.on_chat_model_start({}, [[]], run_id=child, parent_run_id=first)
    handler.on_llm_new_token("I", run_id=child)
    others = [uuid4() for _ in range(1000)]
    for run_id in others:
        handler.on_chain_start({}, "waiting", run_id=run_id)
    handler.on_tool_start({}, "x", run_id=uuid4(), parent_run_id=child)
    assert memory.turns() == [[("user", "are you there?"), ("assistant", "I")]]
    assert memory.statuses() == ["abandoned"]
    for run_id in others:
        handler.on_chain_error(GeneratorExit(), run_id=run_id)
    assert handler.open_runs == 0


def test_a_loop_in_a_model_constructor_that_is_never_finished_is_kept(memory: Memory) -> None:
    """Turns that wait for their tools are stored when they are too many."""
    inner = model(call("add", "c1", a=1, b="x"), callbacks=[ReflexioCallbackHandler(client=memory.client)])
    run = create_agent(inner, [add], interrupt_before=["tools"], checkpointer=InMemorySaver())
    for number in range(MAX_PARKED + 2):
        run.invoke({"messages": f"question {number}"}, {"configurable": {"thread_id": str(number)}})
    model().invoke("hi", {"callbacks": [ReflexioCallbackHandler(client=memory.client)]})
    assert {turn[0] for turn in map(tuple, memory.turns())} == {
        ("user", "question 0"), ("user", "question 1"), ("user", "hi"),
    }  # fmt: skip
