"""``with_memory``: every way of calling a chat model shows what was learned, once."""

from __future__ import annotations

import asyncio
import copy
import pickle
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import SummarizationMiddleware
from langchain_core.caches import InMemoryCache
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, SystemMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.outputs import ChatGenerationChunk
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import tool
from pydantic import BaseModel

import reflexio_middleware as reflexio
from reflexio_integrations.langchain import ReflexioCallbackHandler, with_memory
from tests.langchain.conftest import Memory
from tests.langchain.scripted import ScriptedModel, StreamingModel, call

Config = dict[str, Any]
QUESTION = "Which units does the weather report use?"
FACT = "Wants the weather report in metric units"


class Units(BaseModel):
    """The units."""

    system: str


@tool
def look(place: str) -> str:
    """Look at the sky."""
    return f"blue over {place}"


@pytest.fixture
def learned(memory: Memory) -> Memory:
    memory.learn(FACT)
    return memory


async def _each(items: Any) -> list[Any]:
    return [item async for item in items]


def _prompted(run: Any) -> Any:
    return ChatPromptTemplate.from_messages([("system", "Be brief."), ("human", "{text}")]) | run | StrOutputParser()


OPERATIONS = {
    "invoke": lambda m: m.invoke(QUESTION),
    "ainvoke": lambda m: asyncio.run(m.ainvoke(QUESTION)),
    "stream": lambda m: list(m.stream(QUESTION)),
    "astream": lambda m: asyncio.run(_each(m.astream(QUESTION))),
    "batch": lambda m: m.batch([QUESTION]),
    "abatch": lambda m: asyncio.run(m.abatch([QUESTION])),
    "batch_as_completed": lambda m: list(m.batch_as_completed([QUESTION])),
    "generate": lambda m: m.generate([[HumanMessage(QUESTION)]]),
    "agenerate": lambda m: asyncio.run(m.agenerate([[HumanMessage(QUESTION)]])),
    "astream_events": lambda m: asyncio.run(_each(m.astream_events(QUESTION, version="v2"))),
    "stream_events": lambda m: list(m.stream_events(QUESTION, version="v3")),
    "bind": lambda m: m.bind(stop=["x"]).invoke(QUESTION),
    "bind_tools": lambda m: m.bind_tools([look]).invoke(QUESTION),
    "bind_tools stream": lambda m: list(m.bind_tools([look]).stream(QUESTION)),
    "with_config": lambda m: m.with_config(tags=["t"]).invoke(QUESTION),
    "with_retry": lambda m: m.with_retry().invoke(QUESTION),
    "with_fallbacks": lambda m: m.with_fallbacks([m]).invoke(QUESTION),
    "chain": lambda m: _prompted(m).invoke({"text": QUESTION}),
    "chain stream": lambda m: list(_prompted(m).stream({"text": QUESTION})),
    "chain astream": lambda m: asyncio.run(_each(_prompted(m).astream({"text": QUESTION}))),
    "create_agent": lambda m: create_agent(m, [look]).invoke({"messages": QUESTION}),
    "create_agent stream": lambda m: list(
        create_agent(m, [look]).stream({"messages": QUESTION}, stream_mode="messages")
    ),
    "model_copy": lambda m: m.model_copy().invoke(QUESTION),
    "copy": lambda m: copy.copy(m).invoke(QUESTION),
    "twice": lambda m: with_memory(m, m._reflexio_recalling.client, user_id="ann").invoke(QUESTION),
}


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("kind", [ScriptedModel, StreamingModel])
def test_every_operation_shows_the_block_once(learned: Memory, operation: str, kind: type[ScriptedModel]) -> None:
    """For models that stream and models that cannot."""
    if operation == "stream_events" and kind is ScriptedModel:
        pytest.skip("LangChain refuses it for models that cannot stream")
    plain = kind(answers=["metric"])
    remembering = with_memory(plain, learned.client, user_id="ann")
    OPERATIONS[operation](remembering)
    assert [_blocks(messages) for messages in plain.seen] == [1]
    assert FACT in str(plain.seen[0])
    assert isinstance(remembering, kind)
    assert type(plain) is kind


def _blocks(messages: Any) -> int:
    return sum(str(message.text).count("<reflexio_memory>") for message in messages)


def test_media_beside_the_words_change_nothing_in_what_they_recall(learned: Memory) -> None:
    """Their types, sizes, hashes and addresses are no words of the question."""
    learned.learn("Lives in Bern with a dog and two cats")
    model = with_memory(ScriptedModel(answers=["Bern"]), learned.client, user_id="ann")
    media: list[list[Any]] = [
        [],
        [{"type": "image_url", "image_url": {"url": "https://example.org/one/photo-of-the-sky.png"}}],
        [{"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}],
        [{"type": "file", "base64": "JVBERi0=", "mime_type": "application/pdf"}],
        [{"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}}],
    ]
    for parts in media:
        model.invoke([HumanMessage([{"type": "text", "text": "Where do I live?"}, *parts])])
    assert ["Lives in Bern" in str(messages[0].content) for messages in model.seen] == [True] * 5


def test_structured_output_keeps_the_memory(learned: Memory) -> None:
    """It binds a tool to the model."""
    model = ScriptedModel(answers=[call("Units", "c1", system="metric")])
    answer = with_memory(model, learned.client, user_id="ann").with_structured_output(Units).invoke(QUESTION)
    assert answer == Units(system="metric")
    assert _blocks(model.seen[0]) == 1


def test_the_original_is_left_as_it_was(learned: Memory) -> None:
    """Its class, its fields, its prompt."""
    model = ScriptedModel(answers=["metric"])
    remembering = with_memory(model, learned.client, user_id="ann")
    model.invoke(QUESTION)
    assert type(model) is ScriptedModel
    assert _blocks(model.seen[0]) == 0
    assert type(remembering) is not ScriptedModel
    assert type(remembering).__name__ == "ScriptedModel"
    assert remembering.model_dump() == model.model_dump()


def test_only_what_a_provider_has_is_overridden(learned: Memory) -> None:
    """A model that cannot stream still falls back as LangChain does."""
    once, words = (with_memory(kind(answers=["a b"]), learned.client) for kind in (ScriptedModel, StreamingModel))
    assert "_stream" not in vars(type(once))
    assert {"_generate", "_agenerate", "_stream", "_astream"} <= set(vars(type(words)))
    assert len(list(words.stream("hi there"))) >= 2


def test_a_native_stream_of_events_is_covered(learned: Memory) -> None:
    """Providers may bypass ``_stream`` for it."""
    shown: list[Any] = []

    class Native(ScriptedModel):
        def _stream_chat_model_events(self, messages: Any, stop: Any = None, run_manager: Any = None, **_: Any) -> Any:
            shown.append(messages)
            return iter(())

    model = with_memory(Native(answers=["a"]), learned.client, user_id="ann")
    assert list(model._stream_chat_model_events([HumanMessage(QUESTION)])) == []
    assert _blocks(shown[0]) == 1


def test_a_provider_class_stays_what_it_is(learned: Memory) -> None:
    """isinstance, settings and the shared client hold."""
    openai = pytest.importorskip("langchain_openai")
    model = openai.ChatOpenAI(model="gpt-4o-mini", api_key="not-a-key")
    remembering = with_memory(model, learned.client)
    assert isinstance(remembering, openai.ChatOpenAI)
    assert remembering.client is model.client
    assert remembering._get_ls_params()["ls_provider"] == "openai"


def test_a_deep_copy_keeps_the_memory(learned: Memory) -> None:
    """It shares the client."""
    copied = copy.deepcopy(with_memory(ScriptedModel(answers=["metric"]), learned.client, user_id="ann"))
    copied.invoke(QUESTION)
    assert _blocks(copied.seen[0]) == 1


def test_it_can_be_pickled(learned: Memory) -> None:
    """Without its client: the scope's, or the default one, is used then."""
    packed = pickle.dumps(with_memory(_Plain(), learned.client, user_id="ann", placement="system"))
    restored = pickle.loads(packed)
    assert isinstance(restored, _Plain)
    with reflexio.session("s", client=learned.client):
        assert FACT in restored.invoke(QUESTION).text


class _Plain(ScriptedModel):
    """Says what it was shown."""

    def _answer(self, messages: Any) -> AIMessage:
        return AIMessage("\n".join(str(message.text) for message in messages))


def test_a_captured_turn_holds_the_words_without_the_block(learned: Memory, config: Config) -> None:
    """And notes what was recalled, asked for once in a loop of calls."""
    model = ScriptedModel(answers=[call("look", "c1", place="Bern"), "metric"])
    before = learned.client.stats().get("recalls", 0)
    create_agent(with_memory(model, learned.client), [look]).invoke({"messages": QUESTION}, config)
    assert [_blocks(messages) for messages in model.seen] == [1, 1]
    assert learned.client.stats()["recalls"] - before == 1
    used = ("look", {"place": "Bern"}, "blue over Bern", "success")
    assert learned.turns() == [[("user", QUESTION), ("assistant", "", [used]), ("assistant", "metric")]]
    [item] = learned.requests()
    assert [found.kind for said in item.interactions for found in said.retrieved_learnings] == ["profile"]


def test_a_summary_recalls_nothing(learned: Memory, config: Config) -> None:
    """What was recalled for it would stand in it, in the state, and on the record of what the answer was shown."""
    learned.learn("Wants a summary with the key context and the primary objective of the conversation")
    writer, answerer = ScriptedModel(answers=["SUMMARY"]), ScriptedModel(answers=["metric [p1]"])
    summary = SummarizationMiddleware(
        with_memory(writer, learned.client), trigger=("messages", 3), keep=("messages", 1)
    )
    agent = create_agent(with_memory(answerer, learned.client), middleware=[summary])
    agent.invoke({"messages": ["Hello", AIMessage("Hi"), HumanMessage("And now"), AIMessage("Yes"), QUESTION]}, config)
    assert [_blocks(messages) for messages in (*writer.seen, *answerer.seen)] == [0, 1]
    [item] = learned.requests()
    assert [len(said.citations) for said in item.interactions] == [0, 1]


def test_the_system_message_can_hold_the_block(learned: Memory) -> None:
    """At its end; one is made where there is none."""
    model = ScriptedModel(answers=["metric"])
    remembering = with_memory(model, learned.client, user_id="ann", placement="system")
    remembering.invoke([SystemMessage("Be brief."), HumanMessage(QUESTION)])
    remembering.invoke(QUESTION)
    assert [[message.type for message in messages] for messages in model.seen] == [["system", "human"]] * 2
    assert str(model.seen[0][0].text).startswith("Be brief.\n\n<reflexio_memory>")
    assert [messages[1].text for messages in model.seen] == [QUESTION, QUESTION]


def test_a_cached_answer_is_its_users(learned: Memory) -> None:
    """What one user's memory shaped is not given to another."""
    model = ScriptedModel(answers=["metric", "whatever"], cache=InMemoryCache())
    remembering = with_memory(model, learned.client)
    answers = []
    for user in ("ann", "ann", "bob"):
        with reflexio.session("s", user_id=user):
            answers.append(remembering.invoke(QUESTION).text)
    assert answers == ["metric", "metric", "whatever"]


def _as(user: str, way: str, learned: Memory) -> Config:
    """A configuration that names a user."""
    if way == "metadata":
        return {"metadata": {"user_id": user}}
    return {"callbacks": [ReflexioCallbackHandler(client=learned.client, user_id=user)]}


@pytest.mark.parametrize("way", ["metadata", "handler"])
@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_cached_answer_is_of_the_user_whom_the_run_names(learned: Memory, way: str, asynchronous: bool) -> None:
    """Also where the model is called bare, and nothing but its run knows the user."""
    model = ScriptedModel(answers=["metric", "whatever"], cache=InMemoryCache())
    remembering = with_memory(model, learned.client)

    def ask(user: str) -> str:
        config = _as(user, way, learned)
        return (asyncio.run(remembering.ainvoke(QUESTION, config)) if asynchronous else remembering.invoke(
            QUESTION, config)).text  # fmt: skip

    assert [ask(user) for user in ("ann", "ann", "bob")] == ["metric", "metric", "whatever"]
    assert [_blocks(messages) for messages in model.seen] == [1, 0]


class _Streams(ScriptedModel):
    """Streams, and has no methods of its own for asynchronous code."""

    def _stream(self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> Any:
        yield ChatGenerationChunk(message=AIMessageChunk(content=str(self._answer(messages).content)))


class _Blocks(ScriptedModel):
    """Has no methods of its own for asynchronous code."""

    _agenerate = BaseChatModel._agenerate


BARE = {name: OPERATIONS[name] for name in ("invoke", "ainvoke", "stream", "astream", "batch", "abatch")}


@pytest.mark.parametrize("way", ["metadata", "handler"])
@pytest.mark.parametrize("operation", BARE)
@pytest.mark.parametrize("kind", [ScriptedModel, StreamingModel, _Streams, _Blocks])
def test_a_bare_model_knows_the_user_of_its_run(
    learned: Memory, way: str, operation: str, kind: type[ScriptedModel]
) -> None:
    """However it is called: LangChain does not tell a model its run where it streams."""
    model = kind(answers=["metric [p1]"])
    BARE[operation](with_memory(model, learned.client).with_config(_as("ann", way, learned)))
    assert [_blocks(messages) for messages in model.seen] == [1]
    if way == "handler":
        [item] = learned.requests()
        assert [found.kind for said in item.interactions for found in said.retrieved_learnings] == ["profile"]


@pytest.mark.parametrize("aside", [{}, {"lc_source": "summarization"}])
@pytest.mark.parametrize("operation", BARE)
@pytest.mark.parametrize("kind", [ScriptedModel, StreamingModel, _Streams, _Blocks])
def test_the_memory_is_asked_once_for_the_user_of_the_run_alone(
    learned: Memory, aside: Config, operation: str, kind: type[ScriptedModel]
) -> None:
    """A provider's ways call one another, some in threads that know no run: the session around counts for nothing."""
    model = kind(answers=["whatever"])
    before = learned.client.stats().get("recalls", 0)
    with reflexio.session("s", user_id="ann", client=learned.client):
        BARE[operation](with_memory(model).with_config(metadata={"user_id": "bob"} | aside))
    assert [_blocks(messages) for messages in model.seen] == [0]
    assert learned.client.stats().get("recalls", 0) - before == (0 if aside else 1)


@pytest.mark.parametrize("outer", ["captured", "handled"])
@pytest.mark.parametrize("named", ["metadata", "session"])
def test_runs_for_several_users_in_one_turn_have_each_their_own(learned: Memory, outer: str, named: str) -> None:
    """A job that answers for many is a turn of no user; the first that a run in it names is not the next one's."""
    learned.learn("Wants the weather report in imperial units", user_id="bob")
    shown: list[str] = []
    model = with_memory(ScriptedModel(answers=["ok"]), learned.client)

    def job(_: str) -> str:
        for user in ("ann", "bob"):
            if named == "session":
                with reflexio.session("s", user_id=user):
                    model.invoke(QUESTION)
                    shown.append(learned.client.recall(QUESTION).text)
            else:
                model.invoke(QUESTION, {"metadata": {"user_id": user}})
        return "done"

    if outer == "captured":
        reflexio.capture(client=learned.client)(job)("Answer all")
    else:
        RunnableLambda(job).invoke("Answer all", {"callbacks": [ReflexioCallbackHandler(client=learned.client)]})
    assert ["metric" in str(messages) for messages in model.seen] == [True, False]
    assert ["imperial" in str(messages) for messages in model.seen] == [False, True]
    assert not shown or ["imperial" in text for text in shown] == [False, True]


def test_only_chat_models_are_taken() -> None:
    """Anything else is refused by name."""
    with pytest.raises(TypeError, match="chat model"):
        with_memory("gpt-4o")  # type: ignore[type-var]
