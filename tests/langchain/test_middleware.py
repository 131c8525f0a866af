"""``ReflexioMiddleware``: what was learned is in the prompt, and nowhere else."""

from __future__ import annotations

import asyncio
import json
import threading
from dataclasses import dataclass
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import SummarizationMiddleware, dynamic_prompt
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command, interrupt

import reflexio_middleware as reflexio
from reflexio_integrations.langchain import ReflexioCallbackHandler, ReflexioMiddleware, with_memory
from reflexio_middleware.guard import raise_internal_errors
from tests.langchain.conftest import Memory
from tests.langchain.scripted import ScriptedModel, StreamingModel, call

Config = dict[str, Any]
QUESTION = {"messages": [{"role": "user", "content": "Which units does the weather report use?"}]}
FACT = "Wants the weather report in metric units"


@tool
def look(place: str) -> str:
    """Look at the sky."""
    return f"blue over {place}"


@tool
def ask(question: str) -> str:
    """Ask a human."""
    return f"the human said {interrupt(question)}"


@pytest.fixture
def learned(memory: Memory) -> Memory:
    memory.learn(FACT)
    memory.learn("Wants the weather report in imperial units", user_id="bob")
    return memory


def model(*answers: Any) -> ScriptedModel:
    return ScriptedModel(answers=list(answers or ["metric"]))


def prompts(seen: ScriptedModel) -> list[str]:
    """What each call of the model was shown, system message included."""
    return ["\n".join(str(message.text) for message in messages) for messages in seen.seen]


def recalled(seen: ScriptedModel) -> list[int]:
    """How many blocks each call of the model was shown."""
    return [text.count("<reflexio_memory>") for text in prompts(seen)]


@pytest.mark.parametrize("way", ["invoke", "ainvoke", "stream", "astream"])
@pytest.mark.parametrize("placement", ["turn", "system"])
def test_each_model_call_of_a_turn_shows_the_block_once(learned: Memory, way: str, placement: Any) -> None:
    """One recall, however many calls; nothing of it in the state."""
    calls = model(call("look", "c1", place="Bern"), "metric")
    middleware = ReflexioMiddleware(learned.client, user_id="ann", placement=placement)
    run = create_agent(calls, [look], middleware=[middleware], system_prompt="Be brief.", checkpointer=InMemorySaver())
    config: Config = {"configurable": {"thread_id": "t"}}
    before = learned.client.stats().get("recalls", 0)
    if way == "invoke":
        run.invoke(QUESTION, config)
    elif way == "ainvoke":
        asyncio.run(run.ainvoke(QUESTION, config))
    elif way == "stream":
        list(run.stream(QUESTION, config))
    else:

        async def each() -> None:
            async for _ in run.astream(QUESTION, config):
                pass

        asyncio.run(each())
    assert recalled(calls) == [1, 1]
    assert all(FACT in text and "imperial" not in text for text in prompts(calls))
    kept = run.get_state(config).values
    assert "reflexio" not in str(kept)
    if way == "invoke":
        assert learned.client.stats()["recalls"] - before == 1


def test_a_stream_of_the_state_does_not_show_the_block(learned: Memory) -> None:
    """It may go on to a browser: what is learned of all users is not for each of them to read."""
    calls = model(call("look", "c1", place="Bern"), "metric")
    run = create_agent(calls, [look], middleware=[ReflexioMiddleware(learned.client, user_id="ann")])
    streamed = list(run.stream(QUESTION, stream_mode=["values", "updates", "messages", "debug"]))
    assert recalled(calls) == [1, 1]
    assert FACT not in str(streamed)
    assert "recalled" in json.dumps([shown for mode, shown in streamed if mode == "updates"], default=str)


@pytest.mark.parametrize(("placement", "at"), [("turn", 1), ("system", 0)])
def test_the_block_stands_where_it_was_said(learned: Memory, placement: Any, at: int) -> None:
    """Before the user's text, or at the end of the system message."""
    calls = model()
    middleware = ReflexioMiddleware(learned.client, user_id="ann", placement=placement)
    create_agent(calls, middleware=[middleware], system_prompt="Be brief.").invoke(QUESTION)
    texts = [str(message.text) for message in calls.seen[0]]
    assert ["<reflexio_memory>" in text for text in texts] == [place == at for place in range(2)]
    assert texts[1].endswith("Which units does the weather report use?")
    assert texts[0].startswith("Be brief.")


def test_a_system_message_is_made_where_there_is_none(learned: Memory) -> None:
    """For the placement of that name."""
    calls = model()
    middleware = ReflexioMiddleware(learned.client, user_id="ann", placement="system")
    create_agent(calls, middleware=[middleware]).invoke(QUESTION)
    assert [message.type for message in calls.seen[0]] == ["system", "human"]
    assert recalled(calls) == [1]


@dataclass
class Context:
    user_id: str


@pytest.mark.parametrize(
    "named",
    [
        {"config": {"configurable": {"user_id": "ann"}}},
        {"config": {"metadata": {"user_id": "ann"}}},
        {"config": {"metadata": {"user_id": "ann"}}, "handler": {}},
        {"config": {}, "handler": {"user_id": "ann"}},
        {"config": {}, "context": Context("ann")},
        {"config": {}, "session": "ann"},
    ],
    ids=["configurable", "metadata", "metadata and handler", "handler", "context", "session"],
)
def test_the_user_is_found_where_it_is_named(learned: Memory, named: dict[str, Any]) -> None:
    """Nobody else's learnings are shown."""
    calls = model()
    run = create_agent(calls, middleware=[ReflexioMiddleware(learned.client)], context_schema=Context)
    config = dict(named["config"])
    if "handler" in named:
        config["callbacks"] = [ReflexioCallbackHandler(client=learned.client, **named["handler"])]
    with reflexio.session("s", user_id=named.get("session")):
        run.invoke(QUESTION, config, context=named.get("context"))
    assert FACT in prompts(calls)[0]
    assert "imperial" not in prompts(calls)[0]
    if "handler" in named:
        assert [item.request.user_id for item in learned.requests()] == ["ann"]


@pytest.mark.parametrize("remembers", ["middleware", "model"])
@pytest.mark.parametrize("config", [{"configurable": {"thread_id": "t"}}, {"metadata": {"session_id": "s"}}])
def test_a_system_message_is_held_for_the_thread(learned: Memory, remembers: str, config: Config) -> None:
    """Also where nothing is captured: the prompt of each turn begins with that of the one before."""
    learned.learn("Wants the train report in minutes")
    calls, client = model(), learned.client
    chat = with_memory(calls, client, user_id="ann", placement="system") if remembers == "model" else calls
    middleware = [ReflexioMiddleware(client, user_id="ann", placement="system")] if chat is calls else []
    run = create_agent(chat, middleware=middleware, system_prompt="Be brief.")
    for question in ("Which units does the weather report use?", "And the train report?"):
        run.invoke({"messages": [{"role": "user", "content": question}]}, config)
    assert recalled(calls) == [1, 1]
    assert calls.seen[0][0] == calls.seen[1][0]


def test_a_turn_learns_its_user_from_the_context(learned: Memory) -> None:
    """Which no callback is told of."""
    run = create_agent(model(), middleware=[ReflexioMiddleware(learned.client)], context_schema=Context)
    callbacks = [ReflexioCallbackHandler(client=learned.client)]
    run.invoke(QUESTION, {"callbacks": callbacks}, context=Context("ann"))
    assert [item.request.user_id for item in learned.requests()] == ["ann"]


def test_without_a_user_nothing_personal_is_shown(learned: Memory) -> None:
    """A missing user is never everybody's."""
    calls = model()
    create_agent(calls, middleware=[ReflexioMiddleware(learned.client)]).invoke(QUESTION)
    assert recalled(calls) == [0]


def test_the_turn_notes_what_was_recalled_and_not_the_block(learned: Memory, config: Config) -> None:
    """Also where the handler, not the code around, makes the turn."""
    create_agent(model(), middleware=[ReflexioMiddleware(learned.client)]).invoke(QUESTION, config)
    assert learned.turns() == [[("user", QUESTION["messages"][0]["content"]), ("assistant", "metric")]]
    [item] = learned.requests()
    assert [found.kind for said in item.interactions for found in said.retrieved_learnings] == ["profile"]


def test_it_can_be_given_twice(learned: Memory) -> None:
    """And beside a model with memory: a prompt shows a block once."""
    calls = model()
    twice = [ReflexioMiddleware(learned.client, user_id="ann"), ReflexioMiddleware(learned.client, user_id="ann")]
    create_agent(with_memory(calls, learned.client, user_id="ann"), middleware=twice).invoke(QUESTION)
    assert recalled(calls) == [1]


@pytest.mark.parametrize("others", ["middleware", "model", "injected"])
@pytest.mark.parametrize("placement", ["turn", "system"])
def test_a_prompt_shows_one_block_wherever_others_put_theirs(learned: Memory, others: str, placement: Any) -> None:
    """At the other place, too; within a captured turn the same is asked for once."""
    calls, client = model(), learned.client
    elsewhere: Any = "system" if placement == "turn" else "turn"
    chat = with_memory(calls, client, placement=elsewhere) if others == "model" else calls
    middleware = [ReflexioMiddleware(client, placement=placement)]
    if others == "middleware":
        middleware.append(ReflexioMiddleware(client, placement=elsewhere))
    given = QUESTION["messages"]
    if others == "injected":
        given = client.inject(given, user_id="ann", placement=elsewhere)
    before = client.stats().get("recalls", 0)
    config: Config = {"callbacks": [ReflexioCallbackHandler(client=client, user_id="ann")]}
    create_agent(chat, middleware=middleware, system_prompt="Be brief.").invoke({"messages": given}, config)
    assert recalled(calls) == [1]
    assert client.stats()["recalls"] - before == 1
    [item] = learned.requests()
    assert [found.kind for said in item.interactions for found in said.retrieved_learnings] == ["profile"]


def test_a_resumed_run_recalls_anew(learned: Memory) -> None:
    """The block is in no checkpoint."""
    calls = model(call("ask", "c1", question="Sure?"), "metric")
    middleware = [ReflexioMiddleware(learned.client, user_id="ann")]
    run = create_agent(calls, [ask], middleware=middleware, checkpointer=InMemorySaver())
    config: Config = {"configurable": {"thread_id": "t"}}
    run.invoke(QUESTION, config)
    run.invoke(Command(resume="yes"), config)
    assert recalled(calls) == [1, 1]


def test_it_composes_with_other_middleware(learned: Memory) -> None:
    """A dynamic prompt and summaries."""

    @dynamic_prompt
    def prompt(request: Any) -> str:
        return f"{request.system_prompt or ''} Be kind."

    summary = SummarizationMiddleware(model("SUMMARY"), trigger=("messages", 3), keep=("messages", 1))
    for placement in ("turn", "system"):
        calls = model()
        memory = ReflexioMiddleware(learned.client, user_id="ann", placement=placement)  # type: ignore[arg-type]
        run = create_agent(calls, middleware=[memory, summary, prompt])
        history = [HumanMessage("old"), AIMessage("old answer"), HumanMessage("older")]
        run.invoke({"messages": [*history, HumanMessage(QUESTION["messages"][0]["content"])]})
        assert recalled(calls) == [1]
        assert "Be kind." in prompts(calls)[0]
        assert "SUMMARY" in prompts(calls)[0]


def test_nothing_new_from_the_user_recalls_nothing_before_the_agent(learned: Memory) -> None:
    """A run that goes on after tools shows the block of the question it works on."""
    calls = model()
    run = create_agent(calls, [look], middleware=[ReflexioMiddleware(learned.client, user_id="ann")])
    run.invoke({"messages": [AIMessage("Hello!")]})
    assert recalled(calls) == [0]


def test_an_agent_goes_on_without_a_memory_that_fails(learned: Memory) -> None:
    """A closed client."""
    learned.client.close()
    calls = model()
    with raise_internal_errors(False):
        run = create_agent(calls, middleware=[ReflexioMiddleware(learned.client, user_id="ann")])
        assert run.invoke(QUESTION)["messages"][-1].text == "metric"
    assert recalled(calls) == [0]


def test_recalling_does_not_block_the_event_loop(learned: Memory) -> None:
    """The store is read in another thread."""
    threads: list[str] = []
    client = learned.client
    inner = client.recall_async

    class Watched:
        """The same client, which notes in which thread it is asked."""

        sink = client.sink

        async def recall_async(self, query: str, **named: Any) -> Any:
            threads.append(threading.current_thread().name)
            return await inner(query, **named)

    calls = StreamingModel(answers=["metric"])
    run = create_agent(calls, middleware=[ReflexioMiddleware(Watched(), user_id="ann")])  # type: ignore[arg-type]
    asyncio.run(run.ainvoke(QUESTION))
    assert threads == ["MainThread"]
    assert recalled(calls) == [1]


def test_an_unknown_placement_is_refused() -> None:
    """At once, by name."""
    with pytest.raises(ValueError, match="placement"):
        ReflexioMiddleware(placement="tail")  # type: ignore[arg-type]
