"""Calls outside of any other turn: each is a turn of its own, or goes on with that of the call before it."""

from __future__ import annotations

from dataclasses import replace

from reflexio_middleware.capture.messages import Message
from reflexio_middleware.capture.turn import Turn, TurnStatus
from reflexio_middleware.scope import Scope

from .asked import Asked
from .place import Place
from .said import Said
from .turns import TURNS


class Own:
    """A turn that calls to a model make. What was said is kept here and told to the turn when it ends."""

    __slots__ = ("_open", "_said", "place", "turn")

    def __init__(self, turn: Turn, place: Place) -> None:
        self.turn = turn
        self.place = place
        self._said: list[Message] = []
        self._open: set[str] = set()  # calls without a result

    def asked(self, new: Asked) -> None:
        """A call brings results, and what the user said. Calls that nobody told come with their results."""
        known = {call["id"] for message in self._said for call in message.tools}
        self._said += [call for call in new.calls if not known.issuperset(each["id"] for each in call.tools)]
        self._said += [result for result in new.results if result.call_id in self._open or result.call_id not in known]
        self._said += new.users
        self._open.difference_update(result.call_id for result in new.results)

    def answered(self, said: Said) -> None:
        """It was answered. Where tools are asked for, the turn waits for their results."""
        self._said += said.messages
        self._open |= said.waiting
        if said.response_id:
            TURNS.chain(said.response_id, self.turn.scope.session_id)
        if said.waiting and said.status == "completed":
            TURNS.hold(self, said.waiting, self.place.onward(said.response_id))
            return
        self.turn.error = said.error or self.turn.error
        self.finish(said.status)

    def failed(self, error: BaseException, said: Said) -> None:
        """It failed."""
        self._said += said.messages
        self.turn.fail(error)
        self.finish()

    def finish(self, status: TurnStatus | None = None) -> None:
        """Tell the turn, and finish it."""
        told, self._said = self._said, []
        self.turn.add_read(told)
        self.turn.finish(status)


def own_turn(place: Place, scope: Scope) -> Own:
    """The turn that a call at ``place`` goes on with, or a new one."""
    found: Own | None = TURNS.take(place)
    if found is None:
        return Own(Turn(scope), place)
    found.place = replace(place, words=place.words or found.place.words)
    return found
