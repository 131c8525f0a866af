"""Replay recorded conversations through three ways of attaching, and check that all three leave the same record.

    python examples/replay.py CONVERSATIONS.json [--limit N]

CONVERSATIONS.json is a list of ``{"messages": [...]}`` in OpenAI chat format, tool calls included. The three ways: a
``@capture``d agent, a LangChain ``create_agent`` whose scripted model answers what the transcript answers and whose
tools return what the transcript returns, and ``publish_interaction``. Needs ``reflexio-middleware[langchain]``.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from langchain.agents import create_agent
from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool
from langgraph.checkpoint.memory import InMemorySaver
from pydantic import Field

import reflexio_middleware as reflexio
from reflexio_integrations.langchain import ReflexioCallbackHandler

Message = dict[str, Any]
Tools = list[tuple[str, Any, Any]]
Record = list[tuple[str, str, Tools]]  # one request: role, content, and tools with input and output


class NobodyAnsweredError(Exception):
    """The transcript ends here: what would answer is not there."""


@dataclass
class Conversation:
    """One recorded conversation: who speaks, and its turns (a user message and what the agent did then)."""

    name: str
    user: str
    system: Message | None
    turns: list[list[Message]]


def read(path: Path, limit: int | None) -> list[Conversation]:
    """The conversations of a file, cut at each user message."""
    made = []
    for number, item in enumerate(json.loads(path.read_text())[:limit]):
        turns: list[list[Message]] = []
        for message in item["messages"]:
            if message["role"] == "user":
                turns.append([])
            if turns:
                turns[-1].append(message)
        system = item["messages"][0] if item["messages"][0]["role"] == "system" else None
        made.append(Conversation(f"conversation_{number:03}", f"customer_{number:03}", system, turns))
    return made


def expected(turn: list[Message]) -> Record:
    """What the record of a turn has to be, read straight from the transcript.

    A result belongs to the latest call of its id that has none yet: recorded ids do repeat within a turn.
    """
    made: Record = []
    unanswered: list[tuple[str, Tools, int]] = []
    for message in turn:
        if message["role"] == "tool":
            at = max(at for at, (call_id, _, _) in enumerate(unanswered) if call_id == message["tool_call_id"])
            _, tools, place = unanswered.pop(at)
            tools[place] = (*tools[place][:2], message["content"])
            continue
        calls = message.get("tool_calls") or []
        tools = [(call["function"]["name"], json.loads(call["function"]["arguments"]), None) for call in calls]
        unanswered += [(call["id"], tools, place) for place, call in enumerate(calls)]
        made.append((message["role"], message["content"] or "", tools))
    return made


# --- way 1: any function, decorated ---------------------------------------------------------------------------------


@reflexio.capture
def transcript_agent(messages: list[Message], script: Iterator[Message]) -> str:
    """Work as the transcript did: append what the model and the tools said until there is an answer."""
    for message in script:
        messages.append(message)
        if message["role"] == "assistant" and not message.get("tool_calls"):
            return str(message["content"])
    raise NobodyAnsweredError


def by_decorator(client: reflexio.ReflexioClient, conversations: list[Conversation]) -> None:
    """Each conversation is a session; the agent is handed the whole history each time."""
    for conversation in conversations:
        history = [conversation.system] if conversation.system else []
        with reflexio.session(conversation.name, user_id=conversation.user, source="replay", client=client):
            for turn in conversation.turns:
                history.append(turn[0])
                try:
                    transcript_agent(history, iter(turn[1:]))
                except NobodyAnsweredError:
                    continue


# --- way 2: a LangChain agent with a callback ------------------------------------------------------------------------


class TranscriptModel(BaseChatModel):
    """A chat model that says what the transcript says."""

    script: Any = None

    @property
    def _llm_type(self) -> str:
        return "transcript"

    def bind_tools(self, tools: Any, **kwargs: Any) -> Runnable[Any, Any]:
        return self

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        message = next(self.script["model"], None)
        if message is None:
            raise NobodyAnsweredError
        calls = [
            {"name": call["function"]["name"], "args": json.loads(call["function"]["arguments"]), "id": call["id"]}
            for call in message.get("tool_calls") or []
        ]
        said = AIMessage(content=message["content"] or "", tool_calls=calls)
        return ChatResult(generations=[ChatGeneration(message=said)])


class TranscriptTool(BaseTool):
    """A tool that returns what it returned in the transcript."""

    description: str = "recorded"
    args_schema: Any = Field({"type": "object", "properties": {}, "additionalProperties": True})
    script: Any = None

    def _run(self, **kwargs: Any) -> str:
        return str(next(self.script["tools"])["content"])


def by_langchain(client: reflexio.ReflexioClient, conversations: list[Conversation]) -> None:
    """One agent with a checkpointer: it is handed the new message only, and remembers the rest itself."""
    script: dict[str, Iterator[Message]] = {}
    names = {
        call["function"]["name"]
        for conversation in conversations
        for turn in conversation.turns
        for message in turn
        for call in message.get("tool_calls") or []
    }
    tools = [TranscriptTool(name=name, script=script) for name in sorted(names)]
    agent = create_agent(TranscriptModel(script=script), tools=tools, checkpointer=InMemorySaver())
    handler = ReflexioCallbackHandler(client=client)
    for conversation in conversations:
        config: Any = {"callbacks": [handler], "configurable": {"thread_id": conversation.name}, "recursion_limit": 100}
        with reflexio.session(conversation.name, user_id=conversation.user, source="replay"):
            for turn in conversation.turns:
                script["model"] = iter([message for message in turn[1:] if message["role"] == "assistant"])
                script["tools"] = iter([message for message in turn if message["role"] == "tool"])
                try:
                    agent.invoke({"messages": [turn[0]]}, config)
                except NobodyAnsweredError:
                    continue


# --- way 3: publishing by hand ---------------------------------------------------------------------------------------


def by_publishing(client: reflexio.ReflexioClient, conversations: list[Conversation]) -> None:
    """Each turn is put together by hand."""
    for conversation in conversations:
        for turn in conversation.turns:
            client.publish_interaction(
                user_id=conversation.user,
                session_id=conversation.name,
                source="replay",
                interactions=[
                    {
                        "role": role,
                        "content": content,
                        "tools_used": [
                            {
                                "tool_name": name,
                                "tool_data": {"input": given, "output": output},
                                "status": "success" if output is not None else "",
                            }
                            for name, given, output in tools
                        ],
                    }
                    for role, content, tools in expected(turn)
                ],
            )


# --- check -----------------------------------------------------------------------------------------------------------


def stored(client: reflexio.ReflexioClient) -> dict[str, list[Record]]:
    """The whole record, page by page: requests of each session, oldest first."""
    made: dict[str, list[Record]] = {}
    cursor = None
    while True:
        page = client.get_requests(top_k=20, cursor=cursor)
        for session in page.sessions:
            made[session.session_id] = [
                [
                    (
                        item.role,
                        item.content,
                        [(t.tool_name, t.tool_data.get("input"), t.tool_data.get("output")) for t in item.tools_used],
                    )
                    for item in data.interactions
                ]
                for data in reversed(session.requests)
            ]
        if page.next_cursor is None:
            return made
        cursor = page.next_cursor


def count(records: dict[str, list[Record]]) -> list[int]:
    """Sessions, requests, interactions, tool calls, tool calls with output, requests without a final answer."""
    requests = [request for session in records.values() for request in session]
    items = [item for request in requests for item in request]
    tools = [tool for item in items for tool in item[2]]
    open_turns = sum(request[-1][0] != "assistant" or bool(request[-1][2]) for request in requests)
    return [len(records), len(requests), len(items), len(tools), sum(t[2] is not None for t in tools), open_turns]


WAYS: dict[str, Callable[[reflexio.ReflexioClient, list[Conversation]], None]] = {
    "@capture": by_decorator,
    "LangChain create_agent": by_langchain,
    "publish_interaction": by_publishing,
}


def main() -> int:
    """Replay, print the table, and say by the exit code whether every record is as the transcript."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("--limit", type=int, default=None, help="only the first N conversations")
    options = parser.parse_args()
    conversations = read(options.file, options.limit)
    wanted = {c.name: [expected(turn) for turn in c.turns] for c in conversations}
    turns = sum(len(c.turns) for c in conversations)

    row = "{:<24}{:>9}{:>10}{:>14}{:>7}{:>14}{:>12}{:>9}  {}".format
    print(row("", "sessions", "requests", "interactions", "tools", "with output", "unanswered", "turns/s", "record"))
    print(row("transcript", *count(wanted), "", ""))
    good = True
    with tempfile.TemporaryDirectory() as folder:
        for name, replay in WAYS.items():
            path = Path(folder) / f"{name.split()[0].strip('@')}.db"
            with reflexio.ReflexioClient(f"sqlite:///{path}", learning="off") as client:
                began = time.perf_counter()
                replay(client, conversations)
                rate = turns / (time.perf_counter() - began)
                client.flush(60)
                found = stored(client)
                on_disk = client.store.counts()
            same = found == wanted and on_disk["requests"] == turns and on_disk["interactions"] == count(wanted)[2]
            good = good and same
            print(row(name, *count(found), f"{rate:,.0f}", "as the transcript" if same else "DIFFERS"))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
