"""Runs inside a turn that somebody else makes (``@capture``, ``turn()``): only their tool calls are added to it."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from reflexio_middleware.capture.messages import Message

from .observed import Observed
from .reading import conversation_of, results_at_end

_lock = threading.Lock()


def join(seen: Observed, new: Sequence[Message]) -> None:
    """Add to a turn that is another's the tools and the answers that call them, each once.

    Its question and its final answer are told by who made the turn. In a loop written by hand every model call and
    every tool is a run of its own: a result finds the call that an earlier run stored, whether the tool's own run
    tells it or the messages of the next model call do.
    """
    with _lock:
        seen.turn.answer_calls(results_at_end(conversation_of(seen.given) or []))
        seen.turn.add_read([message for message in new if message.role == "tool" or message.tools])
