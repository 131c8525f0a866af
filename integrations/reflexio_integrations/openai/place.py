"""Where a call stands among the others: what tells which turn it may go on with."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Place:
    """Where a call stands.

    Attributes:
        session: The session that is named for it; ``""`` when none is.
        user_id: Whose call it is.
        words: The texts of the user's messages that it is to answer; none when it carries none of them.
        earlier: Those of the user's messages before.
        results: Ids of the tool calls whose results it brings.
        previous: The id of the response that it goes on from; ``""`` for none.
        conversation: The id of the conversation that the server keeps; ``""`` for none.
        asks: Whether it brings a new message of the user.
    """

    session: str = ""
    user_id: str = ""
    words: frozenset[str] = frozenset()
    earlier: frozenset[str] = frozenset()
    results: frozenset[str] = frozenset()
    previous: str = ""
    conversation: str = ""
    asks: bool = True

    def onward(self, response_id: str) -> frozenset[str]:
        """The ids by which a later call goes on from this one, whose answer is ``response_id``."""
        return frozenset((response_id, self.conversation)) - {""}

    @property
    def back(self) -> frozenset[str]:
        """The ids by which it goes on from an earlier call."""
        return frozenset((self.previous, self.conversation)) - {""}

    def is_neighbour_of(self, other: Place) -> bool:
        """Whether both stand in the same session of the same user."""
        return (self.session, self.user_id) == (other.session, other.user_id)
