"""A turn: a request under construction, in memory, from its first message until it is handed to its sink.

At most one turn is current in a context: the outermost run is the turn, and what runs inside belongs to it.
"""

from __future__ import annotations

import os
import sys
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar, Token
from dataclasses import replace
from types import TracebackType
from typing import Any, Final, Literal, Protocol

from reflexio_middleware import scope as _scope
from reflexio_middleware.capture.citations import note_citations
from reflexio_middleware.capture.messages import (
    CallLog,
    Message,
    arguments_of,
    read_message,
    strip_injected,
    tool_record,
)
from reflexio_middleware.capture.snapshot import as_text, cut, snapshot
from reflexio_middleware.guard import count, guard, warn
from reflexio_middleware.scope import Scope
from reflexio_store.ids import uuid7
from reflexio_store.records import MAX_INTERACTIONS, InteractionRecord, TurnRecord

TurnStatus = Literal["completed", "partial", "cancelled", "interrupted", "error", "abandoned"]


MAX_TOOLS: Final = 1000
"""Most tool calls on one message (wire fact)."""
_KINDS: Final = ("profile", "user_playbook", "agent_playbook")
_WHY: Final = ("tag", "score", "coverage", "similarity", "reason")


class Sink(Protocol):
    """Where finished turns go. It must not raise and must not block; a client's masks secrets before all else."""

    def put(self, turn: TurnRecord) -> bool:
        """Take a turn; False if it had to be refused (counted there)."""
        ...


_current: ContextVar[weakref.ref[Turn] | None] = ContextVar("reflexio_turn", default=None)
_scope.carry(_current)
_default_sink: Callable[[], Sink] | None = None


def set_default_sink(make: Callable[[], Sink] | None) -> None:
    """Say where turns go whose scope names no client. Called once, by the package itself."""
    global _default_sink
    _default_sink = make


_finders: list[Callable[[], Turn | None]] = []


def find_turns_with(finder: Callable[[], Turn | None]) -> None:
    """Let an integration tell the turn of the code that runs, where it knows it by other means than this context."""
    if finder not in _finders:
        _finders.append(finder)


_settlers: list[Callable[[Sink], None]] = []


def settle_turns_with(settle: Callable[[Sink], None]) -> None:
    """Let an integration that holds turns open (until their tools have answered) finish those that go to a sink which
    is about to close."""
    if settle not in _settlers:
        _settlers.append(settle)


def settle_turns(sink: Sink) -> None:
    """Have all turns finished that are held open and go to ``sink``: it is about to close."""
    for settle in _settlers:
        with guard("finishing open turns"):
            settle(sink)


def current_turn() -> Turn | None:
    """The turn that runs in this context, or None."""
    held = _current.get()
    turn = held() if held else None
    if turn is not None and not turn.finished:
        return turn
    for finder in _finders:
        with guard("finding the current turn"):
            found = finder()
            if found is not None and not found.finished:
                return found
    return None


def is_switched_off() -> bool:
    """Whether ``REFLEXIO_CAPTURE=off`` is set: what begins now is not captured."""
    return os.environ.get("REFLEXIO_CAPTURE") == "off"


def activate(turn: Turn) -> Token[weakref.ref[Turn] | None]:
    """Make ``turn`` the current one of this context; give the token to :func:`deactivate`."""
    return _current.set(turn.reference)


def deactivate(token: Token[weakref.ref[Turn] | None]) -> None:
    """Undo :func:`activate`; in another context than that one's, nothing needs undoing."""
    try:
        _current.reset(token)
    except ValueError:
        return


class Turn:
    """One turn of an agent, being built. All methods are safe to call at any time and never raise.

    Attributes:
        request_id: The id under which the turn will be stored (UUIDv7, made when the turn begins).
        scope: Whom and what it belongs to, fixed when the turn began.
        begun_for: The user who was known when it began; ``""`` for none. Another may be named under way.
        status: How it stands; ``"completed"`` unless something else was said.
    """

    __slots__ = (
        "__weakref__", "_answer", "_calls", "_experiment", "_interactions", "_question", "_retrieved", "_sink",
        "_started_ns", "_tools", "begun_for", "error", "finished", "options", "reference", "request_id", "scope",
        "status",
    )  # fmt: skip

    def __init__(self, scope: Scope | None = None, sink: Sink | None = None) -> None:
        self.request_id = uuid7()
        self.scope = scope or _scope.current_session() or _scope.derive(None)
        self.begun_for = self.scope.user_id
        self.status: TurnStatus = "completed"
        self.error = ""
        self.finished = False
        self.options: dict[str, Any] = {}
        self.reference = weakref.ref(self)
        self._sink = sink
        self._started_ns = time.time_ns()
        self._question: Sequence[Message] = ()
        self._answer = ""
        self._calls = CallLog()
        self._interactions: list[InteractionRecord] = []
        self._tools: list[dict[str, Any]] = []
        self._retrieved: list[dict[str, Any]] = []
        self._experiment: tuple[str, str] | tuple[None, None] = (None, None)

    def user(self, content: Any) -> None:
        """Add what the user said: text, or anything (kept as JSON)."""
        self.add("user", content)

    def assistant(self, content: Any) -> None:
        """Add what the agent answered. Tool calls noted since the last answer stand on it."""
        self.add("assistant", content)

    def add(self, role: str, content: Any = "", *, tools_used: Sequence[Mapping[str, Any]] = ()) -> None:
        """Add one message. ``tools_used`` are ``{"tool_name", "tool_data", "status"}`` dictionaries."""
        with guard("adding to a turn"):
            tools = [snapshot(tool) for tool in tools_used]
            if role.lower() in ("assistant", "agent", "ai"):
                tools, self._tools = [*self._tools, *tools], []
            text = "" if content is None else strip_injected(as_text(content))
            self._append(InteractionRecord(role, text, _now(), tools))

    def tool(self, name: str, input: Any = None, output: Any = None, *, status: str = "success") -> None:  # noqa: A002
        """Add a tool call. It stands on the assistant message that comes next (or on an empty one, at the end).

        ``status`` is ``"success"`` or ``"error"``; then ``output`` is what went wrong.
        """
        with guard("adding to a turn"):
            if len(self._tools) >= MAX_TOOLS:
                count("tools_over_limit")
                return
            self._tools.append(tool_record(str(name), arguments_of(input), snapshot(output), status))

    def add_messages(self, messages: Sequence[Any]) -> None:
        """Add chat messages of any form (see ``reflexio_middleware.capture.messages``), results joined to calls.

        A tool call that is on the turn already (same id, name and input), and a result that was told, are not
        repeated: several may tell of the same run.
        """
        with guard("adding to a turn"):
            self.add_read([read_message(message) for message in messages])

    def add_read(self, messages: Sequence[Message]) -> None:
        """:meth:`add_messages` for messages that were read already."""
        with guard("adding to a turn"):
            for record in self._calls.interactions(messages, created_at=_now()):
                if record.role == "assistant" and self._tools:
                    record.tools_used, self._tools = [*self._tools, *record.tools_used], []
                self._append(record)

    def answer_calls(self, messages: Sequence[Message]) -> list[Message]:
        """Join tool results to the calls on this turn that they answer; what answers none of them is returned."""
        with guard("adding to a turn"):
            return [message for message in messages if not self._calls.answer(message)]
        return []

    def suggest(self, *, question: Sequence[Message] = (), answer: str = "") -> None:
        """What was asked and answered as far as a model's client sees it: kept if nobody tells it until the turn ends.

        The first question and the last answer that were suggested count.
        """
        self._question = self._question or question
        self._answer = answer or self._answer

    def name_user(self, user_id: str) -> None:
        """Tell the turn whose it is, if it does not know: some ways of naming the user are seen only under way."""
        if user_id and not self.scope.user_id:
            self.scope = replace(self.scope, user_id=user_id)

    def goes_to(self, sink: Sink) -> bool:
        """Whether this is where the turn will be put."""
        return (self._sink or _sink_of(self.scope)) is sink

    def retrieved(self, learnings: Sequence[Mapping[str, Any]], *, experiment: tuple[str, str] | None = None) -> None:
        """Note which learnings recall put into this turn's prompt: ``{"kind", "learning_id"}`` dictionaries, with the
        ``tag`` they had there and why they were chosen (``score``, ``coverage``, ``similarity``, ``reason``).

        ``experiment`` is the experiment with recall that the turn is part of, and its arm.
        """
        with guard("noting what was recalled"):
            if experiment is not None:
                self._experiment = experiment
            known = {(item["kind"], item["learning_id"]) for item in self._retrieved}
            for item in learnings:
                kind, learning_id = str(item["kind"]), str(item["learning_id"])
                if kind in _KINDS and 0 < len(learning_id) <= 1000 and (kind, learning_id) not in known:
                    known.add((kind, learning_id))
                    why = {name: item[name] for name in _WHY if item.get(name) is not None}
                    self._retrieved.append({"kind": kind, "learning_id": learning_id, **why})

    def fail(self, error: BaseException) -> None:
        """Note the exception that ended the turn; the status follows from its type."""
        with guard("noting an error"):
            self.status = status_of(error)
            if self.status == "error":
                self.error = cut(f"{type(error).__name__}: {error}", 10_000)

    def finish(self, status: TurnStatus | None = None) -> None:
        """Hand the turn to its sink. Later calls, and later additions, change nothing."""
        if self.finished:
            return
        self.finished = True
        with guard("finishing a turn"):
            if status:
                self.status = status
            record = self._record()
            if not record.interactions:
                count("turns_empty")
                return
            sink = self._sink or _sink_of(self.scope)
            if sink is None:
                count("turns_without_sink")
            elif sink.put(record):
                count("turns_captured")

    def _append(self, record: InteractionRecord) -> None:
        if self.finished:
            count("late_additions")
        elif len(self._interactions) >= MAX_INTERACTIONS - 1:
            count("interactions_over_limit")
        elif record.content or record.tools_used:
            self._interactions.append(record)

    def _complete(self) -> None:
        """Take what was suggested where nobody has told it."""
        told = self._interactions
        if self._question and not any(item.role.lower() == "user" for item in told):
            told[:0] = CallLog().interactions(self._question, created_at=_now())
        if self._answer and (not told or told[-1].role.lower() == "user" or told[-1].tools_used):
            tools, self._tools = self._tools, []
            told.append(InteractionRecord("assistant", strip_injected(cut(self._answer)), _now(), tools))

    def _record(self) -> TurnRecord:
        self._complete()
        made = self._interactions
        if self._tools:
            made.append(InteractionRecord("assistant", "", _now(), self._tools))
        if self._retrieved and made:
            holder = next((item for item in made if item.role.lower() == "assistant"), made[-1])
            holder.retrieved_learnings = self._retrieved
            note_citations(made, self._retrieved)
        where = self.scope
        if not where.user_id:
            count("turns_without_user")
            warn("no-user", "reflexio: a turn without user_id was kept; nothing personal is learned from it. Name the "
                 "user: `with session(..., user_id=...)`")  # fmt: skip
        return TurnRecord(
            request_id=self.request_id,
            user_id=where.user_id,
            session_id=where.session_id,
            agent_version=where.agent_version,
            source=where.source,
            created_at_us=self._started_ns // 1000,
            interactions=made,
            status=self.status,
            error=self.error,
            metadata=snapshot(dict(where.metadata)) if where.metadata else {},
            options=self.options,
            retrieval_experiment_id=self._experiment[0],
            retrieval_experiment_arm=self._experiment[1],
        )


class _Nowhere:
    """The sink of turns that are built while capture is switched off."""

    def put(self, turn: TurnRecord) -> bool:  # noqa: ARG002
        """Keep nothing."""
        return False


def _now() -> int:
    return int(time.time())


def _sink_of(scope: Scope) -> Sink | None:
    if scope.client is not None:
        sink: Sink = scope.client.sink
        return sink
    return _default_sink() if _default_sink else None


def status_of(error: BaseException) -> TurnStatus:
    """How a turn ended that this exception ended."""
    if isinstance(error, GeneratorExit):
        return "partial"
    asyncio = sys.modules.get("asyncio")  # not imported for this: no task is cancelled before it is
    if isinstance(error, KeyboardInterrupt) or (asyncio and isinstance(error, asyncio.CancelledError)):
        return "cancelled"
    return "interrupted" if getattr(type(error), "is_bubble_up", False) else "error"


class turn:  # noqa: N801 - reads as a statement: `with turn(user_id="ann") as t:`
    """One turn, built by hand: for agents that fit neither ``@capture`` nor an integration.

    Use it as ``with`` or ``async with``; add to the :class:`Turn` that it gives. Inside of another turn it gives that
    one: the outermost run is the turn. The arguments are those of :class:`~reflexio_middleware.session`.
    """

    def __init__(
        self,
        session_id: str | None = None,
        *,
        user_id: str | None = None,
        agent_version: str | None = None,
        source: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        client: Any = None,
    ) -> None:
        self._named = (session_id, user_id, agent_version, source, metadata, client)
        self._entered: list[tuple[Turn, Token[weakref.ref[Turn] | None] | None]] = []

    def __enter__(self) -> Turn:
        made, token = current_turn(), None
        if made is None:
            scope = _scope.derive(_scope.current_session(), *self._named)
            made = Turn(scope, _Nowhere() if is_switched_off() else None)
            token = activate(made)
        self._entered.append((made, token))
        return made

    def __exit__(self, _: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        held = _current.get()
        here = held() if held else current_turn()
        try:
            mine = next((one for one in reversed(self._entered.copy()) if one[0] is here), None) or self._entered[-1]
            self._entered.remove(mine)
        except (IndexError, ValueError):  # it was left already
            return
        made, token = mine
        if token is None:  # of an outer block, which ends it
            return
        deactivate(token)
        if error is not None:
            made.fail(error)
        made.finish()

    async def __aenter__(self) -> Turn:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, trace)
