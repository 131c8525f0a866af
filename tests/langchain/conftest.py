"""What the tests of the LangChain integration share: a real client on a file, and a handler on it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reflexio_integrations.langchain import ReflexioCallbackHandler, detach
from reflexio_middleware import ReflexioClient

Told = list[tuple[Any, ...]]


class Memory:
    """A client with what its tests ask: the turns as they were told, oldest first."""

    def __init__(self, client: ReflexioClient) -> None:
        self.client = client

    def requests(self) -> list[Any]:
        """All requests, session by session, oldest first."""
        self.client.flush()
        sessions = self.client.get_requests(top_k=1000).sessions  # newest first, and so are their requests
        return [item for session in reversed(sessions) for item in reversed(session.requests)]

    def turns(self) -> list[Told]:
        """Each turn as ``(role, content)`` pairs, with the tool calls as a third part where there are any."""
        return [[_told(item) for item in request.interactions] for request in self.requests()]

    def statuses(self) -> list[str]:
        return [item.request.status for item in self.requests()]

    def learn(self, *facts: str, user_id: str = "ann") -> None:
        self.client.add_user_profile([{"user_id": user_id, "content": fact} for fact in facts])


def _told(item: Any) -> tuple[Any, ...]:
    tools = [
        (tool.tool_name, tool.tool_data.get("input"), tool.tool_data.get("output"), tool.status)
        for tool in item.tools_used
    ]
    return (item.role, item.content, *([tools] if tools else []))


@pytest.fixture(autouse=True)
def _detached() -> Iterator[None]:
    yield
    detach()


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Memory]:
    with ReflexioClient(f"sqlite:///{tmp_path}/memory.db", learning="off", recall_timeout=5.0) as client:
        yield Memory(client)


@pytest.fixture
def handler(memory: Memory) -> ReflexioCallbackHandler:
    return ReflexioCallbackHandler(client=memory.client, user_id="ann")


@pytest.fixture
def config(handler: ReflexioCallbackHandler) -> dict[str, Any]:
    return {"callbacks": [handler]}


@pytest.fixture
def tea(memory: Memory) -> Memory:
    """A memory of two users, with what holds for all."""
    memory.learn(*(f"Likes tea of kind {number}" for number in range(6)))
    memory.learn("Likes coffee, not tea", user_id="bob")
    rule = {"user_id": "ann", "trigger": "Make tea", "content": "Boil the tea water first"}
    offers = {"content": "Offer milk with tea", "playbook_status": "approved"}
    rejected = {"content": "Never offer tea", "playbook_status": "rejected"}
    memory.client.add_user_playbook([{**rule, "agent_version": "v1"}])
    memory.client.add_agent_playbooks([{**item, "agent_version": "v1"} for item in (offers, rejected)])
    return memory
