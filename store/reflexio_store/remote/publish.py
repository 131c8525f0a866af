"""Publishing turns: each acknowledged turn arrives exactly once, whatever becomes of single calls.

A turn is published under its own ``request_id``, and the server stores an id once, also when calls race (wire fact).
So a turn may be sent again at any time. What the server's answers mean:

- stored: delivered.
- a refusal of the id as known: delivered, if the server has it under this user.
- no answer (time out, broken connection, 5xx), or one that does not say that it is stored: it may be; the server is
  asked for the id before it is sent again.
- 401, 403, 404: nobody's turn is at fault; all wait.
- other 4xx: this turn can never be stored. Its neighbours are stored first, then the error is raised.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeVar

from reflexio_store.errors import InvalidInputError, ReflexioError, StoreUnavailableError
from reflexio_store.records import TurnRecord

from .circuit import Circuit
from .http import Http, RefusedError
from .wire import publish_body, rows, wire_user

T = TypeVar("T")
R = TypeVar("R")
EachOf = Callable[[Callable[[T], R], Iterable[T]], list[R]]
_ATTEMPTS: Final = 3
_UNSAID: Final = "does not say that it stored the turn. Is this the address of a Reflexio server?"
_REFUSALS: Final = 5
"""So often a turn is refused, while the server stores others, before it counts as one that can never be stored."""


@dataclass(slots=True)
class _Batch:
    """What has become of one batch so far: ids of turns that it made new, and errors."""

    learn: bool
    wanted: Callable[[TurnRecord], bool]
    new: list[tuple[str, str]] = field(default_factory=list)
    away: list[StoreUnavailableError] = field(default_factory=list)
    refused: list[ReflexioError] = field(default_factory=list)


class Publisher:
    """Publishes turns: sessions over several connections at once, the turns of one session in order.

    Args:
        http: The server.
        circuit: Guards the calls.
        each: Runs a function for each of some things, several at once.
        lanes: How many sessions are published at once.
    """

    def __init__(self, http: Http, circuit: Circuit, each: EachOf[list[TurnRecord], None], lanes: int) -> None:
        self._http = http
        self._circuit = circuit
        self._each = each
        self._lanes = lanes
        self._lock = threading.Lock()
        self._unreported: set[tuple[str, str]] = set()  # made new by a batch that then failed; its retry counts them
        self._in_doubt: set[str] = set()
        self._stored = 0
        self._refusals: dict[str, tuple[int, int]] = {}

    def publish(
        self, turns: Sequence[TurnRecord], *, learn: bool, wanted: Callable[[TurnRecord], bool] = lambda _: True
    ) -> int:
        """Publish turns, older ones first, and return how many were new.

        Args:
            turns: What is sent; a batch may take long.
            learn: Whether the server may learn from them.
            wanted: Asked of each turn just before it is sent, and just after: it may have been deleted meanwhile, by
                somebody who did not see it yet.

        Raises:
            StoreUnavailableError: Not all could be delivered now. Give all of them again: none is stored twice.
            InvalidInputError: One was refused for good; all others were delivered.
        """
        batch = _Batch(learn, wanted)
        self._each(lambda lane: self._deliver(lane, batch), self._in_lanes(turns))
        if batch.away or batch.refused:
            with self._lock:
                self._unreported.update(batch.new)
        for error in (*batch.away, *batch.refused):
            raise error
        return len(batch.new)

    def _in_lanes(self, turns: Sequence[TurnRecord]) -> list[list[TurnRecord]]:
        """The turns, each once, spread so that those of a session stand in one lane, in the order they were made."""
        first: dict[tuple[str, str], TurnRecord] = {}
        for turn in turns:
            first.setdefault((turn.user_id, turn.request_id), turn)
        places: dict[tuple[str, str], int] = {}
        lanes: dict[int, list[TurnRecord]] = defaultdict(list)
        for turn in sorted(first.values(), key=lambda turn: turn.created_at_us):
            place = places.setdefault((turn.user_id, turn.session_id), len(places))
            lanes[place % self._lanes].append(turn)
        return list(lanes.values())

    def forget(self, request_ids: Iterable[str]) -> None:
        """These were deleted: published anew, they are new."""
        gone = set(request_ids)
        with self._lock:
            self._unreported = {known for known in self._unreported if known[1] not in gone}
            self._in_doubt -= gone

    def _deliver(self, turns: Sequence[TurnRecord], batch: _Batch) -> None:
        """Publish the turns of one lane, in order, until the server is away."""
        for turn in turns:
            if batch.away:
                return
            try:
                if self._new(turn, batch):
                    batch.new.append((turn.user_id, turn.request_id))
            except StoreUnavailableError as error:
                batch.away.append(error)
            except ReflexioError as error:
                batch.refused.append(error)

    def _new(self, turn: TurnRecord, batch: _Batch) -> bool:
        """Deliver one turn, unless it was deleted; whether it is new."""
        if batch.wanted(turn):
            new = self._once(turn, batch.learn)
            if not batch.wanted(turn):
                self._take_back(turn)
            return new
        if turn.request_id in self._in_doubt:
            self._take_back(turn)
        return False

    def _take_back(self, turn: TurnRecord) -> None:
        """Delete what arrived while it was being deleted; tried again with its batch where that fails."""
        with self._lock:
            self._in_doubt.add(turn.request_id)
        if self._has(turn):
            self._http.call("DELETE", "/api/delete_requests_by_ids", {"request_ids": [turn.request_id]})
        self.forget([turn.request_id])

    def _once(self, turn: TurnRecord, learn: bool) -> bool:
        """Deliver one turn; whether it is new."""
        known = (turn.user_id, turn.request_id)
        if known in self._unreported:
            with self._lock:
                self._unreported.discard(known)
            return True
        new = self._resolved(turn) or self._sent(turn, learn)
        with self._lock:
            self._stored += 1
            self._in_doubt.discard(turn.request_id)
            self._refusals.pop(turn.request_id, None)
        return new

    def _resolved(self, turn: TurnRecord) -> bool:
        """Whether an earlier call of ours, whose answer was lost, has stored the turn."""
        return turn.request_id in self._in_doubt and self._has(turn)

    def _sent(self, turn: TurnRecord, learn: bool) -> bool:
        """Send a turn until it is stored; whether it was us who stored it."""
        body = publish_body(turn, learn=learn)
        for attempt in range(_ATTEMPTS):
            try:
                with self._circuit.call():
                    answer = self._http.call("POST", "/api/publish_interaction", body, attempts=1)
                    if answer.get("success") is not True:
                        raise StoreUnavailableError(f"{self._http.url} {_UNSAID}", in_doubt=True)
                return True
            except RefusedError as error:
                if self._has(turn):
                    return turn.request_id in self._in_doubt
                raise self._unstored(turn, error) from error
            except StoreUnavailableError as error:
                if not error.in_doubt:
                    raise
                with self._lock:
                    self._in_doubt.add(turn.request_id)
                if self._has(turn):
                    return True
                if attempt + 1 == _ATTEMPTS:
                    raise
        raise AssertionError("no attempt was made")

    def _has(self, turn: TurnRecord) -> bool:
        """Ask the server for the request."""
        with self._circuit.call():
            answer = self._http.call("POST", "/api/get_requests", {"request_id": turn.request_id, "top_k": 1})
        found = [item["request"] for session in rows(answer, "sessions") for item in rows(session, "requests")]
        users = {request["user_id"] for request in found if request["request_id"] == turn.request_id}
        if users and wire_user(turn.user_id) not in users:
            problem = ("request_id", f"{turn.request_id!r} is that of another user's request: on a server it is global")
            raise InvalidInputError("The turn was refused", [problem])
        return bool(users)

    def _unstored(self, turn: TurnRecord, error: RefusedError) -> ReflexioError:
        """What a refusal without a reason in the turn means: the server cannot store now, or it never will."""
        with self._lock:
            times, stored = self._refusals.get(turn.request_id, (0, self._stored))
            self._refusals[turn.request_id] = (times + 1, stored)
            if times + 1 >= _REFUSALS and self._stored > stored:
                del self._refusals[turn.request_id]
                return InvalidInputError("The turn was refused", [("body", f"{error} ({times + 1} times)")])
        return StoreUnavailableError(f"{error}. The turn is sent again later.")
