"""An agent of your own, with tools and memory: one decorator, one line for recall. No framework, no key.

The "model" is a few lines of Python; put a call of yours in its place. Run it: python examples/custom_agent.py
"""

import json
import re
import tempfile
from pathlib import Path
from typing import Any

import reflexio_middleware as reflexio

client = reflexio.ReflexioClient(f"sqlite:///{Path(tempfile.mkdtemp()) / 'memory.db'}")
Message = dict[str, Any]


def convert(miles: float, unit: str) -> str:
    """A tool: miles in another unit."""
    factors = {"feet": 5280, "kilometres": 1.609}
    return f"{miles * factors[unit]:,.0f} {unit}"


def model(messages: list[Message]) -> Message:
    """Stands for a chat model: asks for the tool, then answers with what it gave."""
    last = messages[-1]
    if last["role"] == "tool":
        return {"role": "assistant", "content": f"That is {last['content']}."}
    prompt = last["content"]
    wanted = "kilometres" if re.search(r"kilomet", prompt, re.IGNORECASE) else "feet"
    miles = re.findall(r"\d+", " ".join(m["content"] for m in messages if m["role"] == "user"))[-1]
    call = {"name": "convert", "arguments": json.dumps({"miles": float(miles), "unit": wanted})}
    return {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "type": "function", "function": call}]}


@reflexio.capture
def agent(messages: list[Message]) -> str:
    """A plain tool loop. What it appends to ``messages`` is captured: tool calls with inputs and outputs."""
    prompt = client.inject(messages)  # what was learned that fits the latest message; usually nothing
    while True:
        answer = model([*prompt, *messages[len(prompt) :]])
        messages.append(answer)
        if not answer.get("tool_calls"):
            return str(answer["content"])
        for call in answer["tool_calls"]:
            output = convert(**json.loads(call["function"]["arguments"]))
            messages.append({"role": "tool", "tool_call_id": call["id"], "content": output})


def talk(session_id: str, *lines: str) -> None:
    """One conversation, printed."""
    messages: list[Message] = []
    print(f"--- {session_id}")
    with reflexio.session(session_id, user_id="ann", agent_version="v1"):
        for line in lines:
            messages.append({"role": "user", "content": line})
            print("user: ", line)
            print("agent:", agent(messages))
    client.flush()


talk("monday", "How far is 3 miles?", "No, use kilometres, not feet.")
talk("tuesday", "How far is 26 miles?")  # nobody says kilometres now: the memory does

turn = client.get_requests(session_id="tuesday").sessions[0].requests[0]
print("\nTuesday's turn, as it is kept:")
for item in turn.interactions:
    tools = [f"{t.tool_name}({t.tool_data['input']}) -> {t.tool_data['output']}" for t in item.tools_used]
    print(f"  {item.role}: {item.content or ', '.join(tools)}")
recalled = [used.kind for item in turn.interactions for used in item.retrieved_learnings]
print(f"  recalled into its prompt: {recalled}")
client.close()
