"""LangChain's own OpenAI model over a wrapped client: the handler tells the turn, the client does not tell it again."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from reflexio_integrations.langchain import ReflexioCallbackHandler
from tests.openai_sdk.scripted import AsyncClient, Client, Memory, Serve, user

langchain_openai = pytest.importorskip("langchain_openai")
Config = dict[str, Any]
TOLD = [("user", "Say yes"), ("assistant", "yes it is")]


@pytest.fixture
def config(memory: Memory) -> Config:
    return {"callbacks": [ReflexioCallbackHandler(client=memory.client, user_id="ann")]}


async def _each(items: Any) -> list[Any]:
    return [item async for item in items]


SYNC = {
    "invoke": lambda model, config: model.invoke("Say yes", config),
    "stream": lambda model, config: list(model.stream("Say yes", config)),
    "batch": lambda model, config: model.batch(["Say yes"], config),
    "ainvoke": lambda model, config: asyncio.run(model.ainvoke("Say yes", config)),
    "astream": lambda model, config: asyncio.run(_each(model.astream("Say yes", config))),
}


def over(client: Any, async_client: Any, **how: Any) -> Any:
    """A model over wrapped clients."""
    return langchain_openai.ChatOpenAI(
        model="m", api_key="k", max_retries=0, root_client=client, client=client.chat.completions,
        root_async_client=async_client, async_client=async_client.chat.completions, **how,
    )  # fmt: skip


@pytest.mark.parametrize("way", SYNC)
@pytest.mark.parametrize("responses", [False, True])
def test_a_bare_model_is_one_turn(
    memory: Memory, serve: Serve, client_of: Client, async_client_of: AsyncClient, config: Config, way: str,
    responses: bool,
) -> None:  # fmt: skip
    """Whatever it is asked with."""
    server = serve("yes it is")
    model = over(client_of(server), async_client_of(server), use_responses_api=responses)
    SYNC[way](model, config)
    assert memory.turns() == [TOLD]
    assert memory.statuses() == ["completed"]


def test_a_turn_whose_user_the_handler_does_not_know_is_that_of_the_client(
    memory: Memory, serve: Serve, client_of: Client, async_client_of: AsyncClient
) -> None:
    """A user whom the handler names stays."""
    server = serve("yes it is", "yes it is")
    model = over(client_of(server, user_id="bob"), async_client_of(server))
    for named in (None, "ann"):
        model.invoke("Say yes", {"callbacks": [ReflexioCallbackHandler(client=memory.client, user_id=named)]})
    assert memory.turns() == [TOLD, TOLD]
    assert [item.request.user_id for item in memory.requests()] == ["bob", "ann"]


def test_what_the_client_recalls_is_noted_on_the_turn_of_the_handler(
    tea: Memory, serve: Serve, client_of: Client, async_client_of: AsyncClient, config: Config
) -> None:
    """And stands in the prompt."""
    server = serve("Green tea, then.")
    over(client_of(server), async_client_of(server)).invoke("Which tea do I like?", config)
    assert tea.turns() == [[("user", "Which tea do I like?"), ("assistant", "Green tea, then.")]]
    assert tea.retrieved() == [1]
    assert "Likes green tea" in str(server.requests[0])


def test_a_call_beside_a_model_is_a_turn_of_its_own(
    memory: Memory, serve: Serve, client_of: Client, async_client_of: AsyncClient, config: Config
) -> None:
    """While its stream is read, and after it."""
    client = client_of(serve("first", "second"))
    other = serve("yes it is")
    model = over(client_of(other), async_client_of(other))
    stream = model.stream("Say yes", config)
    next(stream)
    client.chat.completions.create(model="m", messages=[user("Beside")])
    list(stream)
    client.chat.completions.create(model="m", messages=[user("After")])
    assert sorted(memory.turns()) == [
        [("user", "After"), ("assistant", "second")],
        [("user", "Beside"), ("assistant", "first")],
        TOLD,
    ]
