"""The end of an outermost run: what was observed becomes a turn, or part of the turn around."""

from __future__ import annotations

from typing import Any

from reflexio_middleware.capture.turn import Sink, TurnStatus, settle_turns_with

from .join import join
from .observed import Observed
from .parked import PARKED
from .reading import asked
from .story import after_the_question, from_events, from_outputs, is_waiting


def publish(seen: Observed, outputs: Any, error: BaseException | None = None, status: TurnStatus | None = None) -> None:
    """Tell the turn of an outermost run that has ended, and finish it.

    Args:
        seen: What was observed of the run.
        outputs: What it returned; None if it did not come to its end.
        error: The exception that ended it.
        status: How it ended, if not as ``error`` and what was observed say.
    """
    if seen.kind in ("retriever", "format"):
        return
    users = asked(seen.given, seen.prompt, in_graph=seen.in_graph) if seen.users is None else seen.users
    broken_off = error is not None or status is not None or (outputs is None and seen.kind != "tool")
    new = None if broken_off else after_the_question(outputs, seen.given, users, seen)
    waiting = new is not None and is_waiting(new)
    if new is None:
        new = from_events(seen) if broken_off or seen.kind == "tool" else from_outputs(outputs, seen)
    if seen.joined:
        join(seen, new)
        return
    if seen.model_only and not broken_off and is_waiting(new):
        seen.users = users
        PARKED.put(seen)
        return
    seen.turn.add_read([*users, *new])
    if error is not None:
        seen.turn.fail(error)
    elif status is None and broken_off and _is_streaming(seen):
        status = "partial"
    if waiting or (seen.interrupted and seen.turn.status in ("completed", "partial")):
        status = "interrupted"
    seen.turn.finish(status)


def _settle(sink: Sink) -> None:
    for seen in PARKED.of_sink(sink):
        publish(seen, None, status="interrupted")


settle_turns_with(_settle)


def _is_streaming(seen: Observed) -> bool:
    """Whether something is still open: a stream that is closed early reports the end of the chain before its parts'."""
    return bool(seen.open)
