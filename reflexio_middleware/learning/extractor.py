"""The seam between a session and what is learned from it.

An extractor reads; it never writes. It is given a piece of one session of one user, and the learnings already known of
that user, and answers with itemised changes, each naming the messages it rests on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from reflexio_store.contract import Change
from reflexio_store.models import RequestData, UserPlaybook, UserProfile


class Meter(Protocol):
    """What an extractor that costs something asks before it spends, and tells what it spent."""

    def check(self) -> None:
        """Whether there is anything left to spend.

        Raises:
            BudgetUsedUpError: There is not.
        """
        ...

    def note(self, model: str, *, prompt_tokens: int, completion_tokens: int) -> None:
        """One call of a model was answered."""
        ...


@dataclass(frozen=True, slots=True)
class SessionView:
    """A piece of one session, read as one conversation: its requests, oldest first, and what is known of its user.

    ``new`` names the requests to learn from; the others were learned from before, and are there to be understood by
    (None: all are new).
    """

    user_id: str
    session_id: str
    agent_version: str
    requests: Sequence[RequestData]
    known_profiles: Sequence[UserProfile] = field(default=())
    known_playbooks: Sequence[UserPlaybook] = field(default=())
    new: frozenset[str] | None = None
    meter: Meter | None = None

    def is_new(self, request_id: str) -> bool:
        """Whether a request is to be learned from."""
        return self.new is None or request_id in self.new


class Extractor(Protocol):
    """Turns a session into changes. Several threads may call it at once.

    Three more things count where it has them: ``close()`` is called when its client is closed; ``waits = True`` lets
    turns gather before it is asked (see the settings ``learn_window`` and ``learn_after``); ``reads_known = False``
    says that it makes no use of what is known already.

    Raises:
        ExtractionError: The step failed; with ``permanent=True`` it is not tried again.
    """

    @property
    def name(self) -> str:
        """What is written into ``extractor_names`` of a learned profile."""
        ...

    def extract(self, session: SessionView) -> list[Change]:
        """The changes that the new requests call for. The same again gives the same changes (or none)."""
        ...
