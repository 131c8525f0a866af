"""The turns that calls outside of any other turn make, and which of them wait for the results of their tools.

A call is a turn of its own, unless it brings results that an earlier one asked for: then it goes on with that turn. A
turn that waits is kept here, in memory, and is finished (as ``interrupted``) when its conversation goes on with
something else, when it is too old, or when the process ends.
"""

from __future__ import annotations

import atexit
import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Generic, Protocol, TypeVar

from reflexio_middleware.capture.turn import Sink, Turn, TurnStatus, settle_turns_with
from reflexio_middleware.guard import guard
from reflexio_store.forking import protect

from .place import Place

MAX_WAITING: Final = 256
"""Most turns kept; the oldest is finished for a new one."""
MAX_AGE: Final = 300.0
"""Seconds after which a waiting turn is finished, at the next call of any wrapped client."""
_MAX_CHAINS: Final = 4_096


class Waits(Protocol):
    """A turn that is not finished yet."""

    place: Place
    """Where its latest call stands."""
    turn: Turn
    """What is stored in the end."""

    def finish(self, status: TurnStatus | None = None) -> None:
        """Finish it."""
        ...


W = TypeVar("W", bound=Waits)


@dataclass(slots=True, eq=False)
class _Waiting(Generic[W]):
    turn: W
    calls: frozenset[str]
    onward: frozenset[str]
    since: float = field(default_factory=time.monotonic)

    def goes_on_with(self, place: Place) -> bool:
        """Whether a call at ``place`` brings what this turn waits for."""
        if not self.calls & place.results:
            return False
        mine = self.turn.place
        is_near = mine.is_neighbour_of(place) and (bool(place.session) or mine.words == place.words)
        return is_near or bool(self.onward & place.back)

    def is_left_by(self, place: Place) -> bool:
        """Whether a call at ``place`` goes on with the same conversation, but not with this turn."""
        mine = self.turn.place
        is_near = mine.is_neighbour_of(place) and bool(place.session and mine.words)
        return place.asks and ((is_near and mine.words <= place.earlier) or bool(self.onward & place.back))


class Closable(Protocol):
    """A stream that is being read."""

    def closed(self) -> None:
        """It is read no further."""
        ...


class Turns(Generic[W]):
    """The register of this process. Thread-safe and bounded."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # a stream that the garbage collector ends may come in whatever we are doing
        self._waiting: list[_Waiting[W]] = []
        self._chains: OrderedDict[str, str] = OrderedDict()
        self._streams: weakref.WeakSet[Closable] = weakref.WeakSet()
        self._resting = False
        protect(self)

    def __len__(self) -> int:
        return len(self._waiting)

    def take(self, place: Place) -> W | None:
        """The turn that a call at ``place`` goes on with; turns that it leaves behind, and old ones, are finished."""
        if not self._waiting:
            return None
        with self._lock:
            found = next((item for item in reversed(self._waiting) if item.goes_on_with(place)), None)
            oldest = time.monotonic() - MAX_AGE
            left = [item for item in self._waiting if item is not found]
            left = [item for item in left if item.since < oldest or item.is_left_by(place)]
            self._waiting = [item for item in self._waiting if item is not found and item not in left]
        _interrupt(left)
        return found.turn if found else None

    def hold(self, turn: W, calls: frozenset[str], onward: frozenset[str]) -> None:
        """Keep a turn until the results of ``calls`` come, or a call that goes on from one of ``onward``."""
        with self._lock:
            self._waiting.append(_Waiting(turn, calls, onward))
            left, self._waiting = self._waiting[:-MAX_WAITING], self._waiting[-MAX_WAITING:]
        _interrupt(left)

    def chain(self, response_id: str, session_id: str) -> None:
        """Note the session of a response, so that what goes on from it belongs to the same one."""
        with self._lock:
            self._chains[response_id] = session_id
            while len(self._chains) > _MAX_CHAINS:
                self._chains.popitem(last=False)

    def chained(self, response_id: str) -> str:
        """The session that :meth:`chain` noted; ``""`` for an unknown response."""
        with self._lock:
            return self._chains.get(response_id, "")

    def reading(self, stream: Closable) -> None:
        """Note a stream (weakly), so that it is ended with the process."""
        with self._lock:
            self._streams.add(stream)

    def finish_all(self) -> None:
        """Finish every turn that waits, and every stream that is being read."""
        with self._lock:
            left, self._waiting = self._waiting, []
            streams = list(self._streams)
            self._streams.clear()
        for stream in streams:
            stream.closed()
        with self._lock:
            left, self._waiting = left + self._waiting, []
        _interrupt(left)

    def settle(self, sink: Sink) -> None:
        """Finish the waiting turns that go to ``sink``."""
        with self._lock:
            left = [item for item in self._waiting if item.turn.turn.goes_to(sink)]
            self._waiting = [item for item in self._waiting if item not in left]
        _interrupt(left)

    def before_fork(self) -> None:
        """Hold the lock while the process forks."""
        self._resting = self._lock.acquire(timeout=1.0)

    def after_fork(self, *, child: bool) -> None:
        """In a child: what waits is the parent's."""
        if child:
            self._lock = threading.RLock()
            self._waiting = []
            self._streams = weakref.WeakSet()
        elif self._resting:
            self._lock.release()


def _interrupt(left: Sequence[_Waiting[W]]) -> None:
    for item in left:
        item.turn.finish("interrupted")


TURNS: Final[Turns[Any]] = Turns()
settle_turns_with(TURNS.settle)
_exit_lock = threading.Lock()
_at_exit = False


def finish_open_turns() -> None:
    """Finish the turns that wait for tool results or whose stream is still read, so that they are stored.

    Turns that wait are also finished when the client that they go to is closed, or the process ends.
    """
    with guard("finishing open turns"):
        TURNS.finish_all()


def finish_at_exit() -> None:
    """See to it that open turns are finished before the clients close: what is registered last runs first."""
    global _at_exit
    import reflexio_middleware.client.core  # noqa: F401 - registers the closing of the clients

    with _exit_lock:
        if not _at_exit:
            atexit.register(finish_open_turns)
            _at_exit = True
