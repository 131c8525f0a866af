"""Moving house: all that a home keeps, as plain records that another home (or a file) can take in.

Records go by kind, in the order of ``RECORD_KINDS``: what rests on something comes after it. Storing one twice changes
nothing, so a move that was interrupted is simply made again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Protocol

from .models import AgentPlaybook, SessionOutcome, UserPlaybook, UserProfile
from .records import TurnRecord
from .terms import Counts, Supporter, Usage

RecordKind = Literal[
    "erasure",
    "request",
    "profile",
    "user_playbook",
    "agent_playbook",
    "support",
    "event",
    "dismissal",
    "opt_out",
    "outcome",
    "usage",
    "job",
]


@dataclass(frozen=True, slots=True)
class Erasure:
    """Something that was deleted (a user, a session or a request), as a digest of its name: a turn of it that was said
    before ``at_us`` (epoch microseconds) and still waits somewhere is not stored."""

    digest: str
    at_us: int


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened to a learning: an entry of its history, with its name. ``at_us`` is in epoch
    microseconds."""

    user_id: str
    entry_id: str
    at_us: int
    kind: str
    learning_id: str
    action: str
    content: str = ""
    other_id: str = ""
    request_id: str = ""


@dataclass(frozen=True, slots=True)
class Dismissal:
    """One message that is not to teach again what was deleted or reworded by hand. ``sameness`` is a digest of the
    words that were (see the tables)."""

    user_id: str
    kind: str
    sameness: str
    request_id: str
    interaction_index: int


@dataclass(frozen=True, slots=True)
class Support:
    """What an agent playbook that was made of user playbooks rests on: how many users it ``needs`` to stay, the digest
    of the ``wording`` that was made for it, and its supporters in the order of their names."""

    agent_version: str
    agent_playbook_id: int
    needs: int
    wording: str
    supporters: tuple[Supporter, ...] = ()


@dataclass(frozen=True, slots=True)
class OptOut:
    """A user of whom nothing is to be learned or recalled, since ``at_us`` (epoch microseconds)."""

    user_id: str
    at_us: int


@dataclass(frozen=True, slots=True)
class JobRecord:
    """A piece of work as it moves: nobody holds it, so one that runs is ``ready``. ``due_us`` is in epoch
    microseconds.

    ``rereads``: it learns from a session of which it is not known what was read, so all of it is unread.
    """

    user_id: str
    kind: str
    key: str
    state: str = "ready"
    due_us: int = 0
    attempts: int = 0
    last_error: str = ""
    payload: dict[str, Any] = field(default_factory=dict)
    result: dict[str, Any] = field(default_factory=dict)
    rereads: bool = False


Record = (
    Erasure
    | TurnRecord
    | UserProfile
    | UserPlaybook
    | AgentPlaybook
    | Support
    | Event
    | Dismissal
    | OptOut
    | SessionOutcome
    | Usage
    | JobRecord
)


def record_kind(record: Record) -> RecordKind:
    """Which kind a record is of."""
    return _KIND_OF[type(record)]


_KIND_OF: Final[dict[type, RecordKind]] = {
    Erasure: "erasure",
    TurnRecord: "request",
    UserProfile: "profile",
    UserPlaybook: "user_playbook",
    AgentPlaybook: "agent_playbook",
    Support: "support",
    Event: "event",
    Dismissal: "dismissal",
    OptOut: "opt_out",
    SessionOutcome: "outcome",
    Usage: "usage",
    JobRecord: "job",
}
RECORD_KINDS: Final = tuple(_KIND_OF.values())
"""All kinds, in the order in which they move."""


@dataclass(frozen=True, slots=True)
class RecordPage:
    """Records of one kind in the order of their keys; ``next_cursor`` is None on the last page."""

    records: list[Record]
    next_cursor: str | None = None


@dataclass(frozen=True, slots=True)
class Stored(Counts):
    """What became of records: ``new`` ones were not there, ``same`` ones were there already, ``replaced`` ones took
    the place of another value, ``differ`` ones were there with other content, which was kept, and ``lost`` ones are of
    a kind that this home does not keep."""

    new: int = 0
    same: int = 0
    replaced: int = 0
    differ: int = 0
    lost: int = 0

    @property
    def total(self) -> int:
        """How many records there were."""
        return self.new + self.same + self.replaced + self.differ + self.lost


class Moving(Protocol):
    """The part of a home that gives all it keeps, and takes in what another one gave."""

    def read_records(
        self, kind: RecordKind, *, user_id: str | None = None, cursor: str | None = None, limit: int = 500
    ) -> RecordPage:
        """Everything of one kind, whatever its status: one page (of ``limit`` records, or of fewer large ones).

        With ``user_id`` only what is held on this user. What is stored or deleted meanwhile may be missed or met; all
        else is met once. A kind that this home does not keep is an empty page.
        """
        ...

    def put_records(self, records: Sequence[Record]) -> Stored:
        """Store records as they are; no work is asked for but that of the jobs among them.

        A request that is there stays as it is; a learning that is there with another value is replaced, and so is what
        it rests on. Of an erasure the later time counts, and of each sum of usage the larger one. All else that is
        there stays; only a job that is done is ready again, where the one that comes is and turns are unread.
        """
        ...

    def losses(self) -> list[str]:
        """What this home cannot give or keep of a record, one sentence each; empty where nothing is lost."""
        ...
