"""What was learned is put into the prompt, once per turn, and is never stored as anybody's words."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import openai
import pytest

import reflexio_middleware as reflexio
from reflexio_integrations.openai import wrap
from reflexio_middleware import AsyncReflexioClient
from reflexio_middleware.guard import raise_internal_errors
from reflexio_middleware.testing import ScriptedError
from tests.openai_sdk.scripted import AsyncClient, Client, Memory, Serve, calls, output, result, user

FACT = "Likes green tea"
ASK: list[Any] = [{"role": "system", "content": "Be kind."}, user("Make tea")]


def holds(text: Any) -> bool:
    return FACT in str(text) and str(text).count("<reflexio_memory>") == 1


def test_the_block_stands_before_the_users_words(tea: Memory, serve: Serve, client_of: Client) -> None:
    """In the request; the turn holds the words alone, and notes what was recalled."""
    server = serve("Yes.")
    client_of(server).chat.completions.create(model="m", messages=ASK)
    system, asked = server.requests[0]["messages"]
    assert system["content"] == "Be kind."
    assert holds(asked["content"])
    assert asked["content"].endswith("\n\nMake tea")
    assert tea.turns() == [[("user", "Make tea"), ("assistant", "Yes.")]]
    assert tea.retrieved() == [1]


@pytest.mark.parametrize("messages", [ASK, ASK[1:]])
def test_the_block_can_stand_in_the_system_message(
    messages: list[Any], tea: Memory, serve: Serve, client_of: Client
) -> None:
    """At its end, or in one of its own."""
    server = serve("Yes.")
    client_of(server, placement="system").chat.completions.create(model="m", messages=messages)
    system, asked = server.requests[0]["messages"]
    assert (system["role"], asked) == ("system", user("Make tea"))
    assert holds(system["content"])
    assert system["content"].startswith("Be kind." if messages is ASK else "<reflexio")


@pytest.mark.parametrize(
    "given", ["Make tea", [user("Hi"), user("Make tea")], [{"role": "user", "content": [
        {"type": "input_text", "text": "Make tea"}]}]],
)  # fmt: skip
def test_responses_hold_the_block_in_their_input(given: Any, tea: Memory, serve: Serve, client_of: Client) -> None:
    """Of every form; what the caller gave stays as it is."""
    before = repr(given)
    server = serve("Yes.")
    client_of(server).responses.create(model="m", input=given)
    sent = server.requests[0]["input"]
    latest = sent if isinstance(sent, str) else sent[-1]["content"]
    assert holds(latest)
    assert str(latest).rstrip("'}]").endswith("Make tea")
    assert repr(given) == before
    assert tea.turns()[0][-2:] == [("user", "Make tea"), ("assistant", "Yes.")]


@pytest.mark.parametrize("told", [None, "Be kind."])
def test_responses_can_hold_the_block_in_their_instructions(
    told: str | None, tea: Memory, serve: Serve, client_of: Client
) -> None:
    """A stored prompt has instructions of its own: then it is a message before the input."""
    server = serve("Yes.", "Yes.")
    client = client_of(server, placement="system")
    client.responses.create(model="m", input="Make tea", instructions=told)
    assert holds(server.requests[0]["instructions"])
    assert server.requests[0]["instructions"].startswith(told or "<reflexio")
    client.responses.create(model="m", input="Make tea", prompt={"id": "p1"})
    developer, asked = server.requests[1]["input"]
    assert holds(developer["content"])
    assert (developer["role"], asked["content"]) == ("developer", "Make tea")


def test_all_calls_of_a_turn_carry_the_same_block(tea: Memory, serve: Serve, client_of: Client) -> None:
    """It is recalled once, so that the provider's prompt cache keeps working."""
    server = serve(calls(("c1", "find", {})), calls(("c2", "find", {})), "Yes.")
    client = client_of(server)
    messages = list(ASK)
    with reflexio.session("s1", user_id="ann"):
        for call_id in ("c1", "c2", ""):
            done = client.chat.completions.create(model="m", messages=messages)
            messages += [done.choices[0].message, result(call_id, "x")]
            tea.client.add_user_profile([{"user_id": "ann", "content": f"Tea is fine {call_id}"}])
    asked = [request["messages"][1] for request in server.requests]
    assert holds(asked[0]["content"])
    assert asked == [asked[0]] * 3
    assert tea.retrieved() == [1]


@pytest.mark.parametrize("placement", ["turn", "system"])
def test_a_loop_at_the_server_has_the_block_where_it_belongs(
    placement: str, tea: Memory, serve: Serve, client_of: Client
) -> None:
    """In the user's message it is there already; instructions are not carried over, so they hold it again."""
    server = serve(calls(("c1", "find", {})), "Yes.")
    client = client_of(server, placement=placement)
    first = client.responses.create(model="m", input="Make tea")
    client.responses.create(model="m", input=[output("c1", "x")], previous_response_id=first.id)
    assert server.requests[1]["input"] == [output("c1", "x")]
    assert holds(server.requests[1].get("instructions")) == (placement == "system")


def test_inside_a_captured_turn_the_turn_notes_what_was_recalled(tea: Memory, serve: Serve, client_of: Client) -> None:
    """Once, though it is asked in every call; the user is the turn's."""
    server = serve("Yes.", "Yes.")

    @reflexio.capture(user_id="ann", client=tea.client)
    def agent(question: str) -> str:
        for _ in range(2):
            done = client.chat.completions.create(model="m", messages=[user(question)])
        return str(done.choices[0].message.content)

    client = client_of(server, user_id=None, reflexio=None)
    agent("Make tea")
    assert [holds(request["messages"][0]["content"]) for request in server.requests] == [True, True]
    assert tea.retrieved() == [1]


def test_calls_for_several_users_in_one_turn_have_each_their_own(tea: Memory, serve: Serve, client_of: Client) -> None:
    """Where the turn is of no user, a call is of the one whom it names."""
    server = serve("Yes.", "Yes.")

    @reflexio.capture(client=tea.client)
    def job(_: str) -> str:
        for user_id in ("ann", "bob"):
            client_of(server, user_id=user_id).chat.completions.create(model="m", messages=ASK)
        return "done"

    job("Answer all")
    assert [holds(request["messages"][1]["content"]) for request in server.requests] == [True, False]


def test_retries_of_the_sdk_carry_the_block_once(tea: Memory, serve: Serve, client_of: Client) -> None:
    """Each attempt is the same request."""
    answers: list[Any] = [ScriptedError(500), "Yes."]
    server = serve(*answers)
    client_of(server, max_retries=1).chat.completions.create(model="m", messages=ASK)
    first, second = server.requests
    assert first == second
    assert holds(second["messages"][1]["content"])


def test_a_prompt_that_holds_a_block_gets_no_second_one(tea: Memory, serve: Serve, client_of: Client) -> None:
    """Whoever put it there; it is not stored as the user's words."""
    server = serve("Yes.", "Yes.")
    given = tea.client.inject(ASK, user_id="ann")
    client_of(server).chat.completions.create(model="m", messages=given)
    client_of(server).responses.create(model="m", input=str(given[1]["content"]))
    assert server.requests[0]["messages"] == given
    assert server.requests[1]["input"] == given[1]["content"]
    assert [turn[0] for turn in tea.turns()] == [("user", "Make tea")] * 2


@pytest.mark.parametrize("placement", ["turn", "system"])
def test_a_block_at_the_other_place_is_no_less_one(
    placement: Any, tea: Memory, serve: Serve, client_of: Client
) -> None:
    """And the turn notes it."""
    server = serve("Yes.", "Yes.")
    client = client_of(server, placement="system" if placement == "turn" else "turn")
    given = tea.client.inject(ASK, user_id="ann", placement=placement)
    client.chat.completions.create(model="m", messages=given)
    client.responses.create(model="m", input=given[1:], instructions=given[0]["content"])
    assert server.requests[0]["messages"] == given
    assert (server.requests[1]["instructions"], server.requests[1]["input"]) == (given[0]["content"], given[1:])
    assert tea.retrieved() == [1, 1]


def test_an_image_alone_in_the_input_has_the_block_in_its_form(tea: Memory, serve: Serve, client_of: Client) -> None:
    """Parts of a response's input have types of their own."""
    server = serve("Yes.")
    image = {"type": "input_image", "image_url": "https://example.org/green-tea.png", "detail": "auto"}
    client_of(server).responses.create(model="m", input=[{"role": "user", "content": [image]}, user("Make tea")][::-1])
    assert [part["type"] for part in server.requests[0]["input"][-1]["content"]] == ["input_text", "input_image"]


def test_recall_can_be_left_out(tea: Memory, serve: Serve, client_of: Client) -> None:
    """Calls are still captured."""
    server = serve("Yes.")
    client_of(server, recall=False).chat.completions.create(model="m", messages=ASK)
    assert server.requests[0]["messages"] == ASK
    assert tea.turns() == [[("user", "Make tea"), ("assistant", "Yes.")]]


def test_another_user_sees_nothing_of_it(tea: Memory, serve: Serve, client_of: Client) -> None:
    """Nor does nobody."""
    server = serve("Yes.", "Yes.")
    for user_id in ("bob", None):
        client_of(server, user_id=user_id).chat.completions.create(model="m", messages=ASK)
    assert [request["messages"] for request in server.requests] == [ASK, ASK]


async def test_recall_in_async_code_does_not_block_the_loop(
    tea: Memory, serve: Serve, async_client_of: AsyncClient
) -> None:
    """And is put in all the same; an async memory serves too."""
    server = serve("Yes.", "Yes.")
    client = async_client_of(server, reflexio=AsyncReflexioClient(client=tea.client))
    beats = 0

    async def beat() -> None:
        nonlocal beats
        while True:
            beats += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(beat())
    await client.chat.completions.create(model="m", messages=ASK)
    await client.responses.create(model="m", input="Make tea")
    task.cancel()
    assert beats > 10
    assert holds(server.requests[0]["messages"][1]["content"])
    assert holds(server.requests[1]["input"])


def test_a_memory_that_fails_is_not_the_callers(tea: Memory, serve: Serve, client_of: Client) -> None:
    """The model is called without a block, at once."""
    server = serve("Yes.")
    client = client_of(server)
    tea.client.close()
    began = time.monotonic()
    with raise_internal_errors(False):
        done = client.chat.completions.create(model="m", messages=ASK)
    assert done.choices[0].message.content == "Yes."
    assert server.requests[0]["messages"] == ASK
    assert time.monotonic() - began < 5


def test_a_memory_that_is_too_slow_is_left_behind(tea: Memory, serve: Serve, client_of: Client) -> None:
    """By the time limit that is given."""
    server = serve("Yes.")
    client_of(server, timeout=1e-9).chat.completions.create(model="m", messages=ASK)
    assert server.requests[0]["messages"] == ASK
    assert tea.turns() == [[("user", "Make tea"), ("assistant", "Yes.")]]
    assert tea.client.stats()["recalls_late"] >= 1


def test_the_budget_is_kept(tea: Memory, serve: Serve, client_of: Client) -> None:
    """None of it is none."""
    server = serve("Yes.")
    client_of(server, token_budget=0).chat.completions.create(model="m", messages=ASK)
    assert server.requests[0]["messages"] == ASK


def test_the_scopes_client_is_the_memory(tea: Memory, serve: Serve) -> None:
    """Where none is given."""
    server = serve("Yes.")
    with (
        openai.OpenAI(base_url=server.base_url, api_key="k") as own,
        reflexio.session(user_id="ann", client=tea.client),
    ):
        wrap(own).chat.completions.create(model="m", messages=ASK)
    assert holds(server.requests[0]["messages"][1]["content"])
    assert tea.turns() == [[("user", "Make tea"), ("assistant", "Yes.")]]
