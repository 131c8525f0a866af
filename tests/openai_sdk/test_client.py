"""The wrapped client itself: a copy of the same type, whatever it is a client of."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import openai
import pytest

from reflexio_integrations.openai import wrap
from reflexio_middleware.testing import ScriptedError
from tests.openai_sdk.scripted import AsyncClient, Client, Memory, Serve, user

ASK: list[Any] = [user("Make tea")]
TOLD = [("user", "Make tea"), ("assistant", "Yes.")]


def test_the_copy_is_of_the_same_type_and_the_original_untouched(memory: Memory, serve: Serve) -> None:
    """They share the connections; only calls of the copy are captured."""
    server = serve("Yes.", "Yes.")
    with openai.OpenAI(base_url=server.base_url, api_key="k", organization="o") as own:
        own.chat.completions.create(model="m", messages=ASK)  # makes the resources of the original
        copy = wrap(own, reflexio=memory.client, user_id="ann")
        assert isinstance(copy, openai.OpenAI)
        assert (type(copy).__name__, copy.user_agent) == ("OpenAI", own.user_agent)
        assert (copy.api_key, copy.organization, copy.base_url) == (own.api_key, "o", own.base_url)
        assert copy._client is own._client
        assert type(own) is openai.OpenAI
        copy.chat.completions.create(model="m", messages=ASK)
    assert memory.turns() == [TOLD]


def test_copies_with_other_options_are_wrapped(memory: Memory, serve: Serve, client_of: Client) -> None:
    """``with_options`` and ``copy``, as often as one likes."""
    client = client_of(serve("Yes.", "Yes."))
    client.with_options(timeout=7).copy(max_retries=0).chat.completions.create(model="m", messages=ASK)
    client.copy().responses.create(model="m", input="Make tea")
    assert memory.turns() == [TOLD, TOLD]


async def test_async_copies_are_wrapped(memory: Memory, serve: Serve, async_client_of: AsyncClient) -> None:
    """Likewise."""
    client = async_client_of(serve("Yes."))
    assert isinstance(client, openai.AsyncOpenAI)
    await client.with_options(timeout=7).chat.completions.create(model="m", messages=ASK)
    assert memory.turns() == [TOLD]


def test_wrapping_twice_captures_once_with_the_new_settings(memory: Memory, serve: Serve, client_of: Client) -> None:
    """The first copy keeps its own."""
    client = client_of(serve("Yes.", "Yes."))
    again = wrap(client, reflexio=memory.client, user_id="bob")
    assert type(again) is type(client)
    again.chat.completions.create(model="m", messages=ASK)
    client.chat.completions.create(model="m", messages=ASK)
    assert memory.turns() == [TOLD, TOLD]
    assert [item.request.user_id for item in memory.requests()] == ["bob", "ann"]


@pytest.mark.parametrize("deployment", [None, "d1"])
def test_azure_clients_are_wrapped(deployment: str | None, memory: Memory, serve: Serve) -> None:
    """With their paths and keys, copies included."""
    server = serve("Yes.", "Yes.", "Yes.")
    own = openai.AzureOpenAI(
        azure_endpoint=server.base_url, api_key="k", api_version="v", azure_deployment=deployment, max_retries=0
    )
    with own:
        client = wrap(own, reflexio=memory.client, user_id="ann")
        assert isinstance(client, openai.AzureOpenAI)
        client.chat.completions.create(model="m", messages=ASK)
        client.with_options(timeout=7).chat.completions.create(model="m", messages=ASK)
        client.responses.create(model="m", input="Make tea")
    assert memory.turns() == [TOLD] * 3


async def test_async_azure_clients_are_wrapped(memory: Memory, serve: Serve) -> None:
    """Likewise."""
    server = serve("Yes.", "Yes.")
    async with openai.AsyncAzureOpenAI(azure_endpoint=server.base_url, api_key="k", api_version="v") as own:
        client = wrap(own, reflexio=memory.client, user_id="ann")
        assert isinstance(client, openai.AsyncAzureOpenAI)
        await client.chat.completions.create(model="m", messages=ASK)
        await client.with_options(timeout=7).responses.create(model="m", input="Make tea")
    assert memory.turns() == [TOLD] * 2


def test_a_class_of_ones_own_is_wrapped(memory: Memory, serve: Serve) -> None:
    """Its constructor is not called again, its methods and attributes are there."""

    class Mine(openai.OpenAI):
        def __init__(self, server_url: str) -> None:
            super().__init__(base_url=server_url, api_key="k", max_retries=0)
            self.team = "blue"

        def ask(self, text: str) -> str | None:
            done = self.chat.completions.create(model="m", messages=[{"role": "user", "content": text}])
            return done.choices[0].message.content

    with Mine(serve("Yes.").base_url) as own:
        client = wrap(own, reflexio=memory.client, user_id="ann")
        assert (client.ask("Make tea"), client.team) == ("Yes.", "blue")
    assert memory.turns() == [TOLD]


def test_the_callers_exception_is_the_same_object(memory: Memory, serve: Serve, client_of: Client) -> None:
    """Nothing is wrapped around it."""
    with pytest.raises(openai.AuthenticationError) as caught:
        client_of(serve(ScriptedError(401, "who are you"))).chat.completions.create(model="m", messages=ASK)
    assert caught.value.status_code == 401
    assert type(caught.value) is openai.AuthenticationError
    assert memory.statuses() == ["error"]


def test_what_is_no_client_is_refused() -> None:
    """With an error that says so."""
    with pytest.raises(TypeError, match="not str"):
        wrap("client")  # type: ignore[type-var]
    with openai.OpenAI(api_key="k") as own, pytest.raises(ValueError, match="placement"):
        wrap(own, placement="end")  # type: ignore[arg-type]


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_the_package_imports_no_sdk() -> None:
    """Only the first use does."""
    run("import sys, reflexio_integrations.openai\nassert not {'openai', 'httpx', 'sqlalchemy'} & set(sys.modules)")


def test_without_the_sdk_the_error_names_the_extra() -> None:
    """And the command that installs it."""
    code = """
import sys
sys.modules["openai"] = None
import reflexio_integrations.openai as integration
try:
    integration.wrap
except ImportError as error:
    print(type(error).__name__, error)
"""
    assert run(code).strip() == (
        "MissingExtraError reflexio_integrations.openai.wrap needs an optional package: "
        "pip install 'reflexio-middleware[openai]'"
    )
