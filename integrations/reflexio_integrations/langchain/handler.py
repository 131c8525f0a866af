"""``ReflexioCallbackHandler``: each outermost LangChain run becomes one turn."""

# ruff: noqa: ARG002 - the signatures are LangChain's: it passes some arguments by name

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any
from uuid import UUID

from langchain_core.documents import Document
from langchain_core.messages import BaseMessage
from langchain_core.outputs import LLMResult

from reflexio_middleware.capture.messages import Message
from reflexio_middleware.capture.turn import Turn
from reflexio_middleware.guard import guard

from .observed import Kind, Run, is_control_flow
from .publish import publish
from .reading import event_text, generated, held, is_aside, read, token_text, tool_output
from .runs import RUNS
from .scoping import configured, scope_for
from .tasks import on_task_end
from .unkept import Unkept

if TYPE_CHECKING:
    from reflexio_middleware import ReflexioClient

_DOING = "capturing a LangChain run"
_FORMATS = ("prompt", "parser")


class ReflexioCallbackHandler(Unkept):
    """Captures LangChain and LangGraph runs: the outermost run is the turn, what runs under it belongs to it.

    Give it where callbacks are given, ``agent.invoke(..., config={"callbacks": [handler]})``; one handler serves any
    number of runs, threads and tasks. Inside ``@capture`` or ``turn()`` it makes no turn of its own: it adds the tool
    calls to that one. It never raises into the agent and never waits: its methods run inline, in microseconds.

    A turn is filed under, in this order: the arguments given here; the run's metadata (``session_id``, else
    ``thread_id``, else ``conversation_id``; ``user_id``; ``agent_version``); the scope around; a session id is made
    where there is none. What recall put into the prompt of a run is noted on its turn by ``ReflexioMiddleware`` and
    ``with_memory``: they find the turn through the id of the run they work in, not through a context variable, since
    callbacks may run in another context than the agent.

    Args:
        client: Where the turns go. None: the scope's client, or the process's default one.
        session_id: The session of all turns that this handler captures.
        user_id: Whose turns these are.
        agent_version: Which version of the agent answers.
        source: Where the turns come from, e.g. ``"web_app"``.
        metadata: Free data kept with each request.
    """

    run_inline = True
    raise_error = False

    def __init__(
        self,
        *,
        client: ReflexioClient | None = None,
        session_id: str | None = None,
        user_id: str | None = None,
        agent_version: str | None = None,
        source: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self._named: dict[str, Any] = {
            "client": client,
            "session_id": session_id,
            "user_id": user_id,
            "agent_version": agent_version,
            "source": source,
            "extra": metadata,
        }

    @property
    def open_runs(self) -> int:
        """How many runs are followed in this process at the moment, by all handlers; 0 when no agent runs."""
        return len(RUNS)

    # --- chains, graphs, agents

    def on_chain_start(
        self,
        serialized: dict[str, Any],
        inputs: Any,
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """A chain, graph or agent begins."""
        with guard(_DOING):
            kind: Kind = "format" if kwargs.get("run_type") in _FORMATS else "chain"
            run = self._begin(run_id, parent_run_id, kind, metadata)
            if run is not None and run.is_root:
                run.observed.given = held(inputs)

    def on_chain_end(self, outputs: Any, *, run_id: UUID, parent_run_id: UUID | None = None, **kwargs: Any) -> None:
        """A chain ends; streamed ones report their real inputs only now."""
        with guard(_DOING):
            run = RUNS.end(run_id)
            if run is not None and run.is_root:
                _take_inputs(run, kwargs)
                publish(run.observed, outputs)

    def on_chain_error(
        self, error: BaseException, *, run_id: UUID, parent_run_id: UUID | None = None, **kwargs: Any
    ) -> None:
        """A chain fails, is cancelled, interrupted, or closed by who reads its stream."""
        with guard(_DOING):
            run = RUNS.end(run_id)
            if run is not None:
                run.observed.broke(run, error)
                if run.is_root:
                    _take_inputs(run, kwargs)
                    publish(run.observed, None, error)

    # --- models

    def on_chat_model_start(
        self,
        serialized: dict[str, Any],
        messages: list[list[BaseMessage]],
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """A chat model is called."""
        with guard(_DOING):
            self._model_begins(messages[0] if messages else [], run_id, parent_run_id, metadata)

    def on_llm_start(
        self,
        serialized: dict[str, Any],
        prompts: list[str],
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """A completion model is called."""
        with guard(_DOING):
            self._model_begins(prompts[:1], run_id, parent_run_id, metadata)

    def on_llm_new_token(
        self,
        token: Any,
        *,
        chunk: Any = None,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        tags: list[str] | None = None,
        **kwargs: Any,
    ) -> None:
        """A model streams a piece: kept until its answer is whole, for the case that it never is."""
        with guard(_DOING):
            run = RUNS.get(run_id)
            if run is not None:
                run.heard(token_text(token))

    def on_stream_event(self, event: Any, *, run_id: UUID, parent_run_id: UUID | None = None, **kwargs: Any) -> None:
        """A model streams a protocol event (``stream_events`` version 3)."""
        with guard(_DOING):
            run = RUNS.get(run_id)
            if run is not None:
                run.heard(event_text(event))

    def on_llm_end(
        self, response: LLMResult, *, run_id: UUID, parent_run_id: UUID | None = None, **kwargs: Any
    ) -> None:
        """A model answers."""
        with guard(_DOING):
            run = RUNS.end(run_id)
            if run is None:
                return
            answer = generated(response)
            if answer is not None and not run.aside:
                message = Message("assistant", answer, []) if isinstance(answer, str) else read(answer)
                run.observed.answered(message, str(getattr(answer, "id", None) or ""))
            if run.is_root:
                publish(run.observed, answer)

    def on_llm_error(
        self, error: BaseException, *, run_id: UUID, parent_run_id: UUID | None = None, **kwargs: Any
    ) -> None:
        """A model fails; ``response`` holds what it had said."""
        with guard(_DOING):
            run = RUNS.end(run_id)
            if run is None:
                return
            partial = generated(kwargs.get("response"))
            text = partial if isinstance(partial, str) else read(partial).text if partial is not None else ""
            run.observed.broke(run, error, text)
            if run.is_root:
                publish(run.observed, None, error)

    # --- tools

    def on_tool_start(
        self,
        serialized: dict[str, Any],
        input_str: str,
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        inputs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """A tool is called."""
        with guard(_DOING):
            name = kwargs.get("name") or (serialized or {}).get("name") or "tool"
            run = self._begin(run_id, parent_run_id, "tool", metadata)
            if run is not None:
                run.name, run.given = str(name), inputs if inputs is not None else input_str
                run.call_id = str(kwargs.get("tool_call_id") or "")

    def on_tool_end(self, output: Any, *, run_id: UUID, parent_run_id: UUID | None = None, **kwargs: Any) -> None:
        """A tool returns."""
        with guard(_DOING):
            run = RUNS.end(run_id)
            if run is not None:
                _tool_ended(run, *tool_output(output, run.call_id))

    def on_tool_error(
        self, error: BaseException, *, run_id: UUID, parent_run_id: UUID | None = None, **kwargs: Any
    ) -> None:
        """A tool fails, or asks for a human."""
        with guard(_DOING):
            run = RUNS.end(run_id)
            if run is None:
                return
            run.observed.broke(run, error)
            if is_control_flow(error):
                return
            _tool_ended(run, f"{type(error).__name__}: {error}", "error", error)

    # --- retrievers: what they run belongs to the turn around; their documents are nobody's words

    def on_retriever_start(
        self,
        serialized: dict[str, Any],
        query: str,
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """A retriever is asked: what it runs belongs to the turn around; alone it is no turn."""
        with guard(_DOING):
            self._begin(run_id, parent_run_id, "retriever", metadata)

    def on_retriever_end(
        self, documents: Sequence[Document], *, run_id: UUID, parent_run_id: UUID | None = None, **kwargs: Any
    ) -> None:
        """A retriever answers: its documents are nobody's words."""
        with guard(_DOING):
            RUNS.end(run_id)

    def on_retriever_error(
        self, error: BaseException, *, run_id: UUID, parent_run_id: UUID | None = None, **kwargs: Any
    ) -> None:
        """A retriever fails."""
        with guard(_DOING):
            RUNS.end(run_id)

    # --- common

    def _begin(
        self,
        run_id: UUID,
        parent_id: UUID | None,
        kind: Kind,
        metadata: Mapping[str, Any] | None,
        messages: Sequence[Any] | None = None,
    ) -> Run | None:
        run, given_up = RUNS.begin(
            run_id,
            parent_id,
            kind,
            lambda: Turn(scope_for(metadata, **self._named)),
            aside=is_aside(metadata),
            messages=messages,
        )
        for observed in given_up:
            publish(observed, None, status="abandoned")
        return run

    def _model_begins(
        self, messages: list[Any], run_id: UUID, parent_id: UUID | None, metadata: Mapping[str, Any] | None
    ) -> None:
        in_graph = "langgraph_node" in (metadata or ())
        run = self._begin(run_id, parent_id, "model", metadata, messages if in_graph else None)
        if run is None:
            return
        observed = run.observed
        if run.is_root:
            observed.given = list(messages)
        elif not run.aside:
            observed.asked(messages, in_graph=in_graph)
        observed.turn.name_user(configured("user_id") or "")
        if run.is_root:
            observed.task_end = on_task_end(run_id, _task_ended)


def _task_ended(run_id: UUID) -> None:
    """The task has ended that awaited a bare model, but the model has not: it was cancelled."""
    with guard(_DOING):
        run = RUNS.end(run_id)
        if run is not None:
            publish(run.observed, None, status="cancelled")


def _take_inputs(run: Run, reported: Mapping[str, Any]) -> None:
    if reported.get("inputs") is not None:
        run.observed.given = reported["inputs"]


def _tool_ended(run: Run, text: str, status: str, error: BaseException | None = None) -> None:
    if not run.aside:
        run.observed.used(run, text, status)
    if run.is_root:
        publish(run.observed, None, error)
