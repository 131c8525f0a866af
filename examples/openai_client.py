"""The OpenAI SDK: a tool loop as one turn, and what was learned in the next prompt. Needs ``[openai]``.

Here the model is a local server that speaks the real protocol with scripted answers; for a real one, leave out
``base_url`` and set OPENAI_API_KEY. Run it: python examples/openai_client.py
"""

import json
import tempfile
from pathlib import Path
from typing import Any

import openai

import reflexio_middleware as reflexio
from reflexio_integrations.openai import wrap
from reflexio_middleware.testing import ScriptedModelServer

LOOK_UP = {"name": "opening_hours", "arguments": json.dumps({"place": "vegan restaurants"})}
SCRIPTED = [
    {"content": None, "tool_calls": [{"id": "call_1", "type": "function", "function": LOOK_UP}]},
    "The Green Fork is open until ten.",
    "How about lentil soup?",
]


def agent(client: openai.OpenAI, question: str) -> str:
    """A loop as you would write it anyway: nothing in it knows of the memory."""
    messages: list[Any] = [{"role": "user", "content": question}]
    while True:
        message = client.chat.completions.create(model="gpt-4o-mini", messages=messages).choices[0].message
        messages.append(message)
        if not message.tool_calls:
            return str(message.content)
        messages += [{"role": "tool", "tool_call_id": call.id, "content": "until 22:00"} for call in message.tool_calls]


memory = reflexio.ReflexioClient(f"sqlite:///{Path(tempfile.mkdtemp()) / 'memory.db'}")
with (
    memory,
    ScriptedModelServer(SCRIPTED) as server,
    openai.OpenAI(base_url=server.base_url, api_key="not-needed-here") as model,
):
    client = wrap(model, reflexio=memory, user_id="ann")

    with reflexio.session("monday"):
        agent(client, "I am vegan. Which restaurants are open for dinner tonight?")
    memory.flush()

    for request in memory.get_requests(user_id="ann").sessions[0].requests:
        print(f"one turn, {request.request.status}, of {len(server.requests)} calls:")
        for item in request.interactions:
            tools = [f"{tool.tool_name} -> {tool.tool_data['output']}" for tool in item.tools_used]
            print(f"  {item.role}: {item.content or tools}")

    with reflexio.session("tuesday"):
        agent(client, "A quick vegan dinner to cook at home, please.")
    print("\nthe next session's prompt:")
    print(server.requests[-1]["messages"][0]["content"])
