"""Calls inside a turn that somebody else makes: only what nobody else tells is added to it."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

from reflexio_middleware.capture.messages import Message
from reflexio_middleware.capture.turn import Turn

from .asked import Asked
from .said import Said


def calling_only(said: Said) -> list[Message]:
    """The part of an answer that calls tools: whole where the caller has to run them, else (the server has run them)
    without the text, which is the final answer."""
    if said.waiting:
        return said.messages
    answers = [replace(item, text="") if item.role == "assistant" else item for item in said.messages]
    return answers if any(item.tools for item in answers) else []


class Joined:
    """Inside ``@capture`` and ``turn()``, which tell the question and the answer. Each call of a tool is kept once,
    whoever tells it: the turn sees to that."""

    __slots__ = ("turn",)

    def __init__(self, turn: Turn) -> None:
        self.turn = turn

    def asked(self, new: Asked) -> None:
        """A call brings results, and the question."""
        unknown = self.turn.answer_calls(new.results)
        told = {message.call_id for message in unknown}
        calls = [call for call in new.calls if any(each["id"] in told for each in call.tools)]
        if calls:
            self.turn.add_read([*calls, *unknown])
        self.turn.suggest(question=new.users)

    def answered(self, said: Said) -> None:
        """It was answered."""
        self.turn.add_read(calling_only(said))
        if not said.waiting:
            texts = [item.text for item in said.messages if item.role == "assistant" and item.text]
            self.turn.suggest(answer=texts[-1] if texts else "")

    def failed(self, error: BaseException, said: Said) -> None:  # noqa: ARG002 - the turn's maker sees it, too
        """It failed, perhaps not for whoever made the turn: they may try again."""
        self.turn.add_read(calling_only(said))


class InLangChain:
    """Inside a LangChain run, whose handler tells the turn: a tool loop that it does not see is reported to it."""

    __slots__ = ("_observed", "turn")

    def __init__(self, turn: Turn, observed: Any) -> None:
        self.turn = turn
        self._observed = observed

    def asked(self, new: Asked) -> None:
        """A call brings results."""
        known = {call["id"] for message in self._observed.said for call in message.tools}
        for message in new.results if known else ():
            if message.call_id in known:
                self._observed.returned(message)

    def answered(self, said: Said) -> None:
        """It was answered."""
        for message in calling_only(said):
            if message.role == "assistant":
                self._observed.answered(message)
            else:
                self._observed.returned(message)

    def failed(self, error: BaseException, said: Said) -> None:
        """It failed; so does the run, unless somebody tries again."""


def in_langchain(turn: Turn | None) -> InLangChain | None:
    """The LangChain run in which this code runs, if it makes the current ``turn`` or there is none.

    Nothing is told to it where LangChain reports what is said here (to the model that calls us), or where the output of
    a tool tells what came of it.
    """
    runs = sys.modules.get("reflexio_integrations.langchain.runs")
    if runs is None:
        return None
    if turn is None:
        model = runs.RUNS.asking()
        return InLangChain(model.observed.turn, _Deaf()) if model is not None else None
    run = runs.RUNS.run_around()
    if run is None or run.observed.turn is not turn or run.observed.joined:
        return None
    is_told = run.aside or run.kind == "tool" or any(each.kind == "model" for each in run.observed.open.values())
    return InLangChain(turn, _Deaf() if is_told else run.observed)


class _Deaf:
    """In the place of what is observed of a run, where there is nothing to tell."""

    said: tuple[Message, ...] = ()

    def answered(self, message: Message) -> None: ...

    def returned(self, message: Message) -> None: ...
