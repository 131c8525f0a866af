"""Turns of which only the model calls are reported: a handler that stands in a model's constructor sees no more.

An agent calls its model, runs the tools, and calls it again with their results. Such a handler is told of two runs
without anything around them. The turn of the first is kept here, until a call comes that hands over the same messages,
its answer, and the results it asked for: that call goes on with the turn.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Any, Final

from reflexio_middleware.capture.turn import Sink

from .observed import Observed
from .reading import results_at_end

MAX_PARKED: Final = 256
"""Most turns kept; the oldest is given up for a new one."""
MAX_PARKED_AGE: Final = 300.0
"""Seconds after which a turn is given up, at the next run that begins: its tools failed, or wait for a human."""


class Parked:
    """The turns that wait for the results of their tools. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: list[Observed] = []

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, seen: Observed) -> None:
        """Keep a turn whose last answer calls tools."""
        seen.began = time.monotonic()
        with self._lock:
            self._waiting.append(seen)

    def take(self, messages: Sequence[Any]) -> Observed | None:
        """The turn that a model call with ``messages`` goes on with, told of the results in them; None if none does."""
        if not self._waiting:
            return None
        results = results_at_end(messages)
        told = {result.call_id for result in results}
        with self._lock:
            for seen in reversed(self._waiting):
                if told and told <= _calls_of(seen) and _begins_with(messages, seen.given):
                    self._waiting.remove(seen)
                    for result in results:
                        seen.returned(result)
                    seen.given = list(messages)
                    return seen
        return None

    def given_up(self) -> list[Observed]:
        """Take out those that waited too long, or are too many."""
        if not self._waiting:
            return []
        oldest = time.monotonic() - MAX_PARKED_AGE
        with self._lock:
            kept = [seen for seen in self._waiting if seen.began >= oldest][-MAX_PARKED:]
            gone = [seen for seen in self._waiting if seen not in kept]
            self._waiting = kept
        return gone

    def of_sink(self, sink: Sink) -> list[Observed]:
        """Take out those whose turn goes to ``sink``."""
        with self._lock:
            found = [seen for seen in self._waiting if seen.turn.goes_to(sink)]
            self._waiting = [seen for seen in self._waiting if seen not in found]
        return found


PARKED: Final = Parked()
"""Those of this process."""


def _calls_of(seen: Observed) -> set[str]:
    return {call["id"] for message in seen.said for call in message.tools}


def _begins_with(messages: Sequence[Any], given: Sequence[Any]) -> bool:
    """Whether it is the same conversation: call ids alone may be alike in two."""
    return len(messages) > len(given) and all(
        one is other or one == other for one, other in zip(messages, given, strict=False)
    )
