"""Agents and graphs: one run is one turn, with the tools on the answers that called them."""

from __future__ import annotations

import asyncio
import inspect
from typing import Any, TypedDict

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import HumanInTheLoopMiddleware, SummarizationMiddleware
from langchain.agents.structured_output import ToolStrategy
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import Command, interrupt
from pydantic import BaseModel

from tests.langchain.conftest import Memory
from tests.langchain.scripted import ScriptedModel, StreamingModel, call

Config = dict[str, Any]


@tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@tool
def fail(why: str) -> str:
    """Fail."""
    raise RuntimeError(why)


@tool
def ask(question: str) -> str:
    """Ask a human."""
    return f"the human said {interrupt(question)}"


class Sum(BaseModel):
    """A sum."""

    value: int


def agent(*answers: Any, tools: Any = (add,), model: type[ScriptedModel] = ScriptedModel, **kwargs: Any) -> Any:
    return create_agent(model(answers=list(answers)), list(tools), **kwargs)


def said(text: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}]}


def on(config: Config, thread: str, **more: Any) -> Config:
    return {**config, "configurable": {"thread_id": thread, **more}}


TWO = AIMessage("Let me see.", tool_calls=[
    {"name": "add", "args": {"a": 1, "b": 2}, "id": "c1"}, {"name": "add", "args": {"a": 3, "b": 4}, "id": "c2"},
])  # fmt: skip
THREE, SEVEN = ("add", {"a": 1, "b": 2}, "3", "success"), ("add", {"a": 3, "b": 4}, "7", "success")


async def _each(items: Any) -> None:
    async for _ in items:
        pass


WAYS = {
    "invoke": lambda run, given, config: run.invoke(given, config),
    "ainvoke": lambda run, given, config: asyncio.run(run.ainvoke(given, config)),
    "stream": lambda run, given, config: list(run.stream(given, config)),
    "stream updates": lambda run, given, config: list(run.stream(given, config, stream_mode="updates")),
    "stream messages": lambda run, given, config: list(run.stream(given, config, stream_mode="messages")),
    "astream messages": lambda run, given, config: asyncio.run(
        _each(run.astream(given, config, stream_mode="messages"))
    ),
    "batch": lambda run, given, config: run.batch([given], config),
}


@pytest.mark.parametrize("way", WAYS)
def test_an_agent_with_parallel_tools_is_one_turn(memory: Memory, config: Config, way: str) -> None:
    """Calls with inputs and outputs stand on the answer that made them."""
    WAYS[way](agent(TWO, "3 and 7"), said("Two sums"), config)
    assert memory.turns() == [
        [("user", "Two sums"), ("assistant", "Let me see.", [THREE, SEVEN]), ("assistant", "3 and 7")]
    ]
    assert memory.statuses() == ["completed"]


@pytest.mark.parametrize("messages", ["1+2?", ["1+2?"], [("user", "1+2?")], [HumanMessage("1+2?")]])
def test_every_form_of_message_is_read(memory: Memory, config: Config, messages: Any) -> None:
    """As LangChain coerces them."""
    agent("three").invoke({"messages": messages}, config)
    assert memory.turns() == [[("user", "1+2?"), ("assistant", "three")]]


def test_a_conversation_on_a_thread_is_a_session_of_turns_that_do_not_overlap(memory: Memory, config: Config) -> None:
    """The thread is the session; the same words said again are new words."""
    talk = agent("one", call("add", "c1", a=1, b=2), "two", "three", checkpointer=InMemorySaver())
    for _ in range(3):
        talk.invoke(said("again"), on(config, "thread-1"))
    assert memory.turns() == [
        [("user", "again"), ("assistant", "one")],
        [("user", "again"), ("assistant", "", [THREE]), ("assistant", "two")],
        [("user", "again"), ("assistant", "three")],
    ]
    assert {item.request.session_id for item in memory.requests()} == {"thread-1"}


def test_a_history_that_is_handed_over_is_not_stored_again(memory: Memory, config: Config) -> None:
    """With earlier tool calls in it."""
    history = [HumanMessage("1+2?"), TWO, AIMessage("three"), HumanMessage("thanks")]
    agent("welcome").invoke({"messages": history}, config)
    assert memory.turns() == [[("user", "thanks"), ("assistant", "welcome")]]


def test_a_tool_that_fails_ends_the_turn_with_its_error(memory: Memory, config: Config) -> None:
    """The failed call is kept, and the exception is the user's."""
    with pytest.raises(RuntimeError, match="no luck"):
        agent(call("fail", "c1", why="no luck"), "ok", tools=[fail]).invoke(said("Go"), config)
    failed = ("fail", {"why": "no luck"}, "RuntimeError: no luck", "error")
    assert memory.turns() == [[("user", "Go"), ("assistant", "", [failed])]]
    assert (memory.statuses(), memory.requests()[0].request.error) == (["error"], "RuntimeError: no luck")


@pytest.mark.parametrize(("name", "what"), [("add", "Error invoking tool"), ("nope", "not a valid tool")])
def test_a_call_that_cannot_be_made_is_kept_as_an_error(memory: Memory, config: Config, name: str, what: str) -> None:
    """Wrong arguments and unknown tools: the agent goes on."""
    agent(call(name, "c1", a="x"), "sorry").invoke(said("Go"), config)
    (user, calling, answer) = memory.turns()[0]
    [(tool_name, given, output, status)] = calling[2]
    assert (user, answer) == (("user", "Go"), ("assistant", "sorry"))
    assert (tool_name, given, status) == (name, {"a": "x"}, "error")
    assert what in output
    assert memory.statuses() == ["completed"]


def test_a_model_that_fails_midway_leaves_what_was_done(memory: Memory, config: Config) -> None:
    """Told from the events, since a failed run returns nothing."""
    with pytest.raises(ValueError, match="down"):
        agent(TWO, ValueError("down")).invoke(said("Two sums"), config)
    assert memory.turns() == [[("user", "Two sums"), ("assistant", "Let me see.", [THREE, SEVEN])]]
    assert memory.statuses() == ["error"]


def test_a_structured_answer_is_kept(memory: Memory, config: Config) -> None:
    """As JSON, on the call that carried it."""
    agent(call("Sum", "c1", value=3), response_format=ToolStrategy(Sum)).invoke(said("1+2?"), config)
    (_, (role, content, tools)) = memory.turns()[0]
    assert (role, content, tools[0][:2]) == ("assistant", '{"value":3}', ("Sum", {"value": 3}))


@pytest.mark.parametrize("hand_down", [False, True])
def test_an_agent_used_as_a_tool_belongs_to_the_turn(memory: Memory, config: Config, hand_down: bool) -> None:
    """Whether it is given the callbacks again or not: its output tells what it did."""

    @tool
    def helper(question: str) -> str:
        """Ask another agent."""
        inner = agent(TWO, "seven")
        return str(inner.invoke(said(question), config if hand_down else None)["messages"][-1].text)

    agent(call("helper", "c1", question="3+4?"), "It is seven.", tools=[helper]).invoke(said("Hey"), config)
    used = ("helper", {"question": "3+4?"}, "seven", "success")
    assert memory.turns() == [[("user", "Hey"), ("assistant", "", [used]), ("assistant", "It is seven.")]]


def test_a_subgraph_belongs_to_the_turn(memory: Memory, config: Config) -> None:
    """The outermost run is the turn."""
    graph = StateGraph(MessagesState)
    graph.add_node("inner", agent(TWO, "3 and 7"))
    graph.add_edge(START, "inner")
    graph.compile().invoke(said("Two sums"), config)
    assert memory.turns() == [
        [("user", "Two sums"), ("assistant", "Let me see.", [THREE, SEVEN]), ("assistant", "3 and 7")]
    ]


class Question(TypedDict):
    question: str
    answer: str


@pytest.mark.parametrize("uses_model", [True, False])
def test_a_graph_with_a_state_of_its_own_is_a_turn(memory: Memory, config: Config, uses_model: bool) -> None:
    """Its question is the user's words, not the prompt made of them."""
    model = ScriptedModel(answers=["rain"])

    def answer(state: Question) -> dict[str, str]:
        return {"answer": str(model.invoke(f"CONTEXT {state['question']}").text) if uses_model else "rain"}

    graph = StateGraph(Question)
    graph.add_node("answer", answer)
    graph.add_edge(START, "answer")
    graph.compile().invoke({"question": "Weather?", "answer": ""}, config)
    assert memory.turns() == [[("user", "Weather?"), ("assistant", "rain")]]


def test_summaries_are_nobodys_words(memory: Memory, config: Config) -> None:
    """Neither the model call that makes one, nor the message that carries it."""
    middleware = SummarizationMiddleware(
        ScriptedModel(answers=["SUMMARY"]), trigger=("messages", 4), keep=("messages", 1)
    )
    talk = agent("fine", middleware=[middleware], checkpointer=InMemorySaver())
    for number in range(4):
        talk.invoke(said(f"question {number}"), on(config, "thread-1"))
    assert memory.turns() == [[("user", f"question {number}"), ("assistant", "fine")] for number in range(4)]


def test_an_interrupt_and_its_resume_are_two_turns(memory: Memory, config: Config) -> None:
    """The first waits with an open call; the value that resumes is the user's answer."""
    both = AIMessage("", tool_calls=[
        {"name": "ask", "args": {"question": "Sure?"}, "id": "c1"},
        {"name": "add", "args": {"a": 1, "b": 2}, "id": "c2"},
    ])  # fmt: skip
    talk = agent(both, "done", tools=[ask, add], checkpointer=InMemorySaver())
    talk.invoke(said("Do it"), on(config, "thread-1"))
    talk.invoke(Command(resume="yes"), on(config, "thread-1"))
    asked = {"question": "Sure?"}
    assert memory.turns() == [
        [("user", "Do it"), ("assistant", "", [("ask", asked, None, ""), THREE])],
        [("user", "yes"), ("assistant", "done", [("ask", asked, "the human said yes", "success")])],
    ]
    assert memory.statuses() == ["interrupted", "completed"]


def test_a_breakpoint_is_an_interrupt(memory: Memory, config: Config) -> None:
    """LangGraph reports none: an unanswered call tells."""
    talk = agent(call("add", "c1", a=1, b=2), "done", checkpointer=InMemorySaver(), interrupt_before=["tools"])
    talk.invoke(said("1+2?"), on(config, "thread-1"))
    talk.invoke(None, on(config, "thread-1"))
    assert memory.turns() == [
        [("user", "1+2?"), ("assistant", "", [("add", {"a": 1, "b": 2}, None, "")])],
        [("assistant", "done", [THREE])],
    ]
    assert memory.statuses() == ["interrupted", "completed"]


@pytest.mark.parametrize("decision", [{"type": "approve"}, {"type": "reject", "message": "Never."}])
def test_a_human_in_the_loop_is_an_interrupt(memory: Memory, config: Config, decision: dict[str, str]) -> None:
    """The decision is the user's answer."""
    middleware = HumanInTheLoopMiddleware(interrupt_on={"add": True})
    talk = agent(call("add", "c1", a=1, b=2), "done", middleware=[middleware], checkpointer=InMemorySaver())
    talk.invoke(said("1+2?"), on(config, "thread-1"))
    talk.invoke(Command(resume={"decisions": [decision]}), on(config, "thread-1"))
    first, second = memory.turns()
    assert first == [("user", "1+2?"), ("assistant", "", [("add", {"a": 1, "b": 2}, None, "")])]
    assert (second[0][0], decision["type"] in second[0][1]) == ("user", True)
    name, given, output, status = second[1][2][0]
    assert (name, given, len(second), second[1][1]) == ("add", {"a": 1, "b": 2}, 2, "done")
    assert ("3" if decision["type"] == "approve" else "Never.") in output
    assert status == ("success" if decision["type"] == "approve" else "error")
    assert memory.statuses() == ["interrupted", "completed"]


def test_of_calls_that_a_human_judged_each_is_told_with_its_outcome(memory: Memory, config: Config) -> None:
    """Refused, changed and approved, whether they ran or not."""
    middleware = HumanInTheLoopMiddleware(interrupt_on={"add": True})
    asks = AIMessage("", tool_calls=[call("add", f"c{at}", a=at, b=2).tool_calls[0] for at in range(3)])
    talk = agent(asks, "done", middleware=[middleware], checkpointer=InMemorySaver())
    talk.invoke(said("Sums"), on(config, "thread-1"))
    edited = {"type": "edit", "edited_action": {"name": "add", "args": {"a": 5, "b": 5}}}
    decisions = [{"type": "reject", "message": "Not this one."}, edited, {"type": "approve"}]
    talk.invoke(Command(resume={"decisions": decisions}), on(config, "thread-1"))
    outcomes = {given["a"]: (output, status) for _, given, output, status in memory.turns()[1][-1][2]}
    ends = {0: ("Not this one.", "error"), 5: ("10", "success"), 2: ("4", "success")}
    assert {a: (output.endswith(ends[a][0]), status) for a, (output, status) in outcomes.items()} == {
        a: (True, status) for a, (_, status) in ends.items()
    }


@pytest.mark.skipif(
    "interrupt_mode" not in inspect.signature(HumanInTheLoopMiddleware).parameters, reason="langchain 1.4 and later"
)
@pytest.mark.parametrize("decision", [{"type": "reject"}, {"type": "respond", "message": "It is green."}])
def test_a_call_that_is_judged_while_another_runs_is_told_by_the_turn_of_the_judgement(
    memory: Memory, config: Config, decision: dict[str, str]
) -> None:
    """What ran before stays with the turn that was interrupted."""
    middleware = HumanInTheLoopMiddleware(interrupt_on={"ask": True}, interrupt_mode="per_call")
    asks = AIMessage("", tool_calls=[TWO.tool_calls[0], call("ask", "c9", question="Which?").tool_calls[0]])
    talk = agent(asks, "done", tools=[add, ask], middleware=[middleware], checkpointer=InMemorySaver())
    asked = talk.invoke(said("Do both"), on(config, "thread-1"))
    talk.invoke(Command(resume={asked["__interrupt__"][0].id: decision}), on(config, "thread-1"))
    first, second = memory.turns()
    assert first[-1][2] == [THREE, ("ask", {"question": "Which?"}, None, "")]
    ((name, given, output, status),) = second[-1][2]
    assert (name, given) == ("ask", {"question": "Which?"})
    assert output.startswith(decision.get("message", "User rejected"))
    assert status == ("error" if decision["type"] == "reject" else "success")


def test_a_result_that_the_interrupted_turn_told_is_not_told_again(memory: Memory, config: Config) -> None:
    """Of two tools that run at once one returns, one asks for a human: the turn that resumes tells the second."""
    asks = AIMessage("", tool_calls=[TWO.tool_calls[0], call("ask", "c9", question="Sure?").tool_calls[0]])
    talk = agent(asks, "done", tools=[add, ask], checkpointer=InMemorySaver())
    talk.invoke(said("1+2?"), on(config, "thread-1"))
    talk.invoke(Command(resume="yes"), on(config, "thread-1"))
    first, second = memory.turns()
    assert first[-1][2] == [THREE, ("ask", {"question": "Sure?"}, None, "")]
    answered = ("ask", {"question": "Sure?"}, "the human said yes", "success")
    assert second == [("user", "yes"), ("assistant", "done", [answered])]


def test_a_stream_of_an_agent_that_is_closed_early_is_partial(memory: Memory, config: Config) -> None:
    """It keeps the tools that had run."""
    stream = agent(TWO, "3 and 7").stream(said("Two sums"), config, stream_mode="updates")
    for update in stream:
        if "tools" in update:
            break
    stream.close()
    assert memory.turns()[0][:1] == [("user", "Two sums")]
    assert memory.statuses() == ["partial"]


@pytest.mark.parametrize("streamed", [True, False])
def test_an_agent_that_is_cancelled_is_a_cancelled_turn(memory: Memory, config: Config, streamed: bool) -> None:
    """With the words that had come, though LangChain never reports the end of that model call."""
    model = (StreamingModel if streamed else ScriptedModel)(answers=["yes it is"], wait=True)

    async def cancel() -> None:
        run = create_agent(model, [add])
        waits = run.astream(said("Go"), config, stream_mode="messages") if streamed else None
        task = asyncio.ensure_future(_each(waits) if waits is not None else run.ainvoke(said("Go"), config))
        await model.waiting.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancel())
    assert memory.turns() == [[("user", "Go"), ("assistant", "yes")] if streamed else [("user", "Go")]]
    assert memory.statuses() == ["cancelled"]
