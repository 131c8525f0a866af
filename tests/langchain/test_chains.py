"""Models and chains: each outermost run is one turn, whatever runs under it."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.output_parsers import JsonOutputParser, StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableLambda, RunnableParallel
from langchain_core.tools import tool
from pydantic import BaseModel

from reflexio_integrations.langchain import ReflexioCallbackHandler
from tests.langchain.conftest import Memory
from tests.langchain.scripted import ScriptedCompletion, ScriptedModel, StreamingModel, call

Config = dict[str, Any]
PROMPT = ChatPromptTemplate.from_messages(
    [("system", "Be brief."), ("human", "an example"), ("ai", "its answer"), ("human", "Say {word}")]
)
TOLD = [("user", "Say yes"), ("assistant", "yes it is")]


class Joke(BaseModel):
    """A joke."""

    setup: str


@tool
def double(number: int) -> int:
    """Twice the number."""
    return 2 * number


def model(*answers: Any, **kind: Any) -> ScriptedModel:
    return ScriptedModel(answers=list(answers or ["yes it is"]), **kind)


def streaming(*answers: Any, **kind: Any) -> StreamingModel:
    return StreamingModel(answers=list(answers or ["yes it is"]), **kind)


async def _each(items: Any) -> None:
    async for _ in items:
        pass


WAYS = {
    "invoke": lambda run, given, config: run.invoke(given, config),
    "ainvoke": lambda run, given, config: asyncio.run(run.ainvoke(given, config)),
    "stream": lambda run, given, config: list(run.stream(given, config)),
    "astream": lambda run, given, config: asyncio.run(_each(run.astream(given, config))),
    "batch": lambda run, given, config: run.batch([given], config),
    "abatch": lambda run, given, config: asyncio.run(run.abatch([given], config)),
    "astream_events": lambda run, given, config: asyncio.run(_each(run.astream_events(given, config, version="v2"))),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", [ScriptedModel, StreamingModel])
def test_a_bare_model_is_one_turn(memory: Memory, config: Config, way: str, kind: type[ScriptedModel]) -> None:
    """However it is called."""
    WAYS[way](kind(answers=["yes it is"]), "Say yes", config)
    assert memory.turns() == [TOLD]
    assert memory.statuses() == ["completed"]


@pytest.mark.parametrize("way", WAYS)
def test_a_chain_is_one_turn(memory: Memory, config: Config, way: str) -> None:
    """The rendered user message is the question; examples in the template are not."""
    WAYS[way](PROMPT | streaming() | StrOutputParser(), {"word": "yes"}, config)
    assert memory.turns() == [TOLD]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("nested", [False, True])
def test_fallbacks_are_one_turn(memory: Memory, config: Config, way: str, nested: bool) -> None:
    """LangChain reports their attempts as runs without a parent (langchain#36072)."""
    safe = streaming(ValueError("down")).with_fallbacks([streaming()])
    run, given = (PROMPT | safe, {"word": "yes"}) if nested else (safe, "Say yes")
    WAYS[way](run, given, config)
    assert memory.turns() == [TOLD]
    assert memory.statuses() == ["completed"]


def test_fallbacks_of_whole_chains_are_one_turn(memory: Memory, config: Config) -> None:
    """The question is told once, not once per attempt."""
    (PROMPT | model(ValueError("down"))).with_fallbacks([PROMPT | model()]).invoke({"word": "yes"}, config)
    assert memory.turns() == [TOLD]


@pytest.mark.parametrize("way", ["invoke", "ainvoke", "batch"])
def test_retries_are_one_turn(memory: Memory, config: Config, way: str) -> None:
    """An attempt that failed leaves nothing behind."""
    run = model(ValueError("down"), "yes it is").with_retry(wait_exponential_jitter=False)
    WAYS[way](run, "Say yes", config)
    assert memory.turns() == [TOLD]
    assert memory.statuses() == ["completed"]


@pytest.mark.parametrize("way", ["invoke", "ainvoke", "stream"])
def test_a_completion_model_is_one_turn(memory: Memory, config: Config, way: str) -> None:
    """Its prompt is the user's text."""
    WAYS[way](ScriptedCompletion(), "Six times nine?", config)
    assert memory.turns() == [[("user", "Six times nine?"), ("assistant", "forty-two")]]


def test_a_batch_is_a_turn_for_each_input(memory: Memory, config: Config) -> None:
    """Each with its own question."""
    model("ok").batch(["one", "two", "three"], config)
    assert sorted(turn[0] for turn in memory.turns()) == [("user", "one"), ("user", "three"), ("user", "two")]


def test_parallel_branches_answer_one_question(memory: Memory, config: Config) -> None:
    """Every branch's answer is kept, in the order of the result."""
    RunnableParallel(first=model("one"), second=model("two")).invoke("Say yes", config)
    assert memory.turns() == [[("user", "Say yes"), ("assistant", "one"), ("assistant", "two")]]


def test_an_intermediate_model_call_is_no_answer(memory: Memory, config: Config) -> None:
    """Of a chain that rewrites and then answers, the answer is kept."""
    (model("rewritten") | RunnableLambda(lambda message: message.text) | model("answered")).invoke("Say yes", config)
    assert memory.turns() == [[("user", "Say yes"), ("assistant", "answered")]]


def test_a_result_that_a_step_changed_is_the_answer(memory: Memory, config: Config) -> None:
    """What the user gets, not what the model said."""
    (PROMPT | model() | StrOutputParser() | RunnableLambda(str.upper)).invoke({"word": "yes"}, config)
    assert memory.turns() == [[("user", "Say yes"), ("assistant", "YES IT IS")]]


@pytest.mark.parametrize("include_raw", [False, True])
def test_structured_output_is_its_json(memory: Memory, config: Config, include_raw: bool) -> None:
    """The call that carries the structure is no tool call."""
    structured = model(call("Joke", "c1", setup="why?")).with_structured_output(Joke, include_raw=include_raw)
    structured.invoke("A joke", config)
    assert memory.turns() == [[("user", "A joke"), ("assistant", '{"setup":"why?"}')]]


def test_a_parser_that_fails_leaves_the_answer_and_the_error(memory: Memory, config: Config) -> None:
    """The user's exception is the user's."""
    with pytest.raises(ValueError, match="Invalid json"):
        (PROMPT | model("no json") | JsonOutputParser()).invoke({"word": "yes"}, config)
    assert memory.turns() == [[("user", "Say yes"), ("assistant", "no json")]]
    assert memory.statuses() == ["error"]


def test_only_the_new_message_of_a_history_is_stored(memory: Memory, config: Config) -> None:
    """System messages and earlier turns are not told again."""
    history = [SystemMessage("Be brief."), HumanMessage("old"), AIMessage("old answer")]
    model().invoke([*history, HumanMessage("new"), HumanMessage("and this")], config)
    assert memory.turns() == [[("user", "new"), ("user", "and this"), ("assistant", "yes it is")]]


def test_a_prefilled_answer_does_not_hide_the_question(memory: Memory, config: Config) -> None:
    """Messages may end with the beginning of the answer."""
    model().invoke([HumanMessage("Say yes"), AIMessage("y")], config)
    assert memory.turns() == [TOLD]


def test_the_text_of_content_blocks_is_kept(memory: Memory, config: Config) -> None:
    """Reasoning is no answer, and media are named."""
    blocks = [{"type": "reasoning", "reasoning": "hm"}, {"type": "text", "text": "yes "}, {"type": "text", "text": "!"}]
    asked = HumanMessage([{"type": "text", "text": "Say yes"}, {"type": "image", "url": "https://x.test/y.png"}])
    model(AIMessage(content_blocks=blocks)).invoke([asked], config)
    assert memory.turns() == [[("user", "Say yes\n[image: https://x.test/y.png]"), ("assistant", "yes !")]]


def test_a_model_that_fails_is_a_turn_with_its_error(memory: Memory, config: Config) -> None:
    """The question stays."""
    with pytest.raises(ValueError, match="down"):
        model(ValueError("down")).invoke("Say yes", config)
    assert memory.turns() == [[("user", "Say yes")]]
    assert memory.requests()[0].request.error == "ValueError: down"


@pytest.mark.parametrize("way", ["stream", "astream"])
def test_a_stream_that_breaks_keeps_what_was_said(memory: Memory, config: Config, way: str) -> None:
    """Of a bare model and of a chain."""
    for run, given in ((streaming(break_after=2), "Say yes"), (PROMPT | streaming(break_after=2), {"word": "yes"})):
        with pytest.raises(RuntimeError, match="line broke"):
            WAYS[way](run, given, config)
    assert memory.turns() == [[("user", "Say yes"), ("assistant", "yes it")]] * 2
    assert memory.statuses() == ["error", "error"]


@pytest.mark.parametrize("run", [streaming(), PROMPT | streaming() | StrOutputParser()], ids=["model", "chain"])
def test_a_stream_closed_early_is_partial(memory: Memory, config: Config, run: Any) -> None:
    """It keeps what was read."""
    given = "Say yes" if isinstance(run, StreamingModel) else {"word": "yes"}
    stream = run.stream(given, config)
    next(stream)
    stream.close()

    async def close_async() -> None:
        items = run.astream(given, config)
        await anext(items)
        await items.aclose()

    asyncio.run(close_async())
    assert memory.turns() == [[("user", "Say yes"), ("assistant", "yes")]] * 2
    assert memory.statuses() == ["partial", "partial"]


@pytest.mark.parametrize("streamed", [True, False])
def test_a_cancelled_task_is_a_cancelled_turn(memory: Memory, config: Config, streamed: bool) -> None:
    """With what had been said; the cancellation itself goes on."""

    async def cancel() -> None:
        waits = streaming(wait=True) if streamed else model(wait=True)
        chain = PROMPT | waits
        run = _each(chain.astream({"word": "yes"}, config)) if streamed else chain.ainvoke({"word": "yes"}, config)
        task = asyncio.ensure_future(run)
        await waits.waiting.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancel())
    assert memory.turns() == [[("user", "Say yes"), ("assistant", "yes")] if streamed else [("user", "Say yes")]]
    assert memory.statuses() == ["cancelled"]


async def _cancelled(run: Any, waits: ScriptedModel) -> None:
    task = asyncio.ensure_future(run)
    await waits.waiting.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def _out_of_time(run: Any, waits: ScriptedModel) -> None:
    async def agent() -> str:
        try:
            async with asyncio.timeout(None) as limit:
                reading = asyncio.ensure_future(waits.waiting.wait())
                reading.add_done_callback(lambda _: limit.reschedule(0))
                await run
        except TimeoutError:
            return "Sorry, that took too long"
        return ""

    assert await asyncio.create_task(agent()) == "Sorry, that took too long"


@pytest.mark.parametrize("end", [_cancelled, _out_of_time])
def test_a_bare_model_whose_task_is_cancelled_is_a_cancelled_turn(
    memory: Memory, handler: ReflexioCallbackHandler, config: Config, end: Any
) -> None:
    """LangChain reports no end of it: the turn ends with the task."""
    waits = model(wait=True)
    asyncio.run(end(waits.ainvoke("Say yes", config), waits))
    assert memory.turns() == [[("user", "Say yes")]]
    assert memory.statuses() == ["cancelled"]
    assert handler.open_runs == 0


async def test_a_stream_outlives_the_tasks_that_read_it(memory: Memory, config: Config) -> None:
    """``asyncio.wait_for`` reads each piece in a task of its own, which ends before the stream does."""
    stream = streaming(" yes it is").astream("Say yes", config)  # the first piece is empty, as with most providers
    read = [await asyncio.create_task(anext(stream)) for _ in range(4)]  # type: ignore[arg-type]
    assert memory.turns() == []
    assert "".join(piece.text for piece in read) == " yes it is"
    assert [piece.text async for piece in stream if piece.text] == []
    assert memory.turns() == [[("user", "Say yes"), ("assistant", " yes it is")]]
    assert memory.statuses() == ["completed"]


async def test_a_task_holds_nothing_of_the_models_that_it_called(memory: Memory, config: Config) -> None:
    """However many they are: it may live as long as the process."""
    message = HumanMessage("Say yes")
    seen = weakref.ref(message)
    asked = model()
    asked.seen = Forgetful()
    await asked.ainvoke([message], config)
    del message
    gc.collect()
    assert seen() is None


class Forgetful(list[Any]):
    """Keeps nothing."""

    def append(self, item: Any) -> None: ...


def test_a_tool_run_alone_is_one_turn(memory: Memory, config: Config) -> None:
    """With its input and output."""
    double.invoke({"number": 4}, config)
    with pytest.raises(ValueError, match="number"):
        double.invoke({"number": "x"}, config)
    assert memory.turns()[0] == [("assistant", "", [("double", {"number": 4}, "8", "success")])]
    assert memory.statuses() == ["completed", "error"]


def test_a_tool_in_a_chain_stands_on_the_answer(memory: Memory, config: Config) -> None:
    """Also where no model asked for it."""
    (RunnableLambda(lambda text: {"number": 4}) | double | RunnableLambda(str) | model("eight")).invoke("4?", config)
    assert memory.turns() == [[("user", "4?"), ("assistant", "eight", [("double", {"number": 4}, "8", "success")])]]


def test_a_chain_that_runs_its_tools_keeps_calls_and_results(memory: Memory, config: Config) -> None:
    """A tool loop written as a chain."""

    def loop(question: str) -> str:
        asking = model(call("double", "c1", number=4), "eight")
        messages: list[Any] = [HumanMessage(question)]
        while (answer := asking.invoke(messages)).tool_calls:
            messages += [answer, *(double.invoke(item) for item in answer.tool_calls)]
        return str(answer.text)

    RunnableLambda(loop).invoke("4?", config)
    called = ("assistant", "", [("double", {"number": 4}, "8", "success")])
    assert memory.turns() == [[("user", "4?"), called, ("assistant", "eight")]]


@pytest.mark.parametrize("run", [PROMPT, StrOutputParser()])
def test_templates_and_parsers_alone_are_no_turns(memory: Memory, config: Config, run: Any) -> None:
    """Nobody talks in them."""
    run.invoke({"word": "yes"} if run is PROMPT else "yes", config)
    assert memory.turns() == []


def test_an_agent_without_models_is_a_turn(memory: Memory, config: Config) -> None:
    """Text in, text out."""
    RunnableLambda(lambda question: f"about {question}").invoke("rain", config)
    assert memory.turns() == [[("user", "rain"), ("assistant", "about rain")]]


def test_results_at_the_end_of_the_messages_are_not_the_users(memory: Memory, config: Config) -> None:
    """A model that goes on after tools says only what is new."""
    messages = [HumanMessage("4?"), call("double", "c1", number=4), ToolMessage("8", tool_call_id="c1")]
    model("eight").invoke(messages, config)
    assert memory.turns() == [[("assistant", "eight")]]
