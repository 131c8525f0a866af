"""What the tests of the OpenAI integration share: a model server on the loopback, and a memory on a file."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import openai
import pytest

from reflexio_integrations.openai import finish_open_turns, wrap
from reflexio_middleware import ReflexioClient
from reflexio_middleware.testing import Answer, ScriptedModelServer
from tests.openai_sdk.scripted import AsyncClient, Client, Memory, Serve


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Memory]:
    with ReflexioClient(f"sqlite:///{tmp_path}/memory.db", learning="off", recall_timeout=5.0) as client:
        yield Memory(client)
        finish_open_turns()


@pytest.fixture
def tea(memory: Memory) -> Memory:
    """A memory that knows something about ann and tea."""
    memory.client.add_user_profile([{"user_id": "ann", "content": "Likes green tea"}])
    return memory


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Makes a server that gives these answers (or those of one function)."""
    with ExitStack() as stack:

        def make(*answers: Answer | Callable[[dict[str, Any]], Answer]) -> ScriptedModelServer:
            script: Any = answers[0] if len(answers) == 1 and callable(answers[0]) else answers
            return stack.enter_context(ScriptedModelServer(script))

        yield make


@pytest.fixture
def client_of(memory: Memory) -> Iterator[Client]:
    """Makes a wrapped client of a server; keyword arguments go to ``wrap``."""
    with ExitStack() as stack:

        def make(server: ScriptedModelServer, **how: Any) -> openai.OpenAI:
            retries = how.pop("max_retries", 0)
            client = openai.OpenAI(base_url=server.base_url, api_key="k", max_retries=retries, timeout=10)
            stack.enter_context(client)
            return wrap(client, **{"reflexio": memory.client, "user_id": "ann"} | how)

        yield make


@pytest.fixture
async def async_client_of(memory: Memory) -> AsyncIterator[AsyncClient]:
    """Makes a wrapped async client of a server."""
    made: list[openai.AsyncOpenAI] = []

    def make(server: ScriptedModelServer, **how: Any) -> openai.AsyncOpenAI:
        made.append(openai.AsyncOpenAI(base_url=server.base_url, api_key="k", max_retries=0, timeout=10))
        return wrap(made[-1], **{"reflexio": memory.client, "user_id": "ann"} | how)

    yield make
    for client in made:
        await client.close()
