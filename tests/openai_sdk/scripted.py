"""What the tests of the OpenAI integration say and read."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import openai

from reflexio_middleware import ReflexioClient
from reflexio_middleware.testing import ScriptedModelServer

Serve = Callable[..., ScriptedModelServer]
Client = Callable[..., openai.OpenAI]
AsyncClient = Callable[..., openai.AsyncOpenAI]
Told = list[tuple[Any, ...]]


class Memory:
    """A client with what its tests ask: the requests as they were told, oldest first."""

    def __init__(self, client: ReflexioClient) -> None:
        self.client = client

    def requests(self) -> list[Any]:
        self.client.flush()
        sessions = self.client.get_requests(top_k=1000).sessions  # newest first, and so are their requests
        found = [item for session in sessions for item in session.requests]
        return sorted(found, key=lambda item: item.request.request_id)

    def turns(self) -> list[Told]:
        """Each turn as ``(role, content)`` pairs, with the tool calls as a third part where there are any."""
        return [[_told(item) for item in request.interactions] for request in self.requests()]

    def statuses(self) -> list[str]:
        return [item.request.status for item in self.requests()]

    def retrieved(self) -> list[int]:
        """How many learnings each turn's prompt held."""
        return [sum(len(i.retrieved_learnings) for i in request.interactions) for request in self.requests()]


def _told(item: Any) -> tuple[Any, ...]:
    tools = [
        (tool.tool_name, tool.tool_data.get("input"), tool.tool_data.get("output"), tool.status)
        for tool in item.tools_used
    ]
    return (item.role, item.content, *([tools] if tools else []))


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def calls(*named: tuple[str, str, dict[str, Any]], content: str | None = None) -> dict[str, Any]:
    """An answer that calls tools: ``(id, name, arguments)`` each."""
    made = [
        {"id": call_id, "type": "function", "function": {"name": name, "arguments": json.dumps(given)}}
        for call_id, name, given in named
    ]
    return {"content": content, "tool_calls": made}


def result(call_id: str, text: str) -> dict[str, str]:
    return {"role": "tool", "tool_call_id": call_id, "content": text}


def output(call_id: str, text: str) -> dict[str, str]:
    return {"type": "function_call_output", "call_id": call_id, "output": text}
