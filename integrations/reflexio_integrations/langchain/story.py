"""From what was observed of a run to the messages of its turn: only what is new, each answer once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from langchain_core.messages import BaseMessage

from reflexio_middleware.capture.arguments import Given, read_answer
from reflexio_middleware.capture.messages import Message
from reflexio_middleware.capture.snapshot import as_text

from .observed import Observed
from .reading import conversation_of, decisions_of, is_summary, read, resume_of


def after_the_question(outputs: Any, inputs: Any, users: Sequence[Message], seen: Observed) -> list[Message] | None:
    """What a graph's final state holds that is new in this run, or None if the outputs are no such state.

    New is what stands after the user's last message of this turn; where there was none (a graph that is resumed), what
    begins with the first message that was made in this run. Results that the state does not hold yet (of a tool that
    ended before another one asked for a human) are taken from what was observed.
    """
    messages = _state_messages(outputs)
    if messages is None:
        return None
    begin = None if not users or resume_of(inputs) is not None else _after_user(messages, users[-1])
    if begin is None:
        begin = next((at for at, item in enumerate(messages) if _made_here(item, seen)), len(messages))
        begin = _with_answers_of_a_human(messages, begin, decisions_of(inputs), seen)
    new = [read(item) for item in messages[begin:] if not is_summary(item)]
    new = [message for message in new if message.role not in ("user", "system", "remove")]
    asked = {call["id"] for message in new for call in message.tools}
    new = [m for m in new if m.role != "tool" or m.call_id in asked or m.call_id in seen.calls]
    told = {message.call_id for message in new if message.role == "tool"}
    new += [m for m in seen.said if m.role == "tool" and m.call_id in asked and m.call_id not in told]
    _add_structured(outputs, new)
    return with_calls(new, seen)


def _state_messages(outputs: Any) -> list[Any] | None:
    if isinstance(outputs, Mapping):
        messages = outputs.get("messages")
        return messages if isinstance(messages, list) and conversation_of(messages) is not None else None
    if isinstance(outputs, list) and outputs and all(isinstance(item, BaseMessage) for item in outputs):
        return outputs
    return None


def _after_user(messages: Sequence[Any], last: Message) -> int | None:
    for at in reversed(range(len(messages))):
        item = messages[at]
        if getattr(item, "type", "") in ("ai", "tool", "system") or is_summary(item):
            continue
        if read(item).text == last.text:
            return at + 1
    return None


def _made_here(item: Any, seen: Observed) -> bool:
    call_id = getattr(item, "tool_call_id", None)
    return (call_id in seen.calls) if call_id else (getattr(item, "id", None) in seen.made)


def _with_answers_of_a_human(
    messages: Sequence[Any], begin: int, decisions: Sequence[Mapping[str, Any]], seen: Observed
) -> int:
    """The place from which on what a human answered in the place of tools is new, too; its calls are noted as made.

    Results beside them may be of tools that ran before the interrupt: the interrupted turn has told those.
    """
    at = begin
    while decisions and at and getattr(messages[at - 1], "tool_call_id", None):
        at -= 1
    asked = {call["id"]: call for call in read(messages[at - 1]).tools} if 0 < at < begin else {}
    for item in messages[at:begin]:
        call, result = asked.get(item.tool_call_id), read(item)
        said = any(each.get("message") and str(each["message"]) in result.text for each in decisions)
        if call is not None and (said or result.status == "error"):
            seen.calls.setdefault(item.tool_call_id, (call["name"], call["input"]))
    return at


def _add_structured(outputs: Any, new: list[Message]) -> None:
    """An agent that answers with a structure has said it, though its last message may hold no text."""
    structure = outputs.get("structured_response") if isinstance(outputs, Mapping) else None
    answers = [message for message in new if message.role == "assistant"]
    if structure is not None and answers and not answers[-1].text:
        answers[-1].text = as_text(structure)


def is_waiting(messages: Sequence[Message]) -> bool:
    """Whether the last answer asks for tools of which not all have returned."""
    last = next((message for message in reversed(messages) if message.role == "assistant"), None)
    told = {message.call_id for message in messages if message.role == "tool"}
    return last is not None and any(call["id"] not in told for call in last.tools)


def with_calls(messages: Sequence[Message], seen: Observed) -> list[Message]:
    """``messages``, with the calls of those tools that nobody is seen to ask for put on the answer that follows."""
    asked = {call["id"] for message in messages for call in message.tools}
    told: list[Message] = []
    calls: list[dict[str, Any]] = []
    results: list[Message] = []
    for message in messages:
        if message.role == "tool" and message.call_id not in asked and message.call_id in seen.calls:
            name, given = seen.calls[message.call_id]
            calls.append({"id": message.call_id, "name": name, "input": given})
            results.append(message)
        elif message.role == "assistant" and calls:
            told += [replace(message, tools=[*calls, *message.tools]), *results]
            calls, results = [], []
        else:
            told.append(message)
    return [*told, Message("assistant", "", calls), *results] if calls else told


def from_events(seen: Observed) -> list[Message]:
    """All that was said under a run that did not come to its end, with what a model was saying when it broke off."""
    open_models = [run for run in seen.open.values() if run.kind == "model" and not run.aside]
    text = "".join(open_models[-1].pieces) if open_models else seen.unfinished
    said = [*seen.said, Message("assistant", text, [])] if text else seen.said
    return with_calls(said, seen)


def from_outputs(outputs: Any, seen: Observed) -> list[Message]:
    """What a chain or a model did and answered: its tool calls with their results, then its answer."""
    told = {message.call_id for message in seen.said if message.role == "tool"}
    work = [m for m in seen.said if m.role == "tool" or any(call["id"] in told for call in m.tools)]
    answers = [answer for answer in _answers(outputs, seen) if not any(_same(answer, m) for m in work)]
    return with_calls([*work, *answers], seen)


def _answers(outputs: Any, seen: Observed) -> list[Message]:
    if isinstance(outputs, str):
        return [Message("assistant", as_text(outputs), [])]
    if isinstance(outputs, BaseMessage):
        return [replace(read(outputs), role="assistant")] if outputs.type != "tool" else []
    models = [message for message in seen.said if message.role == "assistant"]
    if isinstance(outputs, Mapping):
        among = [_among(value, models) for value in outputs.values()]
        found = [message for message in among if message is not None]
        if found and any(message.text for message in found):
            return found
    if models and models[-1].text:
        return [models[-1]]
    value = outputs.get("parsed", outputs) if isinstance(outputs, Mapping) else outputs
    if models or isinstance(outputs, Mapping):
        return [replace(message, tools=[]) for message in read_answer(value, Given()) if message.text]
    return []


def _among(value: Any, models: Sequence[Message]) -> Message | None:
    """The answer that ``value`` is, if it is one of ``models``."""
    if not isinstance(value, (str, BaseMessage)):
        return None
    text = str(value) if isinstance(value, str) else read(value).text
    return next((message for message in models if text and message.text == text), None)


def _same(one: Message, other: Message) -> bool:
    return one is other or (one.role == other.role and one.text == other.text and one.tools == other.tools)
