"""What is seen of one outermost LangChain run while it goes on: the raw material of a turn."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field
from typing import Any, Final, Literal
from uuid import UUID

from reflexio_middleware.capture.messages import Message
from reflexio_middleware.capture.snapshot import MAX_TEXT
from reflexio_middleware.capture.turn import Turn

from .tasks import TaskEnd

Kind = Literal["chain", "model", "tool", "retriever", "format"]
"""``format`` is a prompt template or an output parser: run alone, it is nobody's turn."""

MAX_SAID: Final = 2_000
"""Most messages noted of one run; beyond it the earliest stay."""


@dataclass(slots=True)
class Run:
    """One run under way.

    ``aside`` says that its words are not the agent's: it runs inside a tool (whose output tells what came of it), or
    is a call that a middleware makes for its own ends, such as a summary.
    """

    run_id: UUID
    observed: Observed
    kind: Kind
    name: str = ""
    given: Any = None
    call_id: str = ""
    aside: bool = False
    pieces: list[str] = field(default_factory=list)
    size: int = 0

    @property
    def is_root(self) -> bool:
        """Whether this is the outermost run."""
        return self.run_id == self.observed.root_id

    def heard(self, text: str) -> None:
        """Take a piece of what the model streams."""
        if text and self.size <= MAX_TEXT:
            self.size += len(text)
            self.pieces.append(text)


@dataclass(slots=True, eq=False)
class Observed:
    """One outermost run with all that happened under it.

    Attributes:
        turn: The turn that it will become, or the one that was current when it began (then ``joined``).
        given: Its inputs, as they were when it began.
        prompt: The messages (or the text) of the first model call.
        said: What models answered and tools returned, in the order in which it happened.
        made: Ids of the messages that models made in this run.
        calls: Name and input of each tool run, by the id of the call.
        unfinished: What a model had streamed before it failed.
        in_graph: The first model call was made by a node of a graph.
        model_only: Only the model calls of an agent are reported (see :mod:`.parked`).
        users: What the user said, where that is known before the run has ended.
        task_end: Tells when the task ends that awaits a bare model.
    """

    root_id: UUID
    turn: Turn
    joined: bool
    kind: Kind
    given: Any = None
    open: dict[UUID, Run] = field(default_factory=dict)
    prompt: list[Any] | None = None
    said: list[Message] = field(default_factory=list)
    made: set[str] = field(default_factory=set)
    calls: dict[str, tuple[str, Any]] = field(default_factory=dict)
    unfinished: str = ""
    interrupted: bool = False
    in_graph: bool = False
    model_only: bool = False
    users: list[Message] | None = None
    task_end: TaskEnd | None = None
    began: float = field(default_factory=time.monotonic)

    def asked(self, messages: list[Any], *, in_graph: bool) -> None:
        """A model is called with ``messages``."""
        if self.prompt is None:
            self.prompt = list(messages)
            self.in_graph = in_graph

    def answered(self, message: Message, message_id: str = "") -> None:
        """A model answered."""
        self._say(message)
        self.unfinished = ""
        if message_id:
            self.made.add(message_id)

    def used(self, run: Run, text: str, status: str) -> None:
        """A tool returned, or failed."""
        call_id = run.call_id or str(run.run_id)
        self.calls[call_id] = (run.name, run.given)
        self._say(Message("tool", text, [], call_id, run.name, status))

    def returned(self, result: Message) -> None:
        """The result of a tool is read from the messages of a later model call."""
        self._say(result)

    def broke(self, run: Run, error: BaseException, text: str = "") -> None:
        """Something under this run failed; ``text`` is what a model had said until then."""
        if is_interrupt(error):
            self.interrupted = True
        if run.kind == "model" and not run.aside:
            self.unfinished = text or "".join(run.pieces)

    def _say(self, message: Message) -> None:
        if len(self.said) < MAX_SAID:
            self.said.append(message)


def is_interrupt(error: BaseException) -> bool:
    """Whether LangGraph stopped here to ask a human (control flow, no failure)."""
    errors = sys.modules.get("langgraph.errors")
    return errors is not None and isinstance(error, errors.GraphInterrupt)


def is_control_flow(error: BaseException) -> bool:
    """Whether LangGraph uses this exception to steer (interrupts, handing over to a parent graph)."""
    errors = sys.modules.get("langgraph.errors")
    return errors is not None and isinstance(error, errors.GraphBubbleUp)
