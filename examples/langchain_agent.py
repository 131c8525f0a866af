"""A LangChain agent with tools that remembers: capture, learn, recall. No key: a scripted model answers.

Needs ``reflexio-middleware[langchain]``. Run it: python examples/langchain_agent.py
"""

import tempfile
from pathlib import Path
from typing import Any

from langchain.agents import create_agent
from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.tools import tool
from pydantic import Field

import reflexio_middleware as reflexio
from reflexio_integrations.langchain import ReflexioMiddleware, attach


class ScriptedModel(BaseChatModel):
    """Stands for a chat model: gives its answers one after the other, and keeps the last prompt it was shown."""

    answers: list[AIMessage]
    shown: list[BaseMessage] = Field(default_factory=list)

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(self, tools: Any, **_: Any) -> "ScriptedModel":
        """The script calls tools by name."""
        return self

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **_: Any,
    ) -> ChatResult:
        self.shown[:] = messages
        return ChatResult(generations=[ChatGeneration(message=self.answers.pop(0))])


@tool
def find_restaurant(kind: str) -> str:
    """Find a restaurant of a kind."""
    return {"steak": "The Grill", "vegetarian": "Green Table"}[kind]


def calling(kind: str, call_id: str) -> AIMessage:
    """An answer that calls the tool."""
    call = {"name": "find_restaurant", "args": {"kind": kind}, "id": call_id}
    return AIMessage("", tool_calls=[call])


model = ScriptedModel(
    answers=[
        calling("steak", "1"),
        AIMessage("I have booked The Grill."),
        calling("vegetarian", "2"),
        AIMessage("Sorry! I have booked Green Table."),
        calling("vegetarian", "3"),
        AIMessage("Green Table, for four."),
    ]
)
# With a real one: model = langchain.chat_models.init_chat_model("openai:gpt-4o-mini"), and nothing else changes
# (the last lines of this file print what the scripted one was shown).

client = reflexio.ReflexioClient(f"sqlite:///{Path(tempfile.mkdtemp()) / 'memory.db'}")
attach()  # every LangChain run inside session() is captured
agent = create_agent(model, [find_restaurant], middleware=[ReflexioMiddleware()])  # and recalls

with reflexio.session("monday", user_id="ann", agent_version="v1"):
    messages: list[Any] = [{"role": "user", "content": "Book a dinner table. By the way, I am vegetarian."}]
    messages = agent.invoke({"messages": messages})["messages"]
    messages.append({"role": "user", "content": "No, book a vegetarian restaurant, not a steak house."})
    agent.invoke({"messages": messages})  # the whole history again: only what is new is stored

client.flush()

print("The turns of monday:")
for session in client.get_requests(user_id="ann").sessions:
    for number, data in enumerate(reversed(session.requests), 1):
        for item in data.interactions:
            for used in item.tools_used:
                print(f"  {number}. {item.role} used {used.tool_name}: {used.tool_data}")
            if item.content:
                print(f"  {number}. {item.role}: {item.content}")

with reflexio.session("tuesday", user_id="ann", agent_version="v1"):
    agent.invoke({"messages": [{"role": "user", "content": "Book a dinner table for four."}]})

print("\nWhat the model was shown on tuesday:")
for message in model.shown:
    if message.type == "human":
        print(message.text)

client.close()
