"""``ReflexioRetriever`` and ``ReflexioSearchTool``: the memory as LangChain documents, and as a tool."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from langchain.agents import create_agent

import reflexio_middleware as reflexio
from reflexio_integrations.langchain import ReflexioRetriever, ReflexioSearchTool
from reflexio_middleware import AsyncReflexioClient, ReflexioClient
from reflexio_middleware.guard import raise_internal_errors
from tests.langchain.conftest import Memory
from tests.langchain.scripted import ScriptedModel, call


def test_documents_say_what_was_tea_and_what_it_is(tea: Memory) -> None:
    """The best of each kind first, of this user only."""
    found = ReflexioRetriever(client=tea.client, user_id="ann", k=3).invoke("tea")
    assert [item.metadata["kind"] for item in found] == ["user_playbook", "profile", "agent_playbook"]
    assert [item.metadata["status"] for item in found] == ["current", "current", "approved"]
    assert found[0].page_content == "Boil the tea water first"
    assert found[0].metadata["trigger"] == "Make tea"
    assert all(item.metadata["learning_id"] for item in found)


def test_k_is_given_once_or_per_call(tea: Memory) -> None:
    """In the constructor and in invoke, sync and async."""
    retriever = ReflexioRetriever(client=tea.client, user_id="ann")
    assert len(retriever.invoke("tea")) == 5
    assert len(retriever.invoke("tea", k=2)) == 2
    assert len(asyncio.run(retriever.ainvoke("tea", k=7))) == 7


@pytest.mark.parametrize("named", ["argument", "session", "metadata", "nobody"])
def test_the_user_is_found_where_it_is_named(tea: Memory, named: str) -> None:
    """And without one, nothing personal is."""
    retriever = ReflexioRetriever(client=tea.client, user_id="bob" if named == "argument" else None)
    config: Any = {"metadata": {"user_id": "bob"}} if named == "metadata" else {}
    with reflexio.session("s", user_id="bob" if named == "session" else None):
        found = [item.page_content for item in retriever.invoke("tea", config)]
    everybody = ["Offer milk with tea"]
    assert found == (everybody if named == "nobody" else ["Likes coffee, not tea", *everybody])


def test_a_memory_that_fails_gives_no_documents(tea: Memory) -> None:
    """The agent goes on."""
    tea.client.close()
    with raise_internal_errors(False):
        assert ReflexioRetriever(client=tea.client, user_id="ann").invoke("tea") == []
        assert "Nothing" in ReflexioSearchTool(client=tea.client, user_id="ann").invoke("tea")


def test_a_query_without_words_finds_nothing(tea: Memory) -> None:
    """And raises nothing."""
    assert ReflexioRetriever(client=tea.client, user_id="ann").invoke("  ") == []


def test_the_tool_searches_for_the_user_of_the_run(tea: Memory, config: dict[str, Any]) -> None:
    """The model cannot name another; what was found is noted on the turn."""
    model = ScriptedModel(answers=[call("search_memory", "c1", query="tea", user_id="bob"), "Tea it is [p1]."])
    tool = ReflexioSearchTool(client=tea.client, k=2)
    create_agent(model, [tool]).invoke({"messages": "What do I like?"}, config)
    [(_, calling, _)] = tea.turns()
    [(name, _, output, status)] = calling[2]
    assert (name, status) == ("search_memory", "success")
    assert "Boil the tea water first" in output
    assert "coffee" not in output
    [item] = tea.requests()
    kinds = [found.kind for said in item.interactions for found in said.retrieved_learnings]
    assert kinds == ["user_playbook", "profile"]
    assert [(cited.kind, cited.tag) for said in item.interactions for cited in said.citations] == [("profile", "p1")]
    assert "user_id" not in tool.tool_call_schema.model_json_schema()["properties"]  # type: ignore[union-attr]


def test_the_tool_works_async_and_says_when_there_is_nothing(tea: Memory) -> None:
    """In words that a model understands."""
    tool = ReflexioSearchTool(client=tea.client, user_id="ann")
    assert "Offer milk with tea" in asyncio.run(tool.ainvoke("milk"))
    assert asyncio.run(tool.ainvoke("quantum chromodynamics")) == "Nothing about this is remembered."


def test_a_user_who_opted_out_is_found_nothing_personal(tea: Memory) -> None:
    """By the tool and the retriever as by every recall; what all users share is found."""
    tea.client.opt_out("ann")
    found = ReflexioRetriever(client=tea.client, user_id="ann").invoke("tea")
    assert [item.page_content for item in found] == ["Offer milk with tea"]
    assert "Boil" not in ReflexioSearchTool(client=tea.client, user_id="ann").invoke("tea")


def test_a_user_of_the_holdout_is_found_nothing(tmp_path: Path) -> None:
    """Else an agent with the tool would have recall all the same, and the comparison would show nothing."""
    home = f"sqlite:///{tmp_path / 'held.db'}"
    with ReflexioClient(home, retrieval_experiment="x", retrieval_holdout=1.0) as client:
        client.add_user_profile([{"user_id": "ann", "content": "Likes tea"}])
        with reflexio.session("s", user_id="ann", client=client), reflexio.turn() as made:
            made.user("tea?")
            assert ReflexioSearchTool(client=client).invoke("tea") == "Nothing about this is remembered."
            made.assistant("no")
        client.flush()
        request = client.get_requests(user_id="ann").sessions[0].requests[0].request
        assert request.retrieval_experiment_arm == "holdout"


def test_the_memory_of_an_async_client_is_found(tea: Memory) -> None:
    """As the session's client, or as one that is given."""
    shared = AsyncReflexioClient(client=tea.client)
    assert len(ReflexioRetriever(client=shared, user_id="ann").invoke("tea")) == 5
    with reflexio.session("s", user_id="ann", client=shared):
        assert len(ReflexioRetriever().invoke("tea")) == 5
