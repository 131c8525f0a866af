"""The seam between a session and what is learned from it.

An extractor reads; it never writes. It is given one session of one user and the learnings already known of that user,
and answers with itemised changes, each naming the messages it rests on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from reflexio_store.contract import Change
from reflexio_store.models import RequestData, UserPlaybook, UserProfile


@dataclass(frozen=True, slots=True)
class SessionView:
    """One session, read as one conversation: its requests, oldest first, and what is known of its user."""

    user_id: str
    session_id: str
    agent_version: str
    requests: Sequence[RequestData]
    known_profiles: Sequence[UserProfile] = field(default=())
    known_playbooks: Sequence[UserPlaybook] = field(default=())


class Extractor(Protocol):
    """Turns a session into changes. If it has a ``close()``, that is called when its client is closed.

    Raises:
        ExtractionError: The step failed; with ``permanent=True`` it is not tried again.
    """

    @property
    def name(self) -> str:
        """What is written into ``extractor_names`` of a learned profile."""
        ...

    def extract(self, session: SessionView) -> list[Change]:
        """The changes that this session calls for. The same session twice gives the same changes (or none)."""
        ...
