"""``@capture`` and ``turn()``: each turn of an agent becomes one request, and the agent notices nothing."""

from __future__ import annotations

import asyncio
import functools
import inspect
import pickle
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel
from sqlalchemy import event
from sqlmodel import Field, Session, SQLModel, create_engine

from reflexio_middleware import capture, current_turn, session, turn
from reflexio_middleware.guard import raise_internal_errors
from tests.conftest import ListSink


def test_a_call_becomes_a_request_of_its_scope(sink: ListSink) -> None:
    """The argument is the user's message, the result the answer, the scope says whose it is."""

    @capture
    def agent(question: str) -> str:
        return question.upper()

    with session("session_001", user_id="ann", agent_version="v2.0", source="web_app", metadata={"plan": "pro"}):
        assert agent("hello") == "HELLO"
    made = sink.only
    assert (made.session_id, made.user_id, made.agent_version, made.source) == (
        "session_001", "ann", "v2.0", "web_app",
    )  # fmt: skip
    assert made.metadata == {"plan": "pro"}
    assert made.status == "completed"
    assert sink.said == [[("user", "hello"), ("assistant", "HELLO")]]


HISTORY = [
    {"role": "system", "content": "be kind"},
    {"role": "user", "content": "old"},
    {"role": "assistant", "content": "older answer"},
    {"role": "user", "content": "new"},
]


class Chat(BaseModel):
    """A body as web frameworks hand it to an agent."""

    session_id: str = "s"
    messages: list[Line] = []


class Line(BaseModel):
    role: str
    content: str


@dataclass
class Asked:
    session_id: str
    question: str


class Ask(NamedTuple):
    user_id: str
    query: str


class Reply(BaseModel):
    answer: str
    sources: list[str] = []


@pytest.mark.parametrize(
    ("args", "kwargs", "said"),
    [
        (("hi",), {}, ["hi"]),
        ((), {"question": "hi", "user_id": "ann"}, ["hi"]),
        ((HISTORY,), {}, ["new"]),
        (("new", HISTORY[:3]), {}, ["new"]),
        (({"messages": HISTORY},), {}, ["new"]),
        (({"input": "hi", "lang": "de"},), {}, ["hi"]),
        (
            ({"role": "user", "content": [{"type": "text", "text": "look"}, {"type": "image_url"}]},),
            {},
            ["look\n[image]"],
        ),
        (([("human", "one"), ("ai", "two"), ("human", "three")],), {}, ["three"]),
        (([*HISTORY, {"role": "user", "content": "and"}],), {}, ["new", "and"]),
        (([*HISTORY, {"role": "assistant", "content": "prefill"}],), {}, []),
        ((tuple(HISTORY),), {}, ["new"]),
        ((Chat(messages=[Line(**item) for item in HISTORY]),), {}, ["new"]),
        (("s", Asked("s", "hi")), {}, ["hi"]),
        ((), {"body": Ask("ann", "hi"), "verbose": True}, ["hi"]),
        ((Chat(),), {}, []),
        ((Reply(answer="none asked"),), {}, []),
        ((42,), {}, []),
    ],
)
def test_the_users_new_message_is_found(sink: ListSink, args: Any, kwargs: Any, said: list[str]) -> None:
    """Strings, messages, histories (only what is unanswered), and mappings and data objects that hold them."""

    @capture
    def agent(*args: Any, **kwargs: Any) -> str:
        return "ok"

    agent(*args, **kwargs)
    assert [content for role, content in sink.said[0] if role == "user"] == said


def test_the_parameter_names_decide_between_a_message_and_a_history(sink: ListSink) -> None:
    """In ``agent(history, message)`` the message is what is new."""

    @capture
    def agent(history: list[Any], message: str, model_name: str = "m") -> str:
        return "ok"

    agent(HISTORY[:3], "new")
    assert sink.said == [[("user", "new"), ("assistant", "ok")]]


def test_input_and_output_can_be_said(sink: ListSink) -> None:
    """By name or by function."""

    @capture(input="b", output="answer")
    def by_name(a: str, b: str) -> dict[str, str]:
        return {"answer": "x", "debug": "y"}

    @capture(input=lambda a, b: a + b, output=lambda result: result[1])
    def by_function(a: str, b: str) -> tuple[str, str]:
        return ("x", "y")

    @capture(input="body")
    def by_the_name_of_an_object(body: Asked, hint: str) -> str:
        return "x"

    by_name("1", "2")
    by_function("1", "2")
    by_the_name_of_an_object(Asked("s", "2"), "1")
    assert sink.said == [
        [("user", "2"), ("assistant", "x")],
        [("user", "12"), ("assistant", "y")],
        [("user", "2"), ("assistant", "x")],
    ]


def test_an_argument_of_a_class_method_is_found_by_its_name(sink: ListSink) -> None:
    """Whichever decorator stands above the other."""

    class Agent:
        @capture(input="question")
        @classmethod
        def above(cls, style: str, question: str) -> str:
            return "x"

        @classmethod
        @capture(input="question")
        def below(cls, style: str, question: str) -> str:
            return "x"

        @capture(input="question")
        @staticmethod
        def static(style: str, question: str) -> str:
            return "x"

    for ask in (Agent.above, Agent.below, Agent.static, Agent().above):
        ask("formal", "hi")
    assert sink.said == [[("user", "hi"), ("assistant", "x")]] * 4
    with pytest.raises(TypeError, match="the function has: cls, question"):
        capture(input="quesion")(classmethod(lambda cls, question: question))  # type: ignore[arg-type]


def test_an_unknown_input_name_is_an_error_at_decoration() -> None:
    """A mistake in our own API is said at once, with what there is."""
    with pytest.raises(TypeError, match="the function has: question"):
        capture(input="quesion")(lambda question: question)
    with pytest.raises(TypeError, match="expected a function"):
        capture(int)


OPENAI_RESPONSE = SimpleNamespace(
    choices=[
        SimpleNamespace(
            message=SimpleNamespace(
                role="assistant", content="done",
                tool_calls=[SimpleNamespace(id="1", function=SimpleNamespace(name="f", arguments='{"x": 1}'))],
            )
        )
    ]
)  # fmt: skip


@pytest.mark.parametrize(
    ("result", "content"),
    [
        ("text", "text"),
        ({"role": "assistant", "content": "text"}, "text"),
        ({"answer": "text"}, "text"),
        (Reply(answer="text", sources=["a"]), "text"),
        (Chat(messages=[*(Line(**item) for item in HISTORY), Line(role="assistant", content="text")]), "text"),
        (Asked("s", "why"), '{"session_id":"s","question":"why"}'),
        ({"messages": [*HISTORY, {"role": "assistant", "content": "text"}]}, "text"),
        ([*HISTORY, {"role": "assistant", "content": "text"}], "text"),
        (SimpleNamespace(output_text="text"), "text"),
        ({"a": 1}, '{"a":1}'),
        (["a", "b"], None),
        (OPENAI_RESPONSE, "done"),
        (None, None),
    ],
)
def test_the_agents_answer_is_found(sink: ListSink, result: Any, content: str | None) -> None:
    """Text, messages, conversations (only what is new), mappings, data and response objects; other data as JSON."""

    @capture
    def agent(messages: list[Any]) -> Any:
        return result

    assert agent(HISTORY) is result
    answers = [content for role, content in sink.said[0] if role == "assistant"]
    if content is None:
        assert answers in ([], ["a", "b"])
    else:
        assert answers == [content]


def test_tool_calls_stand_on_the_message_that_made_them(sink: ListSink) -> None:
    """An agent that appends to the history it was given: calls with inputs and outputs, nothing stored twice."""

    @capture
    def agent(messages: list[dict[str, Any]]) -> str:
        call = {"id": "c1", "type": "function", "function": {"name": "find", "arguments": '{"city": "Rome"}'}}
        messages.append({"role": "assistant", "content": None, "tool_calls": [call]})
        messages.append({"role": "tool", "tool_call_id": "c1", "content": "sunny"})
        messages.append({"role": "assistant", "content": "It is sunny."})
        return "It is sunny."

    agent([*HISTORY])
    first, second, third = sink.only.interactions
    assert (first.role, first.content) == ("user", "new")
    assert second.tools_used == [
        {"tool_name": "find", "tool_data": {"input": {"city": "Rome"}, "output": "sunny"}, "status": "success"}
    ]
    assert (third.role, third.content, third.tools_used) == ("assistant", "It is sunny.", [])


def test_what_an_agent_did_before_it_failed_is_kept(sink: ListSink) -> None:
    """The exception is the user's own; the turn holds what there was and what went wrong."""
    error = RuntimeError("the model died")

    @capture
    def agent(messages: list[dict[str, Any]]) -> str:
        messages.append({"role": "assistant", "content": "Let me look."})
        raise error

    with pytest.raises(RuntimeError) as caught:
        agent([*HISTORY])
    assert caught.value is error
    assert (sink.only.status, sink.only.error) == ("error", "RuntimeError: the model died")
    assert sink.said == [[("user", "new"), ("assistant", "Let me look.")]]


def test_current_turn_takes_tools_and_messages_by_hand(sink: ListSink) -> None:
    """Tools noted by hand stand on the answer that follows."""

    @capture
    def agent(question: str) -> str:
        made = current_turn()
        assert made is not None
        made.tool("search", {"q": question}, ["hit"], status="success")
        return "found"

    agent("where?")
    assert current_turn() is None
    assert sink.only.interactions[1].tools_used == [
        {"tool_name": "search", "tool_data": {"input": {"q": "where?"}, "output": ["hit"]}, "status": "success"}
    ]


def test_nested_captures_are_one_turn(sink: ListSink) -> None:
    """The outermost run is the turn."""

    @capture
    def inner(text: str) -> str:
        return text + "!"

    @capture
    def outer(text: str) -> str:
        return inner(inner(text))

    outer("a")
    inner("b")
    assert sink.said == [[("user", "a"), ("assistant", "a!!")], [("user", "b"), ("assistant", "b!")]]


def test_capture_twice_is_capture_once(sink: ListSink) -> None:
    """Decorating twice changes nothing."""
    capture(capture(lambda text: text))("a")
    assert len(sink.turns) == 1


async def test_coroutines_are_captured_and_cancelled_ones_say_so(sink: ListSink) -> None:
    """A cancelled call is neither completed nor an error."""
    started = asyncio.Event()

    @capture
    async def agent(text: str) -> str:
        started.set()
        await asyncio.sleep(10 if text == "wait" else 0)
        return "ok"

    assert inspect.iscoroutinefunction(agent)
    assert await agent("go") == "ok"
    task = asyncio.create_task(agent("wait"))
    await asyncio.sleep(0)
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [item.status for item in sink.turns] == ["completed", "cancelled"]
    assert current_turn() is None


async def test_concurrent_turns_do_not_mix(sink: ListSink) -> None:
    """200 interleaved turns: each request has its own session, user, input and output."""

    @capture
    async def agent(text: str) -> str:
        await asyncio.sleep(0)
        made = current_turn()
        assert made is not None
        made.tool("t", text)
        await asyncio.sleep(0)
        return f"answer to {text}"

    async def one(number: int) -> None:
        with session(f"s{number}", user_id=f"u{number}"):
            await agent(f"q{number}")

    await asyncio.gather(*(one(number) for number in range(200)))
    assert len(sink.turns) == 200
    for made in sink.turns:
        number = made.session_id[1:]
        assert made.user_id == f"u{number}"
        assert [item.content for item in made.interactions] == [f"q{number}", f"answer to q{number}"]
        assert made.interactions[1].tools_used[0]["tool_data"]["input"] == f"q{number}"


def test_streams_are_joined(sink: ListSink) -> None:
    """The chunks of a generator are one answer; its kind and items stay."""

    @capture
    def agent(text: str) -> Iterator[str]:
        yield from ("a", "b", "c")

    assert inspect.isgeneratorfunction(agent)
    assert list(agent("q")) == ["a", "b", "c"]
    assert sink.said == [[("user", "q"), ("assistant", "abc")]]


class Note(SQLModel, table=True):
    """A record of the host's, as an agent may be handed it."""

    id: int = Field(primary_key=True)
    prompt: str


def test_no_record_is_loaded_to_look_for_a_message(sink: ListSink) -> None:
    """What a database object does not hold yet, it would ask the database for."""
    engine = create_engine("sqlite://")
    SQLModel.metadata.create_all(engine, [Note.__table__])
    asked: list[str] = []

    @capture
    def agent(note: Note, said: str) -> str:
        return "yes"

    with Session(engine) as database:
        note = Note(id=1, prompt="secret")
        database.add(note)
        database.commit()
        event.listen(engine, "before_cursor_execute", lambda *args: asked.append(args[2]))
        agent(note, "is it?")
        assert asked == [] and sink.said == [[("user", "is it?"), ("assistant", "yes")]]
        assert note.prompt == "secret" and asked
    engine.dispose()


@dataclass
class Piece:
    content: str
    done: bool = False


@pytest.mark.parametrize("form", [lambda text: {"content": text}, Piece, lambda text: SimpleNamespace(text=text)])
def test_pieces_that_hold_a_text_are_joined(sink: ListSink, form: Callable[[str], Any]) -> None:
    """Mappings and data objects alike."""

    @capture
    def agent(text: str) -> Iterator[Any]:
        yield from map(form, ("a", "b", ""))

    list(agent("q"))
    assert sink.said == [[("user", "q"), ("assistant", "ab")]]


@pytest.mark.parametrize(
    ("items", "answer"),
    [
        (["Hel", "lo", {"usage": 3}], "Hello"),
        ([{"stage": "search"}, "Hel", {"stage": "write"}, "lo"], "Hello"),
        (["Searching ...", {"answer": "Hello", "usage": 3}], "Hello"),
        ([{"stage": "search"}, {"stage": "end"}], '{"stage":"end"}'),
    ],
)
def test_texts_of_a_stream_are_not_lost_to_other_data(sink: ListSink, items: list[Any], answer: str) -> None:
    """They are the answer, unless the last item holds one."""

    @capture
    def agent(text: str) -> Iterator[Any]:
        yield from items

    @capture(output="usage")
    def named(text: str) -> Iterator[Any]:
        yield from ("Hello", {"usage": "three"})

    list(agent("q"))
    list(named("q"))
    assert sink.said == [[("user", "q"), ("assistant", answer)], [("user", "q"), ("assistant", "three")]]


def test_openai_chunks_are_joined(sink: ListSink) -> None:
    """Chat completion chunks give their delta text."""

    def chunk(text: str | None) -> Any:
        return SimpleNamespace(choices=[SimpleNamespace(delta=SimpleNamespace(content=text))])

    @capture
    def agent(text: str) -> Iterator[Any]:
        yield from (chunk("Hel"), chunk("lo"), chunk(None))

    list(agent("q"))
    assert sink.said == [[("user", "q"), ("assistant", "Hello")]]


@pytest.mark.parametrize("how", ["break", "close", "collect"])
def test_a_stream_that_is_left_early_is_partial(sink: ListSink, how: str) -> None:
    """However the consumer stops, there is one record, with what was streamed."""

    @capture
    def agent(text: str) -> Iterator[str]:
        yield from ("a", "b", "c")

    stream = agent("q")
    for _ in stream:
        break
    if how == "close":
        stream.close()  # type: ignore[attr-defined]
    del stream
    assert sink.only.status == "partial"
    assert sink.said == [[("user", "q"), ("assistant", "a")]]


def test_a_stream_that_is_never_read_is_no_turn(sink: ListSink) -> None:
    """Nothing ran, nothing is recorded."""

    @capture
    def agent(text: str) -> Iterator[str]:
        yield text

    agent("q")
    assert sink.turns == []


async def test_async_streams(sink: ListSink) -> None:
    """Read to the end, left early, and failing half way."""

    @capture
    async def agent(text: str) -> AsyncIterator[str]:
        yield "a"
        await asyncio.sleep(0)
        yield "b"
        if text == "fail":
            raise ValueError("lost")

    assert inspect.isasyncgenfunction(agent)
    assert [item async for item in agent("q")] == ["a", "b"]
    stream = agent("q")
    assert await anext(stream) == "a"
    await stream.aclose()  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="lost"):
        _ = [item async for item in agent("fail")]
    assert [(item.status, item.interactions[-1].content) for item in sink.turns] == [
        ("completed", "ab"), ("partial", "a"), ("error", "ab"),
    ]  # fmt: skip


def test_nothing_stays_set_between_two_steps_of_a_generator(sink: ListSink) -> None:
    """The consumer of a stream is not inside its turn."""

    @capture
    def agent(text: str) -> Iterator[bool]:
        yield current_turn() is not None
        yield current_turn() is not None

    inside = []
    for item in agent("q"):
        inside.append(item)
        assert current_turn() is None
    assert inside == [True, True]


ACTIONS = st.lists(st.sampled_from(["next", "send", "throw", "close", "exit"]), max_size=8)


def _body(seen: list[Any]) -> Iterator[Any]:
    for number in range(3):
        try:
            seen.append((yield number))
        except KeyError as error:
            seen.append(error.args[0])
            yield "caught"
    return "returned"


def _drive(stream: Any, actions: list[str]) -> list[Any]:
    told: list[Any] = []
    for number, action in enumerate(actions):
        try:
            if action == "next":
                told.append(next(stream))
            elif action == "send":
                told.append(stream.send(number if told else None))
            elif action == "throw":
                told.append(stream.throw(KeyError(number)))
            elif action == "exit":
                told.append(stream.throw(GeneratorExit()))
            else:
                told.append(stream.close())
        except StopIteration as stop:
            told.append(("stop", stop.value))
        except BaseException as error:
            told.append((type(error), error.args))
    return told


@settings(max_examples=200)
@given(ACTIONS)
def test_a_captured_generator_behaves_as_the_bare_one(actions: list[str]) -> None:
    """Whatever the consumer does (next, send, throw, close), the same comes back."""
    plain_seen: list[Any] = []
    captured_seen: list[Any] = []
    with session("s", user_id="u", client=SimpleNamespace(sink=ListSink())):
        assert _drive(capture(_body)(captured_seen), actions) == _drive(_body(plain_seen), actions)
    assert captured_seen == plain_seen


async def _abody(seen: list[Any]) -> AsyncIterator[Any]:
    for number in range(3):
        try:
            seen.append((yield number))
        except KeyError as error:
            seen.append(error.args[0])
            yield "caught"


async def _adrive(stream: Any, actions: list[str]) -> list[Any]:
    told: list[Any] = []
    for number, action in enumerate(actions):
        try:
            if action == "next":
                told.append(await anext(stream))
            elif action == "send":
                told.append(await stream.asend(number if told else None))
            elif action == "throw":
                told.append(await stream.athrow(KeyError(number)))
            else:
                told.append(await stream.aclose())
        except BaseException as error:
            told.append((type(error), error.args))
    return told


@settings(max_examples=200)
@given(ACTIONS.map(lambda actions: [action for action in actions if action != "exit"]))
def test_a_captured_async_generator_behaves_as_the_bare_one(actions: list[str]) -> None:
    """The same for asend, athrow and aclose."""

    async def both() -> None:
        plain_seen: list[Any] = []
        captured_seen: list[Any] = []
        with session("s", user_id="u", client=SimpleNamespace(sink=ListSink())):
            assert await _adrive(capture(_abody)(captured_seen), actions) == await _adrive(_abody(plain_seen), actions)
        assert captured_seen == plain_seen

    asyncio.run(both())


class Agent:
    """An agent as a class, in all forms of methods."""

    @capture
    def method(self, text: str) -> str:
        """Answer."""
        return f"{type(self).__name__}:{text}"

    @capture
    @classmethod
    def of_class(cls, text: str) -> str:
        return f"{cls.__name__}:{text}"

    @staticmethod
    @capture
    def static(text: str) -> str:
        return text

    async def __call__(self, text: str) -> str:
        return f"called:{text}"


async def test_methods_and_callable_objects(sink: ListSink) -> None:
    """Methods of all kinds, partials and (async) callable objects; self is no message."""
    agent = Agent()
    assert agent.method("a") == "Agent:a"
    assert Agent.of_class("b") == "Agent:b"
    assert Agent.static("c") == "c"
    called = capture(agent)
    assert inspect.iscoroutinefunction(called)
    assert await called("d") == "called:d"
    assert capture(functools.partial(lambda prefix, text: prefix + text, "p"))("e") == "pe"
    assert [turn[0][1] for turn in sink.said] == ["a", "b", "c", "d", "e"]


def module_level(text: str, *, config: str = "", name: str = "", session_id: str = "", parent: str = "") -> str:
    """Echo."""
    return f"{text}{config}{name}{session_id}{parent}"


captured_at_module_level = capture(module_level)


def test_the_signature_stays_and_no_keyword_is_taken(sink: ListSink) -> None:
    """Name, signature and documentation are the function's own; every keyword reaches it."""
    wrapped = captured_at_module_level
    assert inspect.signature(wrapped) == inspect.signature(module_level)
    assert (wrapped.__name__, wrapped.__doc__) == ("module_level", "Echo.")
    assert wrapped("a", config="b", name="c", session_id="d", parent="e") == "abcde"


def test_a_captured_function_can_be_pickled() -> None:
    """As any function of a module."""
    sample: Callable[..., Any] = Agent.method
    assert pickle.loads(pickle.dumps(sample)) is sample


def test_turn_by_hand(sink: ListSink) -> None:
    """For agents that fit neither: add messages and tools by hand; an exception is noted and passed on."""
    with turn("s1", user_id="ann", source="cron") as made:
        made.user("do it")
        made.tool("run", {"cmd": "ls"}, "boom", status="error")
        made.assistant("It failed.")
        request_id = made.request_id
    with pytest.raises(KeyError), turn(user_id="ann") as made:  # noqa: PT012
        made.add("User", "again")
        raise KeyError("x")
    first, second = sink.turns
    assert (first.request_id, first.session_id, first.source) == (request_id, "s1", "cron")
    assert first.interactions[1].tools_used[0]["status"] == "error"
    assert (second.status, second.interactions[0].role) == ("error", "User")


async def test_turn_inside_a_turn_is_the_outer_one(sink: ListSink) -> None:
    """Also with ``async with``."""
    async with turn(user_id="ann") as outer:
        outer.user("q")
        async with turn(user_id="bob") as inner:
            assert inner is outer
        outer.assistant("a")
    assert sink.only.user_id == "ann"


async def test_one_turn_block_may_be_entered_by_many_tasks(sink: ListSink) -> None:
    """Each of them is a turn; entered again inside of its own it is the same turn, which ends with the outer block."""
    asking = turn("s", user_id="ann")

    async def ask(number: int) -> None:
        async with asking as made:
            made.user(f"question {number}")
            await asyncio.sleep(0)
            with asking as inner:
                assert inner is made
            await asyncio.sleep(0)
            made.assistant(f"answer {number}")

    await asyncio.gather(*(ask(number) for number in range(3)))
    assert sink.said == [[("user", f"question {n}"), ("assistant", f"answer {n}")] for n in range(3)]
    assert current_turn() is None


def test_a_turn_without_messages_is_not_stored(sink: ListSink) -> None:
    """There is nothing to keep."""
    with turn(user_id="ann"):
        pass
    assert sink.turns == []


def test_what_recall_injected_is_not_stored_as_the_users_words(sink: ListSink) -> None:
    """Marked text is taken out of what is stored."""

    @capture
    def agent(text: str) -> str:
        return "ok"

    agent("<reflexio_memory>\n- [p1] Likes tea.\n</reflexio_memory>\n\nhello")
    assert sink.said == [[("user", "hello"), ("assistant", "ok")]]


@pytest.mark.parametrize(
    "text",
    ["<reflexio_memory>" * 50_000, "<reflexio_memory" * 50_000, " " * 900_000 + "<reflexio_memory>"],
    ids=["begins", "half begins", "blanks"],
)
def test_no_text_of_a_user_holds_up_the_agent(sink: ListSink, text: str) -> None:
    """Tags that nothing closes are words; each text is read once, which took minutes where each tag was tried anew."""

    @capture
    def agent(text: str) -> str:
        return "ok"

    agent(text)
    assert sink.said == [[("user", text.strip()), ("assistant", "ok")]]


class Hostile:
    """An object whose every look raises."""

    def __repr__(self) -> str:
        raise RuntimeError("no repr")

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("no eq")

    __hash__ = object.__hash__


def test_whatever_an_agent_hands_over_the_turn_is_recorded(sink: ListSink) -> None:
    """Cycles, depth, hostile objects, NaN, bytes, iterators: markers in the record, nothing to notice outside."""
    cycle: dict[str, Any] = {}
    cycle["self"] = cycle
    deep: list[Any] = []
    for _ in range(10_000):
        deep = [deep]
    stream = iter([1, 2, 3])

    @capture(output=lambda result: result)
    def agent(text: str, values: Any) -> Any:
        return values

    for value in (cycle, deep, Hostile(), float("nan"), b"\x00\xff", stream, {1: {2, 3}}, "\ud800", 10**5000, object):
        assert agent("q", value) is value
    assert list(stream) == [1, 2, 3]
    assert len(sink.turns) == 10
    assert all(len(item.interactions) == 2 for item in sink.turns)


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text() | st.binary(), st.lists, max_leaves=20))
def test_any_value_can_be_an_argument_and_a_result(value: Any) -> None:
    """Whatever comes in goes through unchanged."""
    made = ListSink()
    with session("s", user_id="u", client=SimpleNamespace(sink=made)):
        assert capture(lambda x: x)(value) is value


def test_what_nobody_answered_belongs_to_the_call_that_answers_it(sink: ListSink) -> None:
    """And to the one that failed: that keeps its message and its status."""

    @capture
    def agent(messages: list[dict[str, str]]) -> str:
        if len(messages) == 1:
            raise ConnectionError("no line")
        return "On its way."

    history = [{"role": "user", "content": "Where is my order?"}]
    with pytest.raises(ConnectionError):
        agent(history)
    history.append({"role": "user", "content": "Hello?"})
    agent(history)
    asked = ("user", "Where is my order?")
    assert sink.said == [[asked], [asked, ("user", "Hello?"), ("assistant", "On its way.")]]
    assert [made.status for made in sink.turns] == ["error", "completed"]


def test_capture_off_captures_nothing(sink: ListSink, monkeypatch: pytest.MonkeyPatch) -> None:
    """One variable switches it off."""
    monkeypatch.setenv("REFLEXIO_CAPTURE", "off")
    assert capture(lambda text: text)("a") == "a"
    assert sink.turns == []


def test_a_base_exception_passes_and_leaves_a_clean_context(sink: ListSink) -> None:
    """The next call is a turn of its own."""

    @capture
    def agent(text: str) -> str:
        if text == "stop":
            raise KeyboardInterrupt
        return "ok"

    with pytest.raises(KeyboardInterrupt):
        agent("stop")
    agent("go")
    assert [item.status for item in sink.turns] == ["cancelled", "completed"]


def test_a_tool_call_told_twice_is_kept_once(sink: ListSink) -> None:
    """A callback tells of it while it runs, the returned conversation in the end; repeated ids alone decide nothing."""

    def call(number: int) -> dict[str, Any]:
        arguments = f'{{"n": {number}}}'
        return {"role": "assistant", "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": arguments}}]}

    def output(text: str) -> dict[str, Any]:
        return {"role": "tool", "tool_call_id": "c", "content": text}

    @capture
    def agent(question: str) -> Any:
        made = current_turn()
        assert made is not None
        made.add_messages([call(1), output("one"), call(2)])
        made.add_messages([output("two")])
        return [call(1), output("one"), call(2), output("two"), {"role": "assistant", "content": "done"}]

    agent("q")
    tools = [tool["tool_data"] for item in sink.only.interactions for tool in item.tools_used]
    assert tools == [{"input": {"n": 1}, "output": "one"}, {"input": {"n": 2}, "output": "two"}]
    assert sink.said == [[("user", "q"), ("assistant", ""), ("assistant", ""), ("assistant", "done")]]


def test_a_turn_by_hand_takes_anything(sink: ListSink, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is handed over, it does not raise; what cannot be kept is left out; off is off."""
    with raise_internal_errors(enabled=False), turn(user_id="ann", metadata="abc") as made:  # type: ignore[arg-type]
        made.user("q")
        made.retrieved(None)  # type: ignore[arg-type]
        made.retrieved([{"kind": "weird", "learning_id": ""}, {"kind": "profile"}])
        made.add_read(None)  # type: ignore[arg-type]
        made.answer_calls(None)  # type: ignore[arg-type]
        for number in range(1200):
            made.tool("t", number)
        made.assistant("a")
    assert sink.said == [[("user", "q"), ("assistant", "a")]]
    assert (sink.only.user_id, len(sink.only.interactions[1].tools_used)) == ("ann", 1000)
    monkeypatch.setenv("REFLEXIO_CAPTURE", "off")
    with turn(user_id="ann") as made:
        made.user("again")
    assert len(sink.turns) == 1
