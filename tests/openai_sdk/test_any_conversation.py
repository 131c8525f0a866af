"""Whatever the course of a conversation, and however it is carried: each user message is one turn, told once."""

from __future__ import annotations

import contextlib
from typing import Any

import openai
from hypothesis import given, settings
from hypothesis import strategies as st

import reflexio_middleware as reflexio
from reflexio_integrations.openai import wrap
from reflexio_middleware.testing import ScriptedModelServer
from tests.openai_sdk.scripted import Memory, calls, output, result, user

Plan = list[list[int]]
"""Of each user message the answers that come before the last one, as how many tools each of them calls."""


class Model:
    """The answers to a plan, one after the other, and what a record of them is to hold."""

    def __init__(self, plan: Plan, *, repeat_ids: bool) -> None:
        self.answers: list[Any] = []
        self.told: list[Any] = []
        for at, steps in enumerate(plan):
            turn: list[Any] = [("user", f"question {at}")]
            for step, count in enumerate(steps):
                where = "" if repeat_ids else f"{at}-{step}-"
                made = [(f"{where}{number}", f"tool{number}", {"step": step}) for number in range(count)]
                self.answers.append(calls(*made, content=f"step {step}"))
                tools = [(name, given, f"result {call_id}", "success") for call_id, name, given in made]
                turn.append(("assistant", f"step {step}", tools))
            self.answers.append(f"answer {at}")
            self.told.append([*turn, ("assistant", f"answer {at}")])


def by_chat(client: openai.OpenAI, questions: int, stream: bool) -> None:
    """The caller carries the whole conversation."""
    messages: list[Any] = []
    for at in range(questions):
        messages.append(user(f"question {at}"))
        while messages[-1].get("role") != "assistant":
            if stream:
                with client.chat.completions.stream(model="m", messages=messages) as events:
                    message: Any = events.get_final_completion().choices[0].message
            else:
                message = client.chat.completions.create(model="m", messages=messages).choices[0].message
            messages.append({"role": "assistant", "content": message.content})
            if message.tool_calls:
                messages[-1]["tool_calls"] = calls(*((call.id, call.function.name, {}) for call in message.tool_calls))[
                    "tool_calls"
                ]
            messages += [result(call.id, f"result {call.id}") for call in message.tool_calls or ()]


def by_responses(client: openai.OpenAI, questions: int, stream: bool, *, chained: bool) -> None:
    """The caller carries the items, or the server keeps them."""
    items: list[Any] = []
    previous: dict[str, Any] = {}
    for at in range(questions):
        items.append(user(f"question {at}"))
        while items:
            if stream:
                with client.responses.stream(model="m", input=items, **previous) as events:
                    done: Any = events.get_final_response()
            else:
                done = client.responses.create(model="m", input=items, **previous)
            asked = [item for item in done.output if item.type == "function_call"]
            if chained:
                previous, items = {"previous_response_id": done.id}, []
            else:
                items += [item.model_dump(exclude={"parsed_arguments"}) for item in done.output]
            items += [output(item.call_id, f"result {item.call_id}") for item in asked]
            if not asked:
                break


@settings(max_examples=40, deadline=None)
@given(
    plan=st.lists(st.lists(st.integers(1, 3), max_size=3), min_size=1, max_size=4),
    way=st.sampled_from(["chat", "chat with ids that repeat", "items", "chain"]),
    named=st.booleans(),
    stream=st.booleans(),
)
def test_each_user_message_is_one_turn(plan: Plan, way: str, named: bool, stream: bool) -> None:
    """With its tools, their results and its answers, in order, nothing twice."""
    model = Model(plan, repeat_ids=way == "chat with ids that repeat")
    with (
        ScriptedModelServer(model.answers) as server,
        reflexio.ReflexioClient("sqlite://", learning="off") as memory,
        openai.OpenAI(base_url=server.base_url, api_key="k", max_retries=0) as own,
    ):
        client = wrap(own, reflexio=memory, user_id="ann", recall=False)
        with reflexio.session("s1") if named else contextlib.nullcontext():
            if way.startswith("chat"):
                by_chat(client, len(plan), stream)
            else:
                by_responses(client, len(plan), stream, chained=way == "chain")
        assert Memory(memory).turns() == model.told
